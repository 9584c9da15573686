//! Structured logs: one JSON object a line (`json`), through a writer that never blocks (`writer`).

pub mod json;
pub mod writer;

use crate::{choice, section};

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
