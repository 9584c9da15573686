//! GCRA in this process: for each key the time at which its burst is whole again, and nothing else.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Keys remembered; beyond it those whose burst is whole again are forgotten.
const MOST_KEYS: usize = 10_000;

/// What is left after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub remaining: u32,
    /// Until the burst is whole.
    pub reset: Duration,
}

/// Allows each key one request every `each`, and `burst` of them at once.
pub struct Gcra<K> {
    each: Duration,
    burst: u32,
    state: Mutex<State<K>>,
}

struct State<K> {
    whole_at: HashMap<K, Instant>,
    pruned: Option<Instant>,
}

/// Between two searches for what can be forgotten: each looks at every key.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

impl<K: Hash + Eq> Gcra<K> {
    pub fn new(each: Duration, burst: u32) -> Self {
        let state = State { whole_at: HashMap::new(), pruned: None };
        Self { each: each.max(Duration::from_nanos(1)), burst, state: Mutex::new(state) }
    }

    pub const fn burst(&self) -> u32 {
        self.burst
    }

    fn all(&self) -> Duration {
        self.each * self.burst
    }

    /// Counts a request.
    ///
    /// # Errors
    /// The time to wait, when it is one too many; it is not counted then.
    pub fn take(&self, key: K, now: Instant) -> Result<Left, Duration> {
        let all = self.all();
        let State { whole_at, pruned } = &mut *self.state.lock();
        if whole_at.len() >= MOST_KEYS && !whole_at.contains_key(&key) {
            if pruned.is_none_or(|pruned| now.saturating_duration_since(pruned) >= PRUNE_EVERY) {
                *pruned = Some(now);
                whole_at.retain(|_, at| *at > now);
            }
            if whole_at.len() >= MOST_KEYS {
                // So many at once share nothing that could be counted; memory is bounded first.
                return Ok(Left { remaining: self.burst, reset: Duration::ZERO });
            }
        }
        let at = whole_at.entry(key).or_insert(now);
        let next = (*at).max(now) + self.each;
        let used = next - now;
        if used > all {
            return Err(used - all);
        }
        *at = next;
        let remaining = u32::try_from((all - used).as_nanos() / self.each.as_nanos()).unwrap_or(u32::MAX);
        Ok(Left { remaining, reset: used })
    }

    /// The time to wait before [`Gcra::take`] would allow a request; `None` when it would now.
    pub fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let at = *self.state.lock().whole_at.get(key)?;
        let used = at.saturating_duration_since(now) + self.each;
        used.checked_sub(self.all()).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_keys_do_not_share() {
        let limit = Gcra::new(Duration::from_millis(100), 5);
        let now = Instant::now();
        let left: Vec<u32> = (0..5).map(|_| limit.take("a", now).unwrap().remaining).collect();
        assert_eq!(left, [4, 3, 2, 1, 0]);
        assert_eq!(limit.wait(&"a", now), Some(Duration::from_millis(100)));
        assert_eq!(limit.take("a", now), Err(Duration::from_millis(100)));
        assert_eq!(limit.wait(&"b", now), None);
        assert!(limit.take("b", now).is_ok());
        let allowed = (1..=3_000).filter(|ms| limit.take("a", now + Duration::from_millis(*ms)).is_ok()).count();
        assert_eq!(allowed, 30, "ten a second");
    }

    #[test]
    fn keys_whose_burst_is_whole_are_forgotten() {
        let limit = Gcra::new(Duration::from_millis(1), 5);
        let now = Instant::now();
        (0..MOST_KEYS).for_each(|key| assert!(limit.take(key, now).is_ok()));
        assert!(limit.take(MOST_KEYS, now + Duration::from_secs(1)).is_ok());
        assert_eq!(limit.state.lock().whole_at.len(), 1);
    }
}
