//! The composition root: platform and shop become routers, checks and listeners. `main` and the
//! tests start it the same way; port 0 is allowed, addresses can be read.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;

use crate::{
    config::Config,
    labels,
    platform::{
        admin,
        cache::{Redis, read_through::Caches},
        db::{self, Db},
        faults,
        http::{docs, layers, limits::Shelter, observe::Observe, rate_limit::RateLimiter, server},
        idempotency::Idempotency,
        jobs::{JobRegistry, worker::Worker},
        lifecycle::{self, Health},
        outbound::Outbound,
        telemetry::{
            Telemetry, build,
            metrics::{Gauge, Registry, process, tenants::TenantLabels},
        },
        tenancy::{self, activity::Activity, api_key::Pepper, directory::Directory},
    },
    shop,
};

labels! {
    pub struct PhaseLabel { phase: &'static str = "_OTHER" }
}

/// The parts that live as long as the process.
pub struct App {
    config: Config,
    telemetry: Telemetry,
    pub registry: Registry,
    db: Db,
    redis: Option<Redis>,
    health: Health,
    boot: Boot,
    worker: Worker,
    shelter: Shelter,
    idempotency: Idempotency,
    tenants: TenantLabels,
    activity: Activity,
    state: shop::State,
}

/// How long each phase of the start took.
struct Boot {
    seconds: Gauge<PhaseLabel>,
    millis: Mutex<Vec<(&'static str, u64)>>,
}

impl Boot {
    fn record(&self, phase: &'static str, took: Duration) {
        self.seconds.with(&PhaseLabel { phase }).set(took.as_secs_f64());
        self.millis.lock().push((phase, u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
    }

    fn millis(&self, phase: &str) -> Option<u64> {
        self.millis.lock().iter().find(|(known, _)| *known == phase).map(|(_, millis)| *millis)
    }
}

/// The document of all public routes; needs no database.
pub fn openapi() -> OpenApi {
    let mut api = tenancy::http::router().into_openapi();
    api.merge(shop::router().into_openapi());
    docs::complete(api, env!("CARGO_PKG_NAME"), build::VERSION)
}

impl App {
    /// Builds everything that needs no socket. Call it on the runtime that will serve.
    ///
    /// # Errors
    /// A setting that can't be used, in words.
    pub fn build(config: &Config, telemetry: &Telemetry) -> Result<Self, String> {
        let registry = Registry::default();
        let runtime = tokio::runtime::Handle::current();
        process::register(&registry, config.environment.as_str(), &runtime);
        telemetry.register(&registry);
        lifecycle::heartbeat(&registry);
        let operations = db::metrics::operations(&registry);
        let db = Db::build(&config.database, telemetry, &registry, operations.clone())?;
        let redis = Redis::build(&config.redis, telemetry, operations)?;
        let seconds = registry.gauge("service_start_duration_seconds", "Duration of the start, by phase.", 8);
        let boot = Boot { seconds, millis: Mutex::default() };
        let health = Health::new(&config.readiness, &config.lifecycle);
        let pepper = Pepper::new(config.auth.pepper.as_ref().ok_or("auth.pepper: missing")?);
        let idempotency = Idempotency::new(&config.idempotency, &registry);
        let (tenants, activity) = (TenantLabels::new(&registry), Activity::default());
        let state = shop::State::new(
            &config.shop,
            &config.shop_payments,
            &shop::Platform {
                db: &db,
                pepper: &pepper,
                caches: &Caches::new(redis.clone(), &config.redis.key_prefix, config.http.request_timeout, &registry),
                idempotency: &idempotency,
                outbound: &Outbound::build(&config.outbound, telemetry, &registry)?,
                registry: &registry,
                tenants: &tenants,
                activity: &activity,
            },
        )?;
        let jobs = shop::jobs(faults::jobs(JobRegistry::default(), config.faults.enabled), &state);
        let worker = Worker::new(&db, jobs, &config.jobs, telemetry, &registry);
        let (config, telemetry) = (config.clone(), telemetry.clone());
        let shelter = Shelter::new(config.http.request_timeout, &registry);
        Ok(Self {
            config,
            telemetry,
            registry,
            db,
            redis,
            health,
            boot,
            worker,
            shelter,
            idempotency,
            tenants,
            activity,
            state,
        })
    }

    pub fn redis(&self) -> Option<&Redis> {
        self.redis.as_ref()
    }

    pub fn idempotency(&self) -> &Idempotency {
        &self.idempotency
    }

    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The public routes in their layers.
    pub(crate) fn service(&self) -> Result<tower_http::normalize_path::NormalizePath<axum::Router>, String> {
        let Config { http, auth, faults, .. } = &self.config;
        let pepper = Pepper::new(auth.pepper.as_ref().ok_or("auth.pepper: missing")?);
        let api = openapi();
        let mut routes = axum::Router::from(tenancy::http::router().with_state(self.db.clone()))
            .merge(axum::Router::from(shop::router().with_state(self.state.clone())))
            .merge(docs::router(&api))
            .merge(admin::public_probes(self.health.clone()));
        if faults.enabled {
            routes = routes.merge(faults::router(self.db.clone()));
        }
        let observe = Observe::new(&self.telemetry, &self.registry, &self.tenants, http);
        let limiter = RateLimiter::new(&self.config.rate_limit, &self.registry);
        let directory = Directory::new(&self.db, &pepper, auth.key_cache_ttl, &self.activity);
        Ok(layers::apply(routes, http, observe, directory, limiter, self.health.clone(), self.shelter.clone()))
    }

    /// What must be done now and then, by any instance.
    async fn maintain(self: Arc<Self>, stop: CancellationToken) {
        const EVERY: Duration = Duration::from_secs(60);
        loop {
            match self.idempotency.expire(&self.db).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "idempotency_keys_expired"),
                Err(error) => tracing::warn!(error = error.chain(), "idempotency_expiry_failed"),
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Opens both listeners and starts to serve; readiness follows when the database is usable.
    ///
    /// # Errors
    /// A port that is taken, in words.
    pub async fn start(self, booted: Instant) -> Result<Running, String> {
        let started = Instant::now();
        let service = self.service()?;
        let public = server::listen(self.config.http.bind, "http.bind").await?;
        let admin_listener = server::listen(self.config.admin.bind, "admin.bind").await?;
        let public_address = public.local_addr().map_err(|error| error.to_string())?;
        let admin_address = admin_listener.local_addr().map_err(|error| error.to_string())?;
        let (stop, admin_stop) = (server::Stop::default(), server::Stop::default());
        let limits = server::Limits {
            max_connections: self.config.http.max_connections,
            head_timeout: self.config.http.head_timeout,
        };
        let admin_listener = admin_listener.into_std().map_err(|error| error.to_string())?;
        let (health, registry) = (self.health.clone(), self.registry.clone());
        let (level, token) = (self.telemetry.log_level.clone(), self.config.admin.token.clone());
        let admin =
            admin::spawn(admin_listener, limits.head_timeout, health, registry, level, token, admin_stop.clone())
                .map_err(|error| format!("the admin thread can't be started: {error}"))?;
        #[expect(clippy::disallowed_methods, reason = "the accept loop; each request gets its own context")]
        let serving = tokio::spawn(server::run(public, service, limits, stop.clone()));
        self.boot.record("listen", started.elapsed());
        let (checks, claims) = (CancellationToken::new(), CancellationToken::new());
        lifecycle::spawn(lifecycle::check_dependencies(
            self.db.clone(),
            self.redis.clone(),
            self.health.clone(),
            self.config.lifecycle.clone(),
            checks.clone(),
        ));
        tracing::info!(public = %public_address, admin = %admin_address, "service_starting");
        let app = Arc::new(self);
        let failed = Arc::new(Failed::default());
        let ready = become_ready(Arc::clone(&app), booted, Arc::clone(&failed), checks.clone(), claims.clone());
        lifecycle::spawn(ready);
        Ok(Running {
            app,
            public: public_address,
            admin: admin_address,
            stop,
            admin_stop,
            serving,
            admin_thread: admin,
            checks,
            claims,
            failed,
        })
    }
}

/// What jobs and left work get at least, when requests have used up the drain.
const LAST_WORK: Duration = Duration::from_secs(1);

async fn become_ready(
    app: Arc<App>,
    booted: Instant,
    failed: Arc<Failed>,
    stop: CancellationToken,
    claims: CancellationToken,
) {
    let started = Instant::now();
    let waited = tokio::select! {
        waited = lifecycle::wait_for_database(&app.db, &app.health, app.config.database.startup_timeout) => waited,
        () = stop.cancelled() => return,
    };
    if let Err(why) = waited {
        tracing::error!(severity = "critical", error = why, "service_start_failed");
        failed.because(why);
        return;
    }
    if app.config.jobs.enabled {
        app.worker.start(&claims);
        lifecycle::spawn(Arc::clone(&app).maintain(stop.clone()));
    }
    app.boot.record("database", started.elapsed());
    app.boot.record("total", booted.elapsed());
    tracing::info!(
        listen_ms = app.boot.millis("listen"),
        database_ms = app.boot.millis("database"),
        total_ms = app.boot.millis("total"),
        "service_started"
    );
}

/// Why the service can't go on, once it can't.
#[derive(Default)]
struct Failed {
    why: Mutex<Option<String>>,
    token: CancellationToken,
}

impl Failed {
    fn because(&self, why: String) {
        *self.why.lock() = Some(why);
        self.token.cancel();
    }
}

/// A serving application.
pub struct Running {
    pub app: Arc<App>,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    stop: server::Stop,
    admin_stop: server::Stop,
    serving: JoinHandle<usize>,
    admin_thread: std::thread::JoinHandle<()>,
    checks: CancellationToken,
    /// Ends the claiming of jobs.
    claims: CancellationToken,
    failed: Arc<Failed>,
}

impl Running {
    /// Ends when the service can't go on, and says why.
    pub async fn failed(&self) -> String {
        self.failed.token.cancelled().await;
        self.failed.why.lock().clone().unwrap_or_default()
    }

    /// Not ready → drain delay → stop accepting → finish in flight → close. Returns whether all of
    /// it fit the deadline. Telemetry is flushed by the caller, last.
    pub async fn shutdown(mut self) -> bool {
        let config = &self.app.config.lifecycle;
        tracing::info!(drain_delay_ms = config.drain_delay.as_millis() as u64, "shutdown_started");
        self.app.health.drain();
        tokio::time::sleep(config.drain_delay).await;
        let deadline = Instant::now() + config.drain_timeout;
        self.claims.cancel();
        self.stop.drain.cancel();
        let drained = tokio::time::timeout(config.drain_timeout, &mut self.serving).await;
        let mut cut = 0;
        if drained.is_err() {
            self.stop.kill.cancel();
            cut = (&mut self.serving).await.unwrap_or_default();
            tracing::warn!(connections_cut = cut, "shutdown_drain_overrun");
        }
        self.checks.cancel();
        // Work of clients that left, and jobs that run: they share what is left of the deadline. Workers
        // claim no more, and a job that is cut runs again elsewhere.
        let left = deadline.saturating_duration_since(Instant::now()).max(LAST_WORK);
        let work = async { tokio::join!(self.app.shelter.drained(), self.app.worker.drain()) };
        let finished = tokio::time::timeout(left, work).await.is_ok();
        if !finished {
            tracing::warn!("shutdown_work_cut");
        }
        // What still holds a connection now is past every deadline.
        let _closed_or_not = tokio::time::timeout(Duration::from_secs(1), self.app.db.close()).await;
        self.admin_stop.drain.cancel();
        self.admin_stop.kill.cancel();
        let admin = self.admin_thread;
        let joined = tokio::task::spawn_blocking(move || admin.join().is_ok()).await;
        tracing::info!(connections_cut = cut, admin_stopped = joined.unwrap_or(false), "shutdown_completed");
        drained.is_ok() && finished
    }
}
