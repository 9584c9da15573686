//! Services we depend on: a breaker each, and one retry where that is safe, there is time, and the budget of
//! retries allows it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Answer, Call, Failure, Outbound, Peer};
use crate::platform::{breaker::Breaker, jitter, telemetry::context};

/// What a call may use of the time that is left: what came of it must still be written down.
const MOST_OF_DEADLINE: f64 = 0.8;

/// A service we depend on.
#[derive(Clone)]
pub struct Dependency {
    outbound: Outbound,
    breaker: Breaker,
    budget: Arc<Budget>,
}

/// Retries are paid for by calls: where all fail, each tenth is tried again and not each one.
struct Budget(Mutex<u32>);

impl Budget {
    /// What a retry costs, in what a call adds.
    const PRICE: u32 = 10;
    /// Most that is saved up, and what there is at the start: ten retries.
    const MOST: u32 = 100;

    fn add(&self) {
        let mut saved = self.0.lock();
        *saved = (*saved + 1).min(Self::MOST);
    }

    fn take(&self) -> bool {
        let mut saved = self.0.lock();
        let enough = *saved >= Self::PRICE;
        if enough {
            *saved -= Self::PRICE;
        }
        enough
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self(Mutex::new(Self::MOST))
    }
}

impl Dependency {
    pub(super) fn new(outbound: &Outbound, breaker: Breaker) -> Self {
        Self { outbound: outbound.clone(), breaker, budget: Arc::default() }
    }

    /// Calls, and once more where that is safe and there is time. The breaker counts the call, not
    /// its tries.
    ///
    /// # Errors
    /// Why there is no answer. A status of any kind is an answer.
    pub async fn call(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        if !self.breaker.lets_through() {
            return Err(Failure::BreakerOpen);
        }
        let left = context::time_left().map_or(call.timeout, |left| left.mul_f64(MOST_OF_DEADLINE));
        let timeout = left.min(call.timeout);
        let deadline = Instant::now() + timeout;
        self.budget.add();
        let mut result = self.attempt(call, timeout).await;
        let pause = retry_pause();
        // Below a tenth of the time a second try only adds load.
        let time = || deadline.saturating_duration_since(Instant::now());
        let worth = call.idempotent && failed(&result) && !matches!(result, Err(Failure::TooLarge));
        if worth && time() > timeout / 10 + pause && self.budget.take() {
            tokio::time::sleep(pause).await;
            result = self.attempt(call, time()).await;
        }
        // What we did not wait for long enough says nothing of the dependency.
        if left < call.timeout && matches!(result, Err(Failure::Timeout)) {
            return result;
        }
        self.breaker.record(!failed(&result));
        result
    }

    async fn attempt(&self, call: &Call<'_>, timeout: Duration) -> Result<Answer, Failure> {
        let address: Arc<str> = call.url.host_str().unwrap_or_default().into();
        self.outbound.attempt(Peer::Ours, call, address, timeout).await
    }
}

fn failed(result: &Result<Answer, Failure>) -> bool {
    result.as_ref().map_or(true, |answer| answer.status >= 500)
}

/// 10 to 50 ms, so that callers that failed together don't come back together.
fn retry_pause() -> Duration {
    jitter::between(Duration::from_millis(10)..=Duration::from_millis(50))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_all_calls_fail_a_tenth_of_them_is_tried_again() {
        let budget = Budget::default();
        let retries = (0..1_000)
            .filter(|_| {
                budget.add();
                budget.take()
            })
            .count();
        assert_eq!(retries, 109, "what was saved up, and a tenth of the calls; the first finds nothing to add");
    }
}
