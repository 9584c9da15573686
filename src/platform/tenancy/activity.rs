//! Who was here lately: the distinct principals of the last quarter of an hour, in this process.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::PrincipalId;

const LATELY: Duration = Duration::from_secs(15 * 60);
/// Beyond it new principals are not counted until old ones are forgotten: 100,000 take about 10 MiB.
const MOST: usize = 100_000;

/// Cheap to clone; clones share what they saw.
#[derive(Clone, Default)]
pub struct Activity(Arc<Mutex<HashMap<PrincipalId, Instant>>>);

impl Activity {
    pub fn saw(&self, principal: &PrincipalId) {
        self.saw_at(principal, Instant::now());
    }

    fn saw_at(&self, principal: &PrincipalId, now: Instant) {
        let mut seen = self.0.lock();
        if let Some(last) = seen.get_mut(principal) {
            *last = now;
        } else if seen.len() < MOST {
            seen.insert(principal.clone(), now);
        }
    }

    /// How many there were; forgets the others.
    pub fn count(&self) -> usize {
        self.count_at(Instant::now())
    }

    fn count_at(&self, now: Instant) -> usize {
        let mut seen = self.0.lock();
        seen.retain(|_, last| now.duration_since(*last) < LATELY);
        seen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_counts_once_and_for_a_quarter_of_an_hour() {
        let (activity, now) = (Activity::default(), Instant::now());
        for _ in 0..3 {
            activity.saw_at(&PrincipalId::new("a"), now);
        }
        activity.saw_at(&PrincipalId::new("b"), now + Duration::from_secs(60));
        assert_eq!(activity.count_at(now + Duration::from_secs(60)), 2);
        assert_eq!(activity.count_at(now + LATELY), 1);
        assert_eq!(activity.count_at(now + LATELY + Duration::from_secs(60)), 0);
    }
}
