//! `make bench`: what telemetry costs. The real service against itself with every signal off, in interleaved rounds of
//! one run; figures are printed, only an unexpected answer fails. `plan` has the arguments, `compare` the rounds, `soak`
//! memory and scrapes, `callgrind` instructions, `report` the tables; `process` is the service, `load` and `client` ask
//! it, `sink` is where it exports to.

mod callgrind;
mod client;
mod compare;
mod figures;
mod load;
mod plan;
mod process;
mod report;
mod sink;
mod soak;

use std::process::ExitCode;

use plan::Plan;
use sink::Sink;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), String> {
    // Before any thread: threads inherit it.
    let pinned = process::leave_first_core();
    let plan = Plan::parse(std::env::args().skip(1), pinned)?;
    if !pinned {
        eprintln!("!!! taskset is missing, or there is one core: the service shares its core with the load");
    }
    let sink = Sink::start()?;
    let mut verdicts = Vec::new();
    report::heading(&plan);
    if plan.rounds > 0 {
        let saturated = compare::saturated(&plan, &sink)?;
        verdicts.extend(report::saturated(&plan, &saturated));
        verdicts.extend(report::paced(&plan, &compare::paced(&plan, &sink, &saturated)?));
    }
    if plan.scrape {
        verdicts.push(soak::scrape(&plan, &sink)?);
    }
    if plan.callgrind {
        verdicts.extend(callgrind::callgrind(&plan, &sink)?);
    }
    if let Some(length) = plan.soak {
        verdicts.push(soak::soak(&plan, length)?);
    }
    report::verdicts(&verdicts);
    Ok(())
}
