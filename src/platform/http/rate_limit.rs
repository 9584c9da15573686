//! How much of the API a tenant may use: GCRA in this process, told to the client in `RateLimit-*`
//! headers. Each instance counts for itself.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    labels,
    platform::{
        error::{Error, Kind, Result},
        telemetry::{
            context::Quota,
            metrics::{Counter, Registry},
        },
        tenancy::TenantId,
    },
    section,
};

section! {
    /// Requests of one tenant to one instance.
    pub struct RateLimitConfig in "rate_limit" {
        /// Requests a second that a tenant may make in the long run; 0 for no limit.
        pub per_second: u32 => 0..=1_000_000,
        /// Requests it may make at once.
        pub burst: u32 => 1..=1_000_000,
    }
}

labels! {
    pub struct Decision { decision: &'static str = "_OTHER" }
}

/// A tenant is told when it has used up all but this share of its burst.
const NEARLY: u32 = 10;
/// Tenants remembered; beyond it those whose burst is whole again are forgotten.
const MOST_TENANTS: usize = 10_000;

/// Cheap to clone; clones share their counts.
#[derive(Clone)]
pub struct RateLimiter(Arc<Inner>);

impl std::ops::Deref for RateLimiter {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What is behind [`RateLimiter`].
pub struct Inner {
    config: RateLimitConfig,
    /// When each tenant's burst is whole again (the theoretical arrival time of GCRA).
    whole_at: Mutex<HashMap<TenantId, Instant>>,
    decisions: Counter<Decision>,
}

impl RateLimiter {
    pub fn new(config: &RateLimitConfig, registry: &Registry) -> Self {
        let decisions: Counter<Decision> =
            registry.counter("rate_limit_decisions_total", "Requests of tenants, by what the limit said.", 4);
        for decision in ["allow", "deny"] {
            decisions.with(&Decision { decision });
        }
        Self(Arc::new(Inner { config: config.clone(), whole_at: Mutex::default(), decisions }))
    }

    /// Counts a request; what is left, or `None` without a limit.
    ///
    /// # Errors
    /// `RateLimited`, with the time to wait.
    pub fn take(&self, tenant: TenantId) -> Result<Option<Quota>> {
        self.take_at(tenant, Instant::now())
    }

    fn take_at(&self, tenant: TenantId, now: Instant) -> Result<Option<Quota>> {
        if self.config.per_second == 0 {
            return Ok(None);
        }
        let each = Duration::from_secs(1) / self.config.per_second;
        let all = each * self.config.burst;
        let mut whole_at = self.whole_at.lock();
        if whole_at.len() >= MOST_TENANTS {
            whole_at.retain(|_, at| *at > now);
        }
        let at = whole_at.entry(tenant).or_insert(now);
        let next = (*at).max(now) + each;
        let used = next - now;
        if used > all {
            drop(whole_at);
            self.decisions.with(&Decision { decision: "deny" }).inc();
            let mut error = Error::new(Kind::RateLimited, "rate_limited", "Too many requests. Slow down.");
            error.retry_after = Some(used - all);
            return Err(error);
        }
        *at = next;
        drop(whole_at);
        self.decisions.with(&Decision { decision: "allow" }).inc();
        let remaining = u32::try_from((all - used).as_nanos() / each.as_nanos().max(1)).unwrap_or(u32::MAX);
        if remaining == self.config.burst / NEARLY {
            tracing::warn!(remaining, limit = self.config.burst, "rate_limit_approached");
        }
        Ok(Some(Quota { limit: self.config.burst, remaining, reset: used }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_tenants_do_not_share() {
        let limiter = RateLimiter::new(&RateLimitConfig { per_second: 10, burst: 5 }, &Registry::default());
        let (a, b, now) = (TenantId::new(), TenantId::new(), Instant::now());
        let left: Vec<u32> = (0..5).map(|_| limiter.take_at(a, now).unwrap().unwrap().remaining).collect();
        assert_eq!(left, [4, 3, 2, 1, 0]);
        let denied = limiter.take_at(a, now).unwrap_err();
        assert_eq!((denied.kind, denied.retry_after), (Kind::RateLimited, Some(Duration::from_millis(100))));
        assert!(limiter.take_at(b, now).is_ok());
        let mut allowed = 0;
        for ms in 1..=3_000 {
            allowed += u32::from(limiter.take_at(a, now + Duration::from_millis(ms)).is_ok());
        }
        assert_eq!(allowed, 30, "ten a second");
        let none = RateLimiter::new(&RateLimitConfig { per_second: 0, burst: 1 }, &Registry::default());
        assert!((0..1_000).all(|_| none.take_at(a, now).unwrap().is_none()));
    }
}
