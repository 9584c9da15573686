//! Chance for what must not happen together: retries, refills, `Retry-After`.

use std::{ops::RangeInclusive, time::Duration};

use uuid::Uuid;

/// A time between these two, any of them as likely.
pub fn between(range: RangeInclusive<Duration>) -> Duration {
    let (least, most) = range.into_inner();
    least + most.saturating_sub(least).mul_f64(f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_and_reaches_both_ends() {
        let (least, most) = (Duration::from_millis(10), Duration::from_millis(50));
        let drawn: Vec<Duration> = (0..10_000).map(|_| between(least..=most)).collect();
        assert!(drawn.iter().all(|time| (least..=most).contains(time)));
        assert!(drawn.contains(&least) && drawn.contains(&most));
        assert_eq!(between(most..=most), most);
    }
}
