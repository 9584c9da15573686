//! Numbers: a latency histogram, medians and spread. What is said about them is in `report`.

/// Latencies by their logarithm, 128 buckets an octave: a percentile is off by less than 1 %.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

const OCTAVE: usize = 128;
/// 2^40 ns are 18 minutes: nothing waits longer.
const LONGEST: u64 = (1 << 40) - 1;

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; bucket(LONGEST) + 1], total: 0 }
    }
}

fn bucket(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.max(1).leading_zeros()).saturating_sub(8) as usize;
    shift * OCTAVE + (nanos >> shift) as usize
}

/// The middle of a bucket.
fn nanos(bucket: usize) -> f64 {
    let shift = (bucket / OCTAVE).saturating_sub(1);
    let lowest = (bucket - shift * OCTAVE) << shift;
    lowest as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
}

impl Histogram {
    pub fn record(&mut self, nanos: u128) {
        self.counts[bucket(u64::try_from(nanos).map_or(LONGEST, |nanos| nanos.min(LONGEST)))] += 1;
        self.total += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    pub fn count(&self) -> u64 {
        self.total
    }

    /// The latency in µs which `share` (0 to 1) of the requests do not exceed; 0 without any.
    pub fn percentile(&self, share: f64) -> f64 {
        let rank = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        reached.map_or(0.0, |bucket| nanos(bucket) / 1e3)
    }
}

/// What several rounds say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max })
    }
}
