//! The life of the process: its phase, what its dependencies answer, and the checks that keep both
//! true. Probes read this state; they never ask a dependency themselves.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    cache::Redis,
    config::Faults,
    db::{Db, guard},
    heartbeat::Heartbeat,
    telemetry::metrics::Registry,
};
use crate::section;

section! {
    /// Start, checks and shutdown.
    pub struct LifecycleConfig in "lifecycle" {
        /// Threads that handle requests, at least 2. 0: one for each processor, at most 8; in a container say the CPU request, for a node's processors are not the container's.
        pub worker_threads: usize => 0..=512,
        /// After SIGTERM the service says "not ready" and goes on serving this long: load balancers need it to notice.
        pub drain_delay: Duration => Duration::ZERO..=Duration::from_secs(300),
        /// Then requests in flight have this long to finish; more is exit code 3.
        pub drain_timeout: Duration => Duration::from_millis(100)..=Duration::from_secs(300),
        /// Then spans and logs have this long to leave.
        pub flush_timeout: Duration => Duration::from_millis(100)..=Duration::from_secs(60),
        /// Time between two checks of the dependencies.
        pub check_interval: Duration => Duration::from_millis(50)..=Duration::from_secs(60),
        /// A check that takes longer has failed.
        pub check_timeout: Duration => Duration::from_millis(10)..=Duration::from_secs(30),
        /// The main runtime is so late with what is due: no traffic.
        pub stalled_after: Duration => Duration::from_millis(500)..=Duration::from_secs(600),
        /// And so late: not alive, to be restarted.
        pub dead_after: Duration => Duration::from_secs(1)..=Duration::from_secs(3_600),
        /// Time between two looks at secrets in files: a rotated one is in use that much later. 0 for never.
        pub secrets_interval: Duration => Duration::ZERO..=Duration::from_secs(3_600),
    }
}
section! {
    /// What readiness depends on.
    pub struct ReadinessConfig in "admin.readiness" {
        /// Dependencies without which the service takes no traffic, of `postgres` and `redis`; the others only degrade it.
        pub requires: Vec<String>,
        /// Failed checks in a row before a required dependency counts as lost.
        pub failures: u32 => 1..=100,
    }
}

impl LifecycleConfig {
    /// Never one thread alone, which a CPU request of half a processor would give: what blocks it would stop
    /// everything. `make bench` counts the instructions of one.
    pub fn workers(&self) -> usize {
        match self.worker_threads {
            0 => std::thread::available_parallelism().map_or(2, |processors| processors.get().clamp(2, 8)),
            given => given.max(if cfg!(feature = "bench") { 1 } else { 2 }),
        }
    }
}

impl ReadinessConfig {
    pub fn check(&self, faults: &mut Faults) {
        for name in &self.requires {
            if !["postgres", "redis"].contains(&name.as_str()) {
                faults.add(format!("admin.readiness.requires: expected postgres or redis, got \"{name}\""));
            }
        }
    }
}

/// Where the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Draining,
}

/// One dependency, as last seen.
#[derive(Clone, Debug)]
struct Seen {
    /// `ok` or why not, as a code: details are in the log.
    code: &'static str,
    failures: u32,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    checks: BTreeMap<&'static str, Seen>,
    checked: Instant,
}

/// What probes answer.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Readiness {
    pub status: &'static str,
    pub checks: BTreeMap<&'static str, &'static str>,
}

impl Readiness {
    pub fn takes_traffic(&self) -> bool {
        matches!(self.status, "ready" | "degraded")
    }
}

/// Shared by probes, checks and shutdown. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    state: Arc<RwLock<State>>,
    requires: Arc<[String]>,
    failures: u32,
    stale_after: Duration,
    heartbeat: Heartbeat,
    stalled_after: Duration,
    dead_after: Duration,
}

impl Health {
    pub fn new(readiness: &ReadinessConfig, lifecycle: &LifecycleConfig, heartbeat: &Heartbeat) -> Self {
        let state = State { phase: Phase::Starting, checks: BTreeMap::new(), checked: Instant::now() };
        Self {
            state: Arc::new(RwLock::new(state)),
            requires: readiness.requires.clone().into(),
            failures: readiness.failures,
            // Checks run on the main runtime: when they stop coming, it is the runtime that is stuck.
            stale_after: (lifecycle.check_interval + lifecycle.check_timeout) * 3,
            heartbeat: heartbeat.clone(),
            stalled_after: lifecycle.stalled_after,
            dead_after: lifecycle.dead_after,
        }
    }

    /// The answer as a metric: an instance that is not ready gets no requests, so their errors can't tell of it.
    pub fn register(&self, registry: &Registry) {
        let health = self.clone();
        registry.gauge_fn(
            "service_ready",
            "What /health/ready answers: 1 while this instance takes traffic.",
            move || vec![((), f64::from(u8::from(health.readiness().takes_traffic())))],
        );
    }

    pub fn readiness(&self) -> Readiness {
        let state = self.state.read();
        let checks = state.checks.iter().map(|(name, seen)| (*name, seen.code)).collect();
        let required = |name: &str| self.requires.iter().any(|required| required == name);
        let lost = state.checks.iter().any(|(name, seen)| required(name) && seen.failures >= self.failures);
        let degraded = state.checks.values().any(|seen| seen.failures > 0);
        let status = match state.phase {
            Phase::Draining => "draining",
            Phase::Starting => "not_ready",
            Phase::Serving if lost || self.stall().1 || state.checked.elapsed() > self.stale_after => "not_ready",
            Phase::Serving if degraded => "degraded",
            Phase::Serving => "ready",
        };
        Readiness { status, checks }
    }

    /// How late the main runtime is, and whether that is too late to take traffic.
    pub fn stall(&self) -> (Duration, bool) {
        let lag = self.heartbeat.lag();
        (lag, lag > self.stalled_after)
    }

    /// Whether the process can still be of use. No dependency is asked: a restart would not bring it back.
    pub fn alive(&self) -> bool {
        self.heartbeat.lag() <= self.dead_after
    }

    /// Whether the start is over.
    pub fn started(&self) -> bool {
        self.state.read().phase != Phase::Starting
    }

    fn serve(&self) {
        let mut state = self.state.write();
        if state.phase == Phase::Starting {
            state.phase = Phase::Serving;
        }
    }

    /// Takes the instance out of load balancing; there is no way back.
    pub fn drain(&self) {
        self.state.write().phase = Phase::Draining;
    }

    /// Notes what a check found; `detail` is for the log only.
    fn saw(&self, name: &'static str, code: &'static str, detail: &str) {
        let mut state = self.state.write();
        state.checked = Instant::now();
        let before = state.checks.get(name).map(|seen| seen.code);
        // A pool at its limit is load. Taking the instance out would move the load to the next one.
        let failed = !matches!(code, "ok" | "busy");
        let failures = if failed { state.checks.get(name).map_or(0, |seen| seen.failures) + 1 } else { 0 };
        state.checks.insert(name, Seen { code, failures });
        drop(state);
        match before {
            Some(before) if before == code => {}
            _ if failed => tracing::warn!(dependency = name, code, detail, "dependency_unavailable"),
            _ => tracing::info!(dependency = name, code, "dependency_available"),
        }
    }
}

/// One look at the database at the start.
const LONGEST_TRY: Duration = Duration::from_secs(5);

/// Waits until the database is reachable, migrated and safe, saying why not, and then lets traffic in.
///
/// # Errors
/// When `timeout` passed first.
pub async fn wait_for_database(db: &Db, health: &Health, timeout: Duration) -> Result<(), String> {
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(50);
    let mut said = "";
    loop {
        // A socket that fell silent must not take all the time there is.
        let left = deadline.saturating_duration_since(Instant::now()).clamp(pause, LONGEST_TRY.max(pause));
        let checked = tokio::time::timeout(left, guard::check(db)).await;
        match checked.unwrap_or_else(|_| Err(guard::Refusal::silent())) {
            Ok(()) => {
                db.warm().await;
                health.saw("postgres", "ok", "");
                health.serve();
                return Ok(());
            }
            Err(refusal) => {
                health.saw("postgres", refusal.code, &refusal.detail);
                if said != refusal.code {
                    said = refusal.code;
                    tracing::error!(
                        severity = "critical",
                        code = refusal.code,
                        detail = refusal.detail,
                        "database_not_usable"
                    );
                }
                if Instant::now() + pause > deadline {
                    return Err(format!("gave up after {} s: {}", timeout.as_secs(), refusal.detail));
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Asks the dependencies again and again, until told to stop.
pub async fn check_dependencies(
    db: Db,
    redis: Option<Redis>,
    health: Health,
    config: LifecycleConfig,
    stop: CancellationToken,
) {
    loop {
        let postgres = async {
            // Before the first success the start has its own, stricter check.
            if !health.started() {
                return;
            }
            let (code, detail) = match tokio::time::timeout(config.check_timeout, db.ping()).await {
                Ok(Ok(())) => ("ok", String::new()),
                Ok(Err(sqlx::Error::PoolTimedOut)) => ("busy", String::new()),
                Ok(Err(error)) => ("unreachable", error.to_string()),
                Err(_) => ("timeout", String::new()),
            };
            health.saw("postgres", code, &detail);
        };
        let cache = async {
            let Some(redis) = &redis else { return };
            let (code, detail) = match redis.ping().await {
                Ok(()) => ("ok", String::new()),
                Err(failure) => ("unreachable", failure.to_string()),
            };
            health.saw("redis", code, &detail);
        };
        tokio::join!(postgres, cache);
        tokio::select! {
            () = tokio::time::sleep(config.check_interval) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// A background task of the application: runs until its future ends or the runtime does.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    #[expect(
        clippy::disallowed_methods,
        reason = "belongs to the process, not to a request: there is no context to take along"
    )]
    tokio::spawn(task);
}
