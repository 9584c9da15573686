//! How many of something are under way, by whose they are. Memory is bounded by what is under way: whoever has
//! none is forgotten.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;

/// Counts by key. Cheap to clone; clones share their counts.
pub struct Tally<K>(Arc<Mutex<HashMap<K, usize>>>);

impl<K> Clone for Tally<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Hash + Eq + Clone> Tally<K> {
    /// Counts one more of `key`, unless it has `most` already.
    pub fn begin(&self, key: K, most: usize) -> Option<Counted<K>> {
        let mut counts = self.0.lock();
        let count = counts.entry(key.clone()).or_default();
        if *count >= most {
            // An entry without any is there only when nothing at all is allowed.
            if *count == 0 {
                counts.remove(&key);
            }
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Counted { tally: self.clone(), key })
    }

    pub fn counts(&self) -> Vec<(K, usize)> {
        self.0.lock().iter().map(|(key, count)| (key.clone(), *count)).collect()
    }
}

/// Counts until dropped.
pub struct Counted<K: Hash + Eq> {
    tally: Tally<K>,
    key: K,
}

impl<K: Hash + Eq> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut counts = self.tally.0.lock();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_count_and_is_forgotten_at_none() {
        let tally = Tally::default();
        let held = [tally.begin("a", 2), tally.begin("a", 2), tally.begin("b", 2)];
        assert!(held.iter().all(Option::is_some));
        assert!(tally.begin("a", 2).is_none());
        assert!(tally.begin("c", 0).is_none());
        drop(held);
        assert!(tally.counts().is_empty());
    }
}
