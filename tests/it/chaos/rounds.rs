//! A p99 with a fault and without it, in rounds that take turns: what the machine does meanwhile, it does to both.

use std::time::Duration;

use super::Row;
use crate::support::harness::Report;

/// How much later an answer may come because of a fault.
const MOST: f64 = 0.1;

/// What the rounds found.
#[derive(Default)]
pub struct Rounds {
    with: Vec<Duration>,
    without: Vec<Duration>,
}

impl Rounds {
    pub fn add(&mut self, without: &Report, with: &Report) {
        for (times, report) in [(&mut self.without, without), (&mut self.with, with)] {
            times.push(report.p(0.99, |_| true).expect("a round has answers"));
        }
    }

    /// The medians, as a line of the table.
    pub fn row(&self, number: &'static str, fault: &str) -> Row {
        let (without, with) = (median(&self.without), median(&self.with));
        let change = with.as_secs_f64() / without.as_secs_f64() - 1.0;
        Row {
            number,
            fault: fault.to_owned(),
            expected: format!("p99 within {:.0} %", MOST * 100.0),
            seen: format!(
                "p99 {with:.1?} instead of {without:.1?} ({:+.0} %, medians of {} rounds)",
                change * 100.0,
                self.with.len()
            ),
            recovery: "–".to_owned(),
            held: change <= MOST,
        }
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
