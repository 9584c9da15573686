//! The composition root: platform and shop become routers, checks and listeners. `main` and the
//! tests start it the same way; port 0 is allowed, addresses can be read. What happens once it runs is in
//! `running`, what can change then in `secrets`.

mod running;
mod secrets;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;

pub use self::running::Running;

use crate::{
    config::Config,
    labels,
    platform::{
        admin,
        breaker::Breakers,
        cache::{Redis, quota::Quotas, read_through::Caches},
        db::{self, Db},
        faults,
        heartbeat::Heartbeat,
        http::{
            auth::Admission, docs, layers, limits::Shelter, observe::Observe, overload::Gate, rate_limit::RateLimiter,
            server,
        },
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
    gate: Gate,
    connections: Arc<server::Counts>,
    shelter: Shelter,
    pepper: Pepper,
    admin_token: admin::Token,
    /// The configuration whose secrets are in use.
    secrets: Mutex<Config>,
    idempotency: Idempotency,
    tenants: TenantLabels,
    activity: Activity,
    outbound: Outbound,
    state: shop::State,
    more: axum::Router,
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
        let heartbeat = Heartbeat::start(&registry);
        let breakers = Breakers::new(&registry);
        let operations = db::metrics::operations(&registry);
        let db = Db::build(&config.database, telemetry, &registry, operations.clone())?;
        let redis = Redis::build(&config.redis, telemetry, operations, breakers.of("redis"))?;
        let seconds = registry.gauge("service_start_duration_seconds", "Duration of the start, by phase.", 8);
        let boot = Boot { seconds, millis: Mutex::default() };
        let health = Health::new(&config.readiness, &config.lifecycle, &heartbeat);
        health.register(&registry);
        let pepper = config.auth.pepper.as_ref().ok_or("auth.pepper: missing")?;
        let pepper = Pepper::new(pepper, config.auth.previous_pepper.as_ref());
        let idempotency = Idempotency::new(&config.idempotency, &registry);
        let (tenants, activity) = (TenantLabels::new(&registry), Activity::default());
        let outbound = Outbound::build(&config.outbound, telemetry, &registry, &breakers)?;
        let state = shop::State::new(
            &config.shop,
            &shop::Platform {
                db: &db,
                pepper: &pepper,
                caches: &Caches::new(redis.clone(), &config.redis.key_prefix, config.http.request_timeout, &registry),
                idempotency: &idempotency,
                outbound: &outbound,
                registry: &registry,
                tenants: &tenants,
                activity: &activity,
            },
        )?;
        let jobs = shop::jobs(faults::jobs(JobRegistry::default(), config.faults.enabled), &state);
        let worker = Worker::new(&db, jobs, &config.jobs, telemetry, &registry);
        let gate = Gate::new(&config.http, &registry);
        let shelter = Shelter::new(&config.http, &gate);
        let connections = Arc::default();
        server::Counts::register(&connections, &registry);
        Ok(Self {
            config: config.clone(),
            admin_token: admin::Token::new(config.admin.token.clone()),
            secrets: Mutex::new(config.clone()),
            pepper,
            gate,
            connections,
            telemetry: telemetry.clone(),
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
            outbound,
            state,
            more: axum::Router::new(),
        })
    }

    /// Serves these routes too, in the same layers: what the tests show of the platform needs no domain then.
    #[must_use]
    pub fn with_routes(mut self, routes: axum::Router) -> Self {
        self.more = routes;
        self
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

    pub fn pepper(&self) -> &Pepper {
        &self.pepper
    }

    /// The public routes in their layers.
    pub(crate) fn service(&self) -> Result<impl layers::Served, String> {
        let Config { http, auth, faults, .. } = &self.config;
        let api = openapi();
        let mut routes = axum::Router::from(tenancy::http::router().with_state(self.db.clone()))
            .merge(axum::Router::from(shop::router().with_state(self.state.clone())))
            .merge(docs::router(&api, &http.base_path))
            .merge(admin::public_probes(self.health.clone()))
            .merge(self.more.clone());
        if faults.enabled {
            routes = routes.merge(faults::router(self.db.clone(), self.outbound.dependency("faults")));
        }
        let observe = Observe::new(&self.telemetry, &self.registry, &self.tenants, http, &self.gate);
        let quotas = self.redis.as_ref().map(|redis| Quotas::new(redis, &self.config.redis.key_prefix));
        let limiter = RateLimiter::new(&self.config.rate_limit, quotas, &self.registry);
        let directory = Directory::new(&self.db, &self.pepper, auth.key_cache_ttl, &self.activity);
        let admission = Admission::new(directory, limiter, self.gate.clone(), auth.failures_per_minute);
        Ok(layers::apply(routes, http, observe, admission, self.health.clone(), self.shelter.clone()))
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

    fn start_admin(
        &self,
        listener: tokio::net::TcpListener,
        stop: server::Stop,
    ) -> Result<(SocketAddr, std::thread::JoinHandle<()>), String> {
        let listener = listener.into_std().map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (health, registry) = (self.health.clone(), self.registry.clone());
        let (level, token) = (self.telemetry.log_level.clone(), self.admin_token.clone());
        admin::spawn(listener, health, registry, level, token, self.config.admin.profiling, stop)
            .map(|thread| (address, thread))
            .map_err(|error| format!("the admin thread can't be started: {error}"))
    }

    /// Opens the listeners and starts to serve; readiness follows when the database is usable.
    ///
    /// # Errors
    /// A port that is taken, in words.
    pub async fn start(self, booted: Instant) -> Result<Running, String> {
        let started = Instant::now();
        let service = self.service()?;
        let public = server::listen(self.config.http.bind, "http.bind").await?;
        let admin_listener = match &self.config.admin {
            admin if admin.enabled => Some(server::listen(admin.bind, "admin.bind").await?),
            _ => None,
        };
        let public_address = public.local_addr().map_err(|error| error.to_string())?;
        let (stop, admin_stop) = (server::Stop::default(), server::Stop::default());
        let limits = self.config.http.limits(&self.connections);
        let wanted = self.config.http.max_connections;
        if limits.max_connections < wanted {
            let warning = format!(
                "http.max_connections: {wanted}, but the limit on open files leaves room for {}; raise it (ulimit -n)",
                limits.max_connections
            );
            tracing::warn!(warning, "config_warning");
        }
        let admin = admin_listener.map(|listener| self.start_admin(listener, admin_stop.clone())).transpose()?;
        let (admin_address, admin_thread) = admin.unzip();
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
        let workers = tokio::runtime::Handle::current().metrics().num_workers();
        let admin = admin_address.map(tracing::field::display);
        tracing::info!(public = %public_address, admin, workers, "service_starting");
        let app = Arc::new(self);
        let failed = Arc::new(running::Failed::default());
        let ready =
            running::become_ready(Arc::clone(&app), booted, Arc::clone(&failed), checks.clone(), claims.clone());
        lifecycle::spawn(ready);
        Ok(Running {
            app,
            public: public_address,
            admin: admin_address,
            stop,
            admin_stop,
            serving,
            admin_thread,
            checks,
            claims,
            failed,
        })
    }
}
