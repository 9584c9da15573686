//! The service as it runs for its users, and what watches it: instances of the built binary, Prometheus, the exporters
//! of Postgres and Redis, a collector and a Sentry. All of it ends with its owner.
//! What the example adds is in `shop`.
//!
//! The programs that are not ours come from `PROMETHEUS`, `POSTGRES_EXPORTER` and `REDIS_EXPORTER`, which the scripts
//! set.

pub mod daemon;
mod exporters;
mod instance;
mod prometheus;
mod shop;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use keel::platform::tenancy::TenantId;
use tempfile::TempDir;
use uuid::Uuid;

pub use instance::Instance;
pub use prometheus::{Job, Prometheus};

use super::{
    client::Tenant,
    collector::Collector,
    process::{run, text},
    sentry_server::SentryServer,
    services,
};
use exporters::Exporters;

/// On a busy machine; nothing waits so long that is right.
pub const SOON: Duration = Duration::from_secs(30);
/// As the service says it, and as the label of each target.
pub const ENVIRONMENT: &str = "development";

/// Asks until there is an answer, at most for `limit`.
pub async fn within<T>(limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let found = look().await;
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How a stack differs from the usual.
pub struct Plan {
    pub instances: usize,
    /// Variables of the instances. They win.
    pub settings: Vec<(&'static str, String)>,
    /// Files of rules for Prometheus.
    pub rules: Vec<PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { instances: 2, settings: Vec::new(), rules: Vec::new() }
    }
}

/// All of it, running. [`Stack::end`] drops the database too.
pub struct Stack {
    pub instances: Vec<Instance>,
    pub prometheus: Prometheus,
    pub collector: Collector,
    pub sentry: SentryServer,
    pub variables: BTreeMap<String, String>,
    pub shop: shop::Sandbox,
    _exporters: Exporters,
    database: String,
    _directory: TempDir,
}

impl Stack {
    pub async fn start(plan: Plan) -> Self {
        let database = services::database().await;
        let directory = tempfile::tempdir().unwrap();
        let (collector, sentry) = (Collector::start(), SentryServer::start());
        let mut variables = services::settings(&database);
        for (name, value) in usual() {
            variables.insert(name.to_owned(), value);
        }
        variables.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.endpoint.clone());
        variables.insert("SENTRY_DSN".to_owned(), sentry.dsn());
        let shop = shop::Sandbox::start(&mut variables).await;
        variables.extend(plan.settings.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let mut instances = Vec::new();
        for _ in 0..plan.instances {
            instances.push(Instance::start(&variables).await);
        }
        let exporters =
            Exporters::start(directory.path(), &services::variable("TEST_ADMIN_DATABASE_URL"), &variables["REDIS_URL"])
                .await;
        let jobs = [
            Job { name: "keel", targets: instances.iter().map(|instance| instance.scraped).collect() },
            Job { name: "postgres", targets: vec![exporters.postgres] },
            Job { name: "redis", targets: vec![exporters.redis] },
        ];
        let prometheus = Prometheus::start(directory.path(), &jobs, ENVIRONMENT, &plan.rules).await;
        Self {
            instances,
            prometheus,
            collector,
            sentry,
            variables,
            shop,
            _exporters: exporters,
            database,
            _directory: directory,
        }
    }

    /// A new tenant with its keys, as an operator makes them; `more` are further arguments.
    pub fn tenant(&self, slug: &str, more: &[&str]) -> Tenant {
        let run = |arguments: &[&str]| {
            let output = run(arguments, &self.variables);
            assert!(output.status.success(), "keel {arguments:?}: {}", text(&output.stderr));
            text(&output.stdout).lines().last().unwrap_or_default().trim().to_owned()
        };
        let id = run(&[&["tenant", "create", slug], more].concat());
        let key = |scope| run(&["api-key", "create", "--tenant", slug, "--scope", scope, "--name", "stack"]);
        Tenant { id: TenantId::from_uuid(id.parse().unwrap()), key: key("write"), read_key: key("read") }
    }

    pub async fn end(self) {
        let database = self.database.clone();
        drop(self);
        services::drop_database(&database).await;
    }
}

/// A user's own machine, with waits and windows that fit into a minute.
fn usual() -> Vec<(&'static str, String)> {
    let prefix = format!("stack-{}", Uuid::now_v7());
    [
        ("APP_ENVIRONMENT", ENVIRONMENT),
        ("APP__LOG__FORMAT", "json"),
        ("APP__AUTH__PEPPER", "stack-only-pepper-of-more-than-32-characters"),
        ("APP__FAULTS__ENABLED", "true"),
        ("APP__REDIS__KEY_PREFIX", &prefix),
        // A busy machine is no fault of Redis.
        ("APP__REDIS__OPERATION_TIMEOUT", "500ms"),
        ("APP__LIFECYCLE__DRAIN_DELAY", "500ms"),
        ("APP__JOBS__POLL_INTERVAL", "100ms"),
        ("APP__JOBS__BACKOFF", "100ms"),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}
