//! A p99 with a fault and without it, in rounds that take turns: what the machine does meanwhile, it does to both.

use std::time::Duration;

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

    /// The medians, in words.
    pub fn seen(&self) -> String {
        let (without, with) = (median(&self.without), median(&self.with));
        let change = (with.as_secs_f64() / without.as_secs_f64() - 1.0) * 100.0;
        format!("p99 {with:.1?} instead of {without:.1?} ({change:+.0} %, medians of {} rounds)", self.with.len())
    }

    pub fn hold(&self) -> bool {
        median(&self.with).as_secs_f64() <= median(&self.without).as_secs_f64() * (1.0 + MOST)
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
