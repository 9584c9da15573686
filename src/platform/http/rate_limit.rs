//! How much of the API a tenant may use, told to the client in `RateLimit-*` headers: counted in Redis for all
//! instances together, and while Redis is away by each instance for its part.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::gcra::Gcra;
use crate::{
    labels,
    platform::{
        cache::quota::{Quotas, Taken},
        error::{Error, Result},
        telemetry::{
            context::Quota,
            metrics::{Counter, Registry},
        },
        tenancy::TenantId,
    },
    section,
};

section! {
    /// Requests of one tenant, to all instances together; to each one of its part while Redis is away.
    pub struct RateLimitConfig in "rate_limit" {
        /// Requests a second that a tenant may make in the long run; 0 for no limit.
        pub per_second: u32 => 0..=1_000_000,
        /// Requests it may make at once.
        pub burst: u32 => 1..=1_000_000,
        /// Instances that share the limit: while Redis is away each one allows its part.
        pub instances: u32 => 1..=10_000,
        /// Lets production go without a limit: where a gateway in front has one.
        pub allow_unlimited: bool,
    }
}

labels! {
    pub struct Decision { decision: &'static str = "_OTHER" }
}

/// A tenant is told when it has used up all but this share of its burst, and how often at most.
const NEARLY: u32 = 10;
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Tenants remembered in this process; beyond it those of whom there is nothing to remember are forgotten.
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
    shared: Option<Quotas>,
    local: Gcra<TenantId>,
    known: Mutex<HashMap<TenantId, Known>>,
    decisions: Counter<Decision>,
}

/// What an instance remembers of a tenant.
#[derive(Clone, Copy, Default)]
struct Known {
    /// Refused until then: who floods us must not flood Redis too.
    refused_until: Option<Instant>,
    told: Option<Instant>,
}

impl RateLimiter {
    /// `shared` counts for all instances; without it each one counts for itself.
    pub fn new(config: &RateLimitConfig, shared: Option<Quotas>, registry: &Registry) -> Self {
        let decisions: Counter<Decision> =
            registry.counter("rate_limit_decisions_total", "Requests of tenants, by what the limit said.", 4);
        for decision in ["allow", "deny"] {
            decisions.with(&Decision { decision });
        }
        let part = |whole: u32| (whole / config.instances).max(1);
        let local = Gcra::new(Duration::from_secs(1) / part(config.per_second), part(config.burst));
        Self(Arc::new(Inner { config: config.clone(), shared, local, known: Mutex::default(), decisions }))
    }

    /// Counts a request; what is left, or `None` without a limit.
    ///
    /// # Errors
    /// `RateLimited`, with the time to wait.
    pub async fn take(&self, tenant: TenantId) -> Result<Option<Quota>> {
        if self.config.per_second == 0 {
            return Ok(None);
        }
        let now = Instant::now();
        let refused_until = self.known.lock().get(&tenant).and_then(|known| known.refused_until);
        if let Some(until) = refused_until.filter(|until| *until > now) {
            return Err(self.refuse(until - now));
        }
        let taken = match &self.shared {
            Some(shared) => shared.take(tenant, self.config.per_second, self.config.burst).await.ok(),
            None => None,
        };
        let quota = match taken {
            Some(Taken { allowed: false, wait, .. }) => {
                self.remember(tenant, now, |known| known.refused_until = Some(now + wait));
                return Err(self.refuse(wait));
            }
            Some(Taken { remaining, reset, .. }) => Quota { limit: self.config.burst, remaining, reset },
            None => {
                let left = self.local.take(tenant, now).map_err(|wait| self.refuse(wait))?;
                Quota { limit: self.local.burst(), remaining: left.remaining, reset: left.reset }
            }
        };
        self.decisions.with(&Decision { decision: "allow" }).inc();
        if quota.remaining <= quota.limit / NEARLY {
            self.tell(tenant, now, quota);
        }
        Ok(Some(quota))
    }

    /// What a refused tenant has left.
    pub fn nothing(&self, wait: Option<Duration>) -> Quota {
        Quota { limit: self.config.burst, remaining: 0, reset: wait.unwrap_or_default() }
    }

    fn refuse(&self, wait: Duration) -> Error {
        self.decisions.with(&Decision { decision: "deny" }).inc();
        Error::rate_limited("rate_limited", "Too many requests. Slow down.", wait)
    }

    fn tell(&self, tenant: TenantId, now: Instant, quota: Quota) {
        let mut due = false;
        self.remember(tenant, now, |known| {
            due = known.told.is_none_or(|told| now - told >= TELL_EVERY);
            if due {
                known.told = Some(now);
            }
        });
        if due {
            tracing::warn!(remaining = quota.remaining, limit = quota.limit, "rate_limit_approached");
        }
    }

    fn remember(&self, tenant: TenantId, now: Instant, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock();
        if known.len() >= MOST_TENANTS {
            known.retain(|_, known| {
                known.refused_until.is_some_and(|until| until > now)
                    || known.told.is_some_and(|told| now - told < TELL_EVERY)
            });
        }
        change(known.entry(tenant).or_default());
    }
}
