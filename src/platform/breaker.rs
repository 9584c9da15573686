//! Circuit breakers: after failures in a row a dependency is left alone for a moment, then asked
//! by one call at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    labels,
    platform::telemetry::metrics::{Gauge, Registry},
};

labels! {
    pub struct DependencyLabel { dependency: &'static str = "_OTHER" }
}

/// Failures in a row that open it.
const OPENS_AFTER: u32 = 5;
/// How long it stays open before one call may try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// All breakers of an application.
#[derive(Clone)]
pub struct Breakers(Gauge<DependencyLabel>);

impl Breakers {
    pub fn new(registry: &Registry) -> Self {
        Self(registry.gauge(
            "circuit_breaker_open",
            "1 while a dependency is not called because it failed too often.",
            16,
        ))
    }

    pub fn of(&self, dependency: &'static str) -> Breaker {
        let open = self.0.with(&DependencyLabel { dependency });
        open.set(0.0);
        Breaker { dependency, open, state: Arc::default() }
    }
}

#[derive(Default)]
struct State {
    failures: u32,
    /// Until then nobody may call.
    closed_to_all_until: Option<Instant>,
}

/// The breaker of one dependency. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct Breaker {
    dependency: &'static str,
    open: prometheus::Gauge,
    state: Arc<Mutex<State>>,
}

impl Breaker {
    /// Whether a call may be made now. While open, one caller a second may.
    pub fn lets_through(&self) -> bool {
        let mut state = self.state.lock();
        match state.closed_to_all_until {
            None => true,
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                state.closed_to_all_until = Some(Instant::now() + RETRY_AFTER);
                true
            }
        }
    }

    /// Whether calls are refused now, or were when one was last made.
    pub fn is_open(&self) -> bool {
        self.state.lock().closed_to_all_until.is_some()
    }

    /// What became of a call.
    pub fn record(&self, success: bool) {
        let mut state = self.state.lock();
        if success {
            state.failures = 0;
            if state.closed_to_all_until.take().is_some() {
                self.open.set(0.0);
                tracing::info!(dependency = self.dependency, "circuit_closed");
            }
            return;
        }
        state.failures += 1;
        if state.failures >= OPENS_AFTER {
            if state.closed_to_all_until.is_none() {
                tracing::warn!(dependency = self.dependency, failures = state.failures, "circuit_opened");
            }
            state.closed_to_all_until = Some(Instant::now() + RETRY_AFTER);
            self.open.set(1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_on_a_success() {
        let breaker = Breakers::new(&Registry::default()).of("x");
        for _ in 0..OPENS_AFTER - 1 {
            breaker.record(false);
        }
        assert!(breaker.lets_through());
        breaker.record(true);
        for _ in 0..OPENS_AFTER {
            assert!(breaker.lets_through(), "a success in between starts the count anew");
            breaker.record(false);
        }
        assert!(!breaker.lets_through());
        // The moment has passed: exactly one may try.
        breaker.state.lock().closed_to_all_until = Some(Instant::now());
        assert!(breaker.lets_through());
        assert!(!breaker.lets_through());
        breaker.record(true);
        assert!(breaker.lets_through() && breaker.lets_through());
    }
}
