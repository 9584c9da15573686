//! What is known about the request (or job) that runs now: ids for every log line, cost for the
//! canonical line. Set by `http::observe`; read by the log layer, problems and outbound calls.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::platform::tenancy::{PrincipalId, TenantId};

tokio::task_local! {
    static CURRENT: Arc<RequestContext>;
}

/// One request, from its first byte to the last of its answer.
#[derive(Debug)]
pub struct RequestContext {
    pub request_id: String,
    pub correlation_id: String,
    pub method: &'static str,
    /// The route template; never the raw path.
    pub route: Arc<str>,
    pub path: String,
    /// The kind of job, when this is one: then there is no method, route and path.
    pub job: Option<&'static str>,
    caller: OnceLock<(TenantId, PrincipalId)>,
    quota: OnceLock<Quota>,
    pub cost: Cost,
}

/// What a tenant has left: the `RateLimit-*` headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub limit: u32,
    pub remaining: u32,
    /// Until all of it is back.
    pub reset: Duration,
}

/// Sums over one request, in operations and microseconds.
#[derive(Debug, Default)]
pub struct Cost {
    db_queries: AtomicU64,
    db_micros: AtomicU64,
    db_pool_wait_micros: AtomicU64,
    redis_ops: AtomicU64,
    redis_micros: AtomicU64,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(micros: &AtomicU64) -> f64 {
    micros.load(Relaxed) as f64 / 1_000.0
}

impl Cost {
    pub fn add_query(&self, took: Duration) {
        self.db_queries.fetch_add(1, Relaxed);
        self.db_micros.fetch_add(micros(took), Relaxed);
    }

    /// Time in Postgres that is no statement of its own: BEGIN, COMMIT.
    pub fn add_db_time(&self, took: Duration) {
        self.db_micros.fetch_add(micros(took), Relaxed);
    }

    pub fn add_pool_wait(&self, took: Duration) {
        self.db_pool_wait_micros.fetch_add(micros(took), Relaxed);
    }

    pub fn add_redis(&self, took: Duration) {
        self.redis_ops.fetch_add(1, Relaxed);
        self.redis_micros.fetch_add(micros(took), Relaxed);
    }

    pub fn db_queries(&self) -> u64 {
        self.db_queries.load(Relaxed)
    }

    pub fn db_ms(&self) -> f64 {
        millis(&self.db_micros)
    }

    pub fn db_pool_wait_ms(&self) -> f64 {
        millis(&self.db_pool_wait_micros)
    }

    pub fn redis_ops(&self) -> u64 {
        self.redis_ops.load(Relaxed)
    }

    pub fn redis_ms(&self) -> f64 {
        millis(&self.redis_micros)
    }
}

impl RequestContext {
    pub fn new(
        request_id: String,
        correlation_id: String,
        method: &'static str,
        route: Arc<str>,
        path: String,
    ) -> Self {
        Self {
            request_id,
            correlation_id,
            method,
            route,
            path,
            job: None,
            caller: OnceLock::new(),
            quota: OnceLock::new(),
            cost: Cost::default(),
        }
    }

    /// The context of a job, with the ids of the request that queued it.
    pub fn of_job(request_id: String, correlation_id: String, kind: &'static str) -> Self {
        Self { job: Some(kind), ..Self::new(request_id, correlation_id, "", "".into(), String::new()) }
    }

    /// The tenant and principal, once authentication has found them.
    pub fn caller(&self) -> Option<&(TenantId, PrincipalId)> {
        self.caller.get()
    }

    pub fn quota(&self) -> Option<&Quota> {
        self.quota.get()
    }

    pub fn set_quota(&self, quota: Quota) {
        self.quota.get_or_init(|| quota);
    }

    pub fn set_caller(&self, tenant: TenantId, principal: PrincipalId) {
        // A request authenticates once; a second extractor finds the same caller.
        self.caller.get_or_init(|| (tenant, principal));
    }
}

/// The context of the running request, if there is one.
pub fn current() -> Option<Arc<RequestContext>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Calls `f` with the running request, without touching its reference count.
pub fn with_current<T>(f: impl FnOnce(&RequestContext) -> T) -> Option<T> {
    CURRENT.try_with(|context| f(context)).ok()
}

/// Runs a future as part of `context`.
pub fn scope<F: Future>(context: Arc<RequestContext>, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(context, future)
}

/// Calls `f` as part of `context`.
pub fn enter<T>(context: Arc<RequestContext>, f: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(context, f)
}
