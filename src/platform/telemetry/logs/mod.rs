//! Structured logs: one JSON object a line (`json`, written by `text`) or a format for people (`pretty`),
//! fields redacted by one visitor (`visit`) for lines and OTLP records (`otlp`) alike, callsites held to
//! a limit (`limit`), through a writer that never blocks (`writer`), at a level that can be changed for
//! a while (`level`).

pub mod json;
pub mod level;
pub mod limit;
pub mod otlp;
pub mod pretty;
mod text;
mod visit;
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
        /// Most lines a second from one place in the code; more are counted and said as `log_suppressed`. 0 is no limit.
        pub rate_limit: u32 => 0..=1_000_000,
    }
}

impl LogConfig {
    pub fn check(&self, faults: &mut Faults) {
        if let Err(error) = EnvFilter::try_new(&self.filter) {
            faults.add(format!("log.filter: {error}; expected directives such as info,sqlx=debug"));
        }
    }
}
