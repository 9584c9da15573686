//! Faults under load, each with what was expected and what was seen. `make test` runs the quick form of each and
//! asserts what holds on any machine; `make chaos` runs all of it at full length, alone, in a release build, and
//! keeps the table in docs/reliability.md.

pub mod fleet;
mod hangups;
mod instance;
pub mod mix;
mod noisy_tenant;
mod one_connection;
mod overload;
pub mod postgres;
mod redis;
mod restarts;
mod rounds;
mod sigterms;
mod slow_clients;
mod telemetry;
pub mod watch;

use std::io::Write as _;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Sorts the table: `4b`.
    pub number: &'static str,
    pub fault: String,
    pub expected: String,
    pub seen: String,
    /// From the end of the fault to normal; `–` where there is nothing to recover.
    pub recovery: String,
    pub held: bool,
}

impl Row {
    /// Prints it, keeps it for the table, and fails when it did not hold and that is asserted.
    #[track_caller]
    pub fn record(self, asserted: bool) {
        let verdict = if self.held { "held" } else { "**missed**" };
        let line = format!(
            "| {} | {} | {} | {} | {} | {verdict} |\n",
            self.number, self.fault, self.expected, self.seen, self.recovery
        );
        print!("{line}");
        if let Some(directory) = std::env::var_os("KEEL_CHAOS_OUT") {
            let file = std::path::Path::new(&directory).join(format!("{}.md", self.number));
            std::fs::File::create(file).unwrap().write_all(line.as_bytes()).unwrap();
        }
        assert!(self.held || !asserted, "{line}");
    }
}
