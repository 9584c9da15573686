//! Structured logs: one JSON object a line (`json`), through a writer that never blocks (`writer`), at a
//! level that can be changed for a while (`level`).

pub mod json;
pub mod level;
pub mod writer;

use tracing_subscriber::EnvFilter;

use crate::{choice, platform::config::Faults, section};

choice! {
    /// How a line looks.
    pub enum Format {
        Json = "json",
        /// For a person at a terminal.
        Pretty = "pretty",
    }
}

section! {
    /// Log lines on standard output.
    pub struct LogConfig in "log" {
        /// `json` for machines, one object a line; `pretty` for a terminal.
        pub format: Format,
        /// Directives of `target=level`, as in `info,sqlx=debug`.
        pub filter: String,
    }
}

impl LogConfig {
    pub fn check(&self, faults: &mut Faults) {
        if let Err(error) = EnvFilter::try_new(&self.filter) {
            faults.add(format!("log.filter: {error}; expected directives such as info,sqlx=debug"));
        }
    }
}
