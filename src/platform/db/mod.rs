//! Postgres: settings here; pools that heal in `pool`, transactions in `tx`, their repetition in `retry`,
//! spans and metrics of statements in `traced`, error mapping in `errors`, schema in `migrations`, the boot
//! self-test in `guard`.

mod borrowed;
pub mod errors;
pub mod guard;
pub mod metrics;
pub mod migrations;
mod pool;
mod retry;
mod share;
mod traced;
mod tx;

use std::{sync::Arc, time::Duration};

use opentelemetry::StringValue;
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
use tracing::log::LevelFilter;

use self::{
    metrics::{DbMetrics, Operation},
    pool::Pool,
};
pub use self::{
    retry::retried,
    traced::Traced,
    tx::{SystemTx, TenantTx},
};
use crate::{
    platform::{
        config::{Faults, Secret},
        telemetry::{
            Telemetry,
            metrics::{Histogram, Registry},
        },
    },
    section,
};

section! {
    /// Postgres: three roles, two pools.
    pub struct DatabaseConfig in "database" {
        /// URL of the runtime role, which owns nothing and sees one tenant at a time.
        pub url: Option<Secret>,
        /// URL of the system role, for what happens before a tenant is known: key lookup, jobs, the command line.
        pub system_url: Option<Secret>,
        /// URL of the owner, for `keel migrate` only.
        pub migration_url: Option<Secret>,
        /// Name of the runtime role, which migrations grant to.
        pub runtime_role: String,
        /// Name of the system role, which migrations grant to.
        pub system_role: String,
        /// Connections of the runtime role in each process.
        pub max_connections: u32 => 1..=500,
        /// Connections of the system role in each process.
        pub system_max_connections: u32 => 1..=100,
        /// Percentage of `max_connections` that one tenant may have: its slow statements leave the others the rest.
        pub tenant_share: u32 => 1..=100,
        /// Longest wait for a connection before the request fails with 503.
        pub acquire_timeout: Duration => Duration::from_millis(10)..=Duration::from_secs(60),
        /// An idle connection is closed after this time.
        pub idle_timeout: Duration => Duration::from_secs(1)..=Duration::from_secs(86_400),
        /// `serve` gives up (exit 1) when Postgres does not answer within this time after the start.
        pub startup_timeout: Duration => Duration::from_secs(1)..=Duration::from_secs(3_600),
        /// A longer wait for a connection is logged as `slow_acquire`: the pool is too small, not the query slow.
        pub slow_acquire: Duration => Duration::from_millis(1)..=Duration::from_secs(60),
        /// A statement that takes longer is logged as `slow_query` and counted.
        pub slow_query: Duration => Duration::from_millis(1)..=Duration::from_secs(60),
        /// Lets production reach another host without TLS: where the network encrypts by itself.
        pub allow_plaintext: bool,
        /// `keel migrate` gives up after this time.
        pub migration_timeout: Duration => Duration::from_secs(1)..=Duration::from_secs(3_600),
    }
}

impl DatabaseConfig {
    /// What `serve` can't do without.
    pub fn check(&self, faults: &mut Faults) {
        for (key, url) in [("url", &self.url), ("system_url", &self.system_url)] {
            match url {
                None => faults.add(format!(
                    "database.{key}: missing; set DATABASE{}_URL",
                    if key == "url" { "" } else { "_SYSTEM" }
                )),
                Some(url) => {
                    if let Err(fault) = options(url) {
                        faults.add(format!("database.{key}: {fault}"));
                    }
                }
            }
        }
    }
}

/// Connections that an instance has before it takes traffic.
const WARM: usize = 4;

/// The pools of one application. Cheap to clone; tenant data is behind [`TenantTx`] only.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

pub(crate) struct Inner {
    runtime: Pool,
    system: Pool,
    metrics: DbMetrics,
    telemetry: Telemetry,
    slow_query: Duration,
    slow_acquire: Duration,
    server_address: StringValue,
    server_port: i64,
    namespace: StringValue,
}

/// # Errors
/// What is wrong with the URL, never the URL: it holds a password.
pub fn options(url: &Secret) -> Result<PgConnectOptions, String> {
    let malformed = || "not a Postgres URL (postgres://user:password@host:port/database)".to_owned();
    // sqlx takes any scheme.
    let (scheme, _) = url.expose().split_once("://").ok_or_else(malformed)?;
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(malformed());
    }
    let options: PgConnectOptions = url.expose().parse().map_err(|_| malformed())?;
    // Statements are traced and timed by `traced`, which knows their summary.
    Ok(options.log_statements(LevelFilter::Off).log_slow_statements(LevelFilter::Off, Duration::MAX))
}

impl Db {
    /// Builds the pools; connects when first used.
    ///
    /// # Errors
    /// A URL that is missing or can't be read.
    pub fn build(
        config: &DatabaseConfig,
        telemetry: &Telemetry,
        registry: &Registry,
        operations: Histogram<Operation>,
    ) -> Result<Self, String> {
        let url = |url: &Option<Secret>| url.as_ref().ok_or("no database URL".to_owned()).and_then(options);
        let runtime = url(&config.url)?;
        let metrics = DbMetrics::new(registry, operations);
        let pool = |max_connections, options| {
            let (acquire_timeout, idle_timeout) = (config.acquire_timeout, config.idle_timeout);
            let max_of_tenant = (max_connections * config.tenant_share / 100) as usize;
            let limits = pool::Limits { max_connections, max_of_tenant, acquire_timeout, idle_timeout };
            Pool::build(limits, options, metrics.replaced.clone())
        };
        let inner = Inner {
            server_address: Arc::<str>::from(runtime.get_host()).into(),
            server_port: i64::from(runtime.get_port()),
            namespace: Arc::<str>::from(runtime.get_database().unwrap_or_default()).into(),
            runtime: pool(config.max_connections, runtime),
            system: pool(config.system_max_connections, url(&config.system_url)?),
            metrics,
            telemetry: telemetry.clone(),
            slow_query: config.slow_query,
            slow_acquire: config.slow_acquire,
        };
        metrics::observe_pool(registry, &inner.runtime);
        Ok(Self(Arc::new(inner)))
    }

    /// New connections are made with these URLs, and so with a rotated password; those that exist live on.
    ///
    /// # Errors
    /// A URL that can't be read; nothing is changed then.
    pub fn set_urls(&self, runtime: &Secret, system: &Secret) -> Result<(), String> {
        let (runtime, system) = (options(runtime)?, options(system)?);
        self.0.runtime.set_options(runtime);
        self.0.system.set_options(system);
        Ok(())
    }

    /// Opens the first connections: a login costs more than most requests, and the first ones would all wait
    /// for theirs.
    pub async fn warm(&self) {
        let most = |pool: &Pool| usize::try_from(pool.max()).unwrap_or(usize::MAX);
        let Inner { runtime, system, .. } = &*self.0;
        tokio::join!(runtime.warm(WARM.min(most(runtime))), system.warm((WARM / 2).min(most(system))));
    }

    /// Whether the server answers both roles.
    ///
    /// # Errors
    /// No connection, or no answer. `PoolTimedOut` says that all connections are at work: that is load,
    /// not a lost server.
    pub async fn ping(&self) -> Result<(), sqlx::Error> {
        let (runtime, system) = tokio::join!(self.0.runtime.ping(), self.0.system.ping());
        runtime.and(system)
    }

    /// Closes both pools, waiting for connections in use.
    pub async fn close(&self) {
        self.0.runtime.close().await;
        self.0.system.close().await;
    }
}
