//! What became of the requests of a `load`: counts, latencies, and both over time.

use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// The status under which failed requests keep their latencies.
pub const FAILED: u16 = 0;
/// One piece of the timeline.
pub const SLICE: Duration = Duration::from_millis(100);
/// Slices begin at multiples from here, so that those of several reports fit each other.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok(u16),
    Failed(Failure),
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, also not in time: nothing was sent.
    Connect,
    /// Reset before the head of an answer was complete.
    Reset,
    /// Closed before the head of an answer was complete.
    Eof,
    Timeout,
    /// The head came, and then not all of the body.
    CutBody,
    /// Not HTTP/1.
    Malformed,
}

impl Failure {
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Eof => "eof",
            Self::Timeout => "timeout",
            Self::CutBody => "cut_body",
            Self::Malformed => "malformed",
        }
    }
}

/// Microseconds in buckets that are at most 1/128 wide.
#[derive(Clone, Debug, Default)]
pub struct Histogram(BTreeMap<u32, u64>);

impl Histogram {
    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        *self.0.entry(bucket(micros)).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// The quantile (0.99 for p99), too high by less than 1 %; nothing when nothing was recorded.
    pub fn p(&self, quantile: f64) -> Option<Duration> {
        let rank = ((self.count() as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.0.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        found.map(|(bucket, _)| Duration::from_micros(upper(*bucket)))
    }
}

/// Eight significant bits: up to 255 the value itself, then the exponent and what follows the first bit.
fn bucket(micros: u64) -> u32 {
    let shift = (u64::BITS - micros.leading_zeros()).saturating_sub(8);
    (shift << 7) + (micros >> shift) as u32
}

fn upper(bucket: u32) -> u64 {
    let shift = (bucket >> 7).saturating_sub(1);
    let low = u64::from(bucket - (shift << 7)) << shift;
    low + ((1 << shift) - 1)
}

/// 100 ms of the timeline, by the end of the requests.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// 2xx.
    pub ok: u64,
    pub other: u64,
    pub failed: u64,
    pub max: Duration,
    /// By status, failures as [`FAILED`].
    pub latencies: BTreeMap<u16, Histogram>,
    /// When the 2xx came, in microseconds from the epoch: exact, for 8 bytes each.
    oks: Vec<u64>,
}

/// The requests of a load, each counted once.
#[derive(Clone, Debug)]
pub struct Report {
    pub answers: BTreeMap<u16, u64>,
    pub failures: BTreeMap<&'static str, u64>,
    pub latencies: BTreeMap<u16, Histogram>,
    pub started: Instant,
    pub elapsed: Duration,
    /// By their number since an epoch of the process; see [`Report::slices`].
    timeline: BTreeMap<u64, Slice>,
    pub connections: u64,
    /// Idle connections found closed before a request was put on them: no request was lost.
    pub stale: u64,
    /// Only with `retry_idle`.
    pub retries: u64,
    /// Requests whose time had come and that no connection was free for until the end.
    pub unsent: u64,
}

impl Report {
    pub(super) fn new() -> Self {
        let _before_all_times = *EPOCH;
        Self {
            answers: BTreeMap::new(),
            failures: BTreeMap::new(),
            latencies: BTreeMap::new(),
            started: Instant::now(),
            elapsed: Duration::ZERO,
            timeline: BTreeMap::new(),
            connections: 0,
            stale: 0,
            retries: 0,
            unsent: 0,
        }
    }

    pub(super) fn record(&mut self, outcome: Outcome, latency: Duration, at: Instant) {
        let micros = micros(at);
        let slice = self.timeline.entry(micros / SLICE.as_micros() as u64).or_default();
        let status = match outcome {
            Outcome::Ok(status) => {
                *self.answers.entry(status).or_default() += 1;
                if (200..300).contains(&status) {
                    slice.ok += 1;
                    slice.oks.push(micros);
                } else {
                    slice.other += 1;
                }
                status
            }
            Outcome::Failed(failure) => {
                *self.failures.entry(failure.name()).or_default() += 1;
                slice.failed += 1;
                FAILED
            }
        };
        slice.max = slice.max.max(latency);
        slice.latencies.entry(status).or_default().record(latency);
        self.latencies.entry(status).or_default().record(latency);
    }

    /// All requests with an outcome.
    pub fn total(&self) -> u64 {
        self.answers.values().sum::<u64>() + self.failed()
    }

    /// Answers of 2xx.
    pub fn ok(&self) -> u64 {
        self.answers.range(200..300).map(|(_, count)| count).sum()
    }

    pub fn status(&self, status: u16) -> u64 {
        self.answers.get(&status).copied().unwrap_or_default()
    }

    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// A quantile over the statuses that `of` picks; failures have the status [`FAILED`].
    pub fn p(&self, quantile: f64, of: impl Fn(u16) -> bool) -> Option<Duration> {
        merged(self.latencies.iter(), of).p(quantile)
    }

    /// The same over the requests that ended in the slices which touch this time.
    pub fn p_within(&self, from: Instant, to: Instant, quantile: f64, of: impl Fn(u16) -> bool) -> Option<Duration> {
        let width = SLICE.as_micros() as u64;
        let slices = self.timeline.range(micros(from) / width..=micros(to) / width);
        merged(slices.flat_map(|(_, slice)| &slice.latencies), of).p(quantile)
    }

    /// The slices with an ended request, with their begin.
    pub fn slices(&self) -> impl Iterator<Item = (Instant, &Slice)> {
        self.timeline.iter().map(|(number, slice)| (*EPOCH + SLICE * u32::try_from(*number).unwrap(), slice))
    }

    /// How long after `start` the first 2xx arrived, whenever its request was sent.
    pub fn first_ok_after(&self, start: Instant) -> Option<Duration> {
        let start = micros(start);
        let after = self.oks().filter(|at| *at >= start).min()?;
        Some(Duration::from_micros(after - start))
    }

    /// 2xx per second.
    pub fn goodput(&self, from: Instant, to: Instant) -> f64 {
        let range = micros(from)..micros(to);
        self.oks().filter(|at| range.contains(at)).count() as f64 / (to - from).as_secs_f64()
    }

    /// The longest time without a 2xx between these two.
    pub fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let range = micros(from)..micros(to);
        let mut times: Vec<u64> = self.oks().filter(|at| range.contains(at)).collect();
        times.extend([range.start, range.end]);
        times.sort_unstable();
        Duration::from_micros(times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default())
    }

    fn oks(&self) -> impl Iterator<Item = u64> {
        self.timeline.values().flat_map(|slice| slice.oks.iter().copied())
    }

    /// Both as one, from the earlier start to the later end.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        let end = (self.started + self.elapsed).max(other.started + other.elapsed);
        self.started = self.started.min(other.started);
        self.elapsed = end - self.started;
        for (status, count) in other.answers {
            *self.answers.entry(status).or_default() += count;
        }
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
        merge(&mut self.latencies, &other.latencies);
        for (number, theirs) in other.timeline {
            let slice = self.timeline.entry(number).or_default();
            slice.ok += theirs.ok;
            slice.other += theirs.other;
            slice.failed += theirs.failed;
            slice.max = slice.max.max(theirs.max);
            slice.oks.extend(theirs.oks);
            merge(&mut slice.latencies, &theirs.latencies);
        }
        self.connections += other.connections;
        self.stale += other.stale;
        self.retries += other.retries;
        self.unsent += other.unsent;
        self
    }
}

fn micros(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*EPOCH).as_micros()).unwrap()
}

fn merge(into: &mut BTreeMap<u16, Histogram>, from: &BTreeMap<u16, Histogram>) {
    for (status, histogram) in from {
        into.entry(*status).or_default().merge(histogram);
    }
}

fn merged<'a>(of: impl Iterator<Item = (&'a u16, &'a Histogram)>, picks: impl Fn(u16) -> bool) -> Histogram {
    let mut all = Histogram::default();
    of.filter(|(status, _)| picks(**status)).for_each(|(_, histogram)| all.merge(histogram));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_err_by_less_than_one_percent() {
        let mut previous = 0;
        for micros in (0..100_000).chain((100_000..200_000_000).step_by(9_973)) {
            let (number, upper) = (bucket(micros), upper(bucket(micros)));
            assert!(number >= previous, "{micros}");
            assert!(upper >= micros && (upper - micros) as f64 <= micros as f64 / 100.0, "{micros} {upper}");
            previous = number;
        }
    }

    #[test]
    fn merged_reports_keep_their_times_and_quantiles() {
        let (mut one, mut two) = (Report::new(), Report::new());
        let start = one.started;
        let at = |millis| start + Duration::from_millis(millis);
        for n in 1..=100 {
            one.record(Outcome::Ok(200), Duration::from_millis(n), at(n));
        }
        two.record(Outcome::Ok(503), Duration::from_secs(1), at(150));
        two.record(Outcome::Failed(Failure::Eof), Duration::from_secs(2), at(160));
        two.record(Outcome::Ok(201), Duration::from_millis(7), at(1000));
        let all = one.merge(two);
        assert_eq!((all.total(), all.ok(), all.failed(), all.status(503)), (103, 101, 1, 1));
        let near = |found: Option<Duration>, millis: f64| {
            let found = found.unwrap().as_secs_f64() * 1000.0;
            assert!(found >= millis && found <= millis * 1.01, "{found} {millis}");
        };
        near(all.p(0.5, |status| status == 200), 50.0);
        near(all.p(0.99, |status| status == 200), 99.0);
        near(all.p(1.0, |status| status == FAILED), 2000.0);
        near(all.p_within(at(900), at(1100), 0.99, |_| true), 7.0);
        assert_eq!(all.p(0.5, |status| status == 404), None);
        assert_eq!(all.first_ok_after(at(101)).map(|after| after.as_millis()), Some(899));
        assert_eq!(all.first_ok_after(at(1001)), None);
        assert!((all.goodput(at(1), at(51)) - 1000.0).abs() < 21.0);
        assert_eq!(all.longest_gap(at(10), at(1200)).as_millis(), 900);
        assert_eq!(all.slices().map(|(_, slice)| slice.failed).sum::<u64>(), 1);
    }
}
