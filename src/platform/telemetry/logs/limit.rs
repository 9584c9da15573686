//! The limit of each callsite: a place in the code that logs in a loop must not drown the rest. What
//! was held back is said once a second: `log_suppressed`, with the number.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::{Metadata, callsite::Identifier};

/// Lines of a window share one limit.
const WINDOW: Duration = Duration::from_secs(1);
/// Never held back: dashboards count them, or they are promised for each fault.
const EXEMPT: [&str; 7] = [
    "request_completed",
    "request_failed",
    "job_completed",
    "job_failed",
    "panicked",
    "log_level_changed",
    "log_suppressed",
];

struct Callsite {
    since: Instant,
    lines: u32,
    suppressed: u64,
    message: String,
    place: String,
}

/// How many lines each callsite may write.
pub struct Limiter {
    a_second: u32,
    callsites: Mutex<HashMap<Identifier, Callsite>>,
}

impl Limiter {
    /// `a_second`: lines of one callsite; 0 is no limit.
    pub fn new(a_second: u32) -> Self {
        Self { a_second, callsites: Mutex::default() }
    }

    /// Whether this line may be written.
    pub fn admits(&self, metadata: &'static Metadata<'static>, message: &str) -> bool {
        self.admits_at(metadata, message, Instant::now())
    }

    fn admits_at(&self, metadata: &'static Metadata<'static>, message: &str, now: Instant) -> bool {
        if self.a_second == 0 || EXEMPT.contains(&message) {
            return true;
        }
        let mut callsites = self.callsites.lock();
        let callsite = callsites.entry(metadata.callsite()).or_insert_with(|| Callsite {
            since: now,
            lines: 0,
            suppressed: 0,
            message: message.to_owned(),
            place: format!("{}:{}", metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default()),
        });
        if now.duration_since(callsite.since) >= WINDOW {
            (callsite.since, callsite.lines) = (now, 0);
        }
        callsite.lines += 1;
        if callsite.lines <= self.a_second {
            return true;
        }
        callsite.suppressed += 1;
        false
    }

    /// What was held back since the last call: event, place in the code, number.
    pub fn take_suppressed(&self) -> Vec<(String, String, u64)> {
        let mut callsites = self.callsites.lock();
        let held_back = callsites.values_mut().filter(|callsite| callsite.suppressed > 0);
        held_back
            .map(|callsite| {
                (callsite.message.clone(), callsite.place.clone(), std::mem::take(&mut callsite.suppressed))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> &'static Metadata<'static> {
        struct Here;
        static HERE: Here = Here;
        static META: Metadata<'static> = Metadata::new(
            "event",
            "test",
            tracing::Level::INFO,
            Some("src/x.rs"),
            Some(7),
            None,
            tracing::field::FieldSet::new(&[], Identifier(&HERE)),
            tracing::metadata::Kind::EVENT,
        );
        impl tracing::callsite::Callsite for Here {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &Metadata<'_> {
                &META
            }
        }
        &META
    }

    #[test]
    fn a_loop_gets_its_share_of_each_second_and_the_rest_is_counted() {
        let (limiter, start) = (Limiter::new(10), Instant::now());
        let admitted = |at| (0..100).filter(|_| limiter.admits_at(metadata(), "looped", at)).count();
        assert_eq!(admitted(start), 10);
        assert_eq!(limiter.take_suppressed(), [("looped".to_owned(), "src/x.rs:7".to_owned(), 90)]);
        assert_eq!(limiter.take_suppressed(), []);
        assert_eq!(admitted(start + WINDOW / 2), 0, "the same second");
        assert_eq!(admitted(start + WINDOW), 10, "the next one");
        assert!((0..100).all(|_| limiter.admits_at(metadata(), "request_completed", start)));
        assert!((0..100).all(|_| Limiter::new(0).admits_at(metadata(), "looped", start)));
    }
}
