//! What must hold for any input, a file a target. libFuzzer runs them without end (../fuzz_targets), the test
//! suite for a bounded number of cases (tests/it/fuzz.rs); so they use nothing but the service's public items.

mod api_key;
mod config;
mod cursor;
mod event;
mod exposition;
mod input;
mod log_line;
mod openmetrics;
mod planted;
mod redactor;
mod trace_headers;

pub use api_key::run as api_key;
pub use config::run as config;
pub use cursor::run as cursor;
pub use log_line::run as log_line;
pub use openmetrics::run as openmetrics;
pub use redactor::run as redactor;
pub use trace_headers::run as trace_headers;
