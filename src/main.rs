//! The boot story: arguments → configuration → telemetry → application → run → flush. No logic.

use std::process::ExitCode;

fn main() -> ExitCode {
    keel::cli::run()
}
