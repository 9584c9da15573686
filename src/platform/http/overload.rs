//! How much is taken on at once. What is too much is refused early and cheaply: before the caller is looked up,
//! the body read, a span made or a line written. Probes pass by.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::HttpConfig;
use crate::{
    labels,
    platform::{
        error::{Error, Result},
        jitter,
        tally::{Counted, Tally},
        telemetry::metrics::{Counter, Registry},
        tenancy::TenantId,
    },
};

labels! {
    pub struct Shed { reason: &'static str = "_OTHER" }
}

/// Bytes of bodies are counted in these, and asked for in steps of so many.
const UNIT: usize = 1024;
pub const STEP: usize = 16 << 10;

/// Lets requests in. Cheap to clone; clones share their counts.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    born: Instant,
    places: Arc<Semaphore>,
    most: usize,
    /// Of one tenant, once half of the places are taken.
    tenant_most: usize,
    tenants: Tally<TenantId>,
    bodies: Arc<Semaphore>,
    patience: Duration,
    shed: Counter<Shed>,
    /// The second in which shedding was last told of, and how much since.
    told: AtomicU64,
    untold: AtomicU64,
}

/// A request that was let in, until its work has ended.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A request that counts for its tenant, until dropped.
pub type Share = Counted<TenantId>;

impl Gate {
    pub fn new(http: &HttpConfig, registry: &Registry) -> Self {
        let shed: Counter<Shed> =
            registry.counter("http_server_requests_shed_total", "Requests refused unread, by reason.", 8);
        for reason in ["not_ready", "concurrency", "tenant_share", "body_memory"] {
            shed.with(&Shed { reason });
        }
        let most = http.max_concurrent_requests;
        Self(Arc::new(Inner {
            born: Instant::now(),
            places: Arc::new(Semaphore::new(most)),
            most,
            tenant_most: (most * http.tenant_share / 100).max(1),
            tenants: Tally::default(),
            // Room for one of the largest at least, whatever the steps.
            bodies: Arc::new(Semaphore::new(
                http.body_memory.0.max(http.body_limit.0.next_multiple_of(STEP)).div_ceil(UNIT),
            )),
            patience: http.queue_timeout,
            shed,
            told: AtomicU64::new(u64::MAX),
            untold: AtomicU64::new(0),
        }))
    }

    /// A place, if there is one.
    pub fn try_enter(&self) -> Option<Place> {
        Arc::clone(&self.0.places).try_acquire_owned().ok().map(|permit| Place { _permit: permit })
    }

    /// A place, if there is one soon: to wait longer only makes late what could have been tried elsewhere.
    pub async fn enter(&self) -> Option<Place> {
        let permit = tokio::time::timeout(self.0.patience, Arc::clone(&self.0.places).acquire_owned()).await;
        permit.ok()?.ok().map(|permit| Place { _permit: permit })
    }

    /// Counts a request for its tenant. A tenant may have more than its share while less than half of all
    /// places are taken.
    ///
    /// # Errors
    /// `RateLimited`: the others have a right to what is left.
    pub fn share(&self, tenant: TenantId) -> Result<Share> {
        let taken = self.0.most.saturating_sub(self.0.places.available_permits());
        let most = if taken * 2 >= self.0.most { self.0.tenant_most } else { usize::MAX };
        self.0.tenants.begin(tenant, most).ok_or_else(|| {
            self.count("tenant_share");
            Error::rate_limited(
                "too_many_in_flight",
                "Too many requests of yours are being handled. Wait for their answers.",
                retry_after(),
            )
        })
    }

    /// Memory for one more step of a body, until dropped.
    ///
    /// # Errors
    /// `Unavailable` when bodies being read take up all there is.
    pub async fn body(&self) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.0.bodies).acquire_many_owned((STEP / UNIT) as u32);
        match tokio::time::timeout(self.0.patience, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(self.refuse("body_memory")),
        }
    }

    /// The answer to a request that is not taken on.
    pub fn refuse(&self, reason: &'static str) -> Error {
        self.count(reason);
        Error::unavailable("overloaded", "The service has too much to do. Try again shortly.").after(retry_after())
    }

    /// Counts a refusal; tells of all of them once a second.
    pub fn count(&self, reason: &'static str) {
        self.0.shed.with(&Shed { reason }).inc();
        self.0.untold.fetch_add(1, Relaxed);
        let now = self.0.born.elapsed().as_secs();
        if self.0.told.swap(now, Relaxed) != now {
            let requests = self.0.untold.swap(0, Relaxed);
            let in_flight = self.0.most.saturating_sub(self.0.places.available_permits());
            tracing::warn!(requests, reason, in_flight, "requests_shed");
        }
    }
}

/// 1 to 3 s, as the header rounds it up: those who were refused together don't come back together.
fn retry_after() -> Duration {
    jitter::between(Duration::ZERO..=Duration::from_secs(3))
}
