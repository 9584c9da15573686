//! What is known about the request (or job) that runs now: ids for every log line, cost for the
//! canonical line. Set by `http::observe`; read by the log layer, problems and outbound calls.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use opentelemetry::trace::SpanContext;
use parking_lot::Mutex;
use tracing::Level;

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
    pub route: &'static str,
    pub path: String,
    /// Who asks, as far as the proxies in front can be believed.
    pub client: Option<IpAddr>,
    /// The kind of job, when this is one: then there is no method, route and path.
    pub job: Option<&'static str>,
    /// Its place among those under way; 0 for none.
    number: u64,
    /// When it began.
    pub started: Instant,
    /// When it must be answered: all that it waits for spends from the same budget.
    pub deadline: Option<Instant>,
    /// Its server or job span; invalid for probes.
    pub span: SpanContext,
    caller: OnceLock<(TenantId, PrincipalId)>,
    quota: OnceLock<Quota>,
    /// The event that Sentry got of it.
    sentry_event: OnceLock<String>,
    crumbs: Mutex<VecDeque<Crumb>>,
    pub cost: Cost,
}

/// A log line of the request, kept in case it fails: a breadcrumb for Sentry.
#[derive(Clone, Debug)]
pub struct Crumb {
    pub at: SystemTime,
    pub level: Level,
    pub message: String,
    /// As in the log line: JSON members, redacted.
    pub fields: String,
}

/// Crumbs of one request, and the size of one.
const MOST_CRUMBS: usize = 20;
const LONGEST_CRUMB: usize = 1_024;
static KEEP_CRUMBS: AtomicBool = AtomicBool::new(false);

/// Keeps the lines of each request until it ends, from now on: Sentry is there to read them.
pub fn keep_crumbs() {
    KEEP_CRUMBS.store(true, Relaxed);
}

/// The requests and jobs under way, for `/debug/requests`; in parts, so that they don't wait for each other.
static LIVE: [Mutex<BTreeMap<u64, Weak<RequestContext>>>; 16] = [const { Mutex::new(BTreeMap::new()) }; 16];
static NEXT: AtomicU64 = AtomicU64::new(1);

fn part(number: u64) -> &'static Mutex<BTreeMap<u64, Weak<RequestContext>>> {
    &LIVE[usize::try_from(number % 16).unwrap_or_default()]
}

/// What is under way now.
pub fn live() -> Vec<Arc<RequestContext>> {
    LIVE.iter().flat_map(|part| part.lock().values().filter_map(Weak::upgrade).collect::<Vec<_>>()).collect()
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        if self.number > 0 {
            part(self.number).lock().remove(&self.number);
        }
    }
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
    /// Statements by summary: the one that comes again and again is the N+1. Few kinds a request.
    summaries: Mutex<Vec<(&'static str, u32)>>,
    db_micros: AtomicU64,
    db_pool_wait_micros: AtomicU64,
    redis_ops: AtomicU64,
    redis_micros: AtomicU64,
    redis_silent: AtomicBool,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(micros: &AtomicU64) -> f64 {
    micros.load(Relaxed) as f64 / 1_000.0
}

impl Cost {
    pub fn add_query(&self, summary: &'static str, took: Duration) {
        self.db_queries.fetch_add(1, Relaxed);
        let mut summaries = self.summaries.lock();
        match summaries.iter_mut().find(|(known, _)| *known == summary) {
            Some((_, times)) => *times += 1,
            None => summaries.push((summary, 1)),
        }
        drop(summaries);
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

    /// A command of this request got no answer in time.
    pub fn set_redis_silent(&self) {
        self.redis_silent.store(true, Relaxed);
    }

    pub fn is_redis_silent(&self) -> bool {
        self.redis_silent.load(Relaxed)
    }

    pub fn db_queries(&self) -> u64 {
        self.db_queries.load(Relaxed)
    }

    /// The statement that ran most often, and how often.
    pub fn most_repeated(&self) -> Option<(&'static str, u32)> {
        self.summaries.lock().iter().copied().max_by_key(|(_, times)| *times)
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
        route: &'static str,
        path: String,
    ) -> Self {
        Self {
            request_id,
            correlation_id,
            method,
            route,
            path,
            client: None,
            job: None,
            number: 0,
            started: Instant::now(),
            deadline: None,
            span: SpanContext::NONE,
            caller: OnceLock::new(),
            quota: OnceLock::new(),
            sentry_event: OnceLock::new(),
            crumbs: Mutex::default(),
            cost: Cost::default(),
        }
    }

    /// Begins: from now on it is among those under way, until it is dropped.
    pub fn begin(mut self) -> Arc<Self> {
        self.number = NEXT.fetch_add(1, Relaxed);
        let number = self.number;
        let begun = Arc::new(self);
        part(number).lock().insert(number, Arc::downgrade(&begun));
        begun
    }

    /// The context of a job, with the ids of the request that queued it.
    pub fn of_job(request_id: String, correlation_id: String, kind: &'static str) -> Self {
        let mut context = Self::new(request_id, correlation_id, "", "", String::new());
        context.job = Some(kind);
        context
    }

    /// The tenant and principal, once authentication has found them.
    pub fn caller(&self) -> Option<&(TenantId, PrincipalId)> {
        self.caller.get()
    }

    /// `GET /v1/orders`, or `job confirm_order`.
    pub fn place(&self) -> String {
        self.job.map_or_else(|| format!("{} {}", self.method, self.route), |job| format!("job {job}"))
    }

    pub fn sentry_event(&self) -> Option<&str> {
        self.sentry_event.get().map(String::as_str)
    }

    /// Notes the event that tells of this request; the first one counts.
    pub fn set_sentry_event(&self, id: String) {
        self.sentry_event.get_or_init(|| id);
    }

    /// Keeps a log line, if anybody will read it.
    pub fn crumb(&self, at: SystemTime, level: Level, message: &str, fields: &str) {
        if !KEEP_CRUMBS.load(Relaxed) || level > Level::INFO {
            return;
        }
        let mut crumbs = self.crumbs.lock();
        if crumbs.len() == MOST_CRUMBS {
            crumbs.pop_front();
        }
        let fields = &fields[..fields.floor_char_boundary(LONGEST_CRUMB)];
        crumbs.push_back(Crumb { at, level, message: message.to_owned(), fields: fields.to_owned() });
    }

    pub fn crumbs(&self) -> Vec<Crumb> {
        self.crumbs.lock().iter().cloned().collect()
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

/// What is left to the running request or job before its deadline; `None` where there is none.
pub fn time_left() -> Option<Duration> {
    let deadline = with_current(|context| context.deadline).flatten()?;
    Some(deadline.saturating_duration_since(Instant::now()))
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
