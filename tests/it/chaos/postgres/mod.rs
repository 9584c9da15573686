//! Row 4: Postgres gone, silent, full, read-only, locked, and really restarted.

mod full;
mod locks;
mod read_only;
mod restart;
mod server;
mod silence;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use sqlx::{AssertSqlSafe, Executor as _, postgres::PgConnectOptions};

use super::watch::{Recovery, Watch};
use crate::support::{TestApp, app::Different, client::Tenant, harness::Proxy, services, things};

/// An application whose runtime role meets Postgres through a proxy; the system role too, unless told otherwise.
pub struct World {
    pub app: TestApp,
    pub proxy: Proxy,
    pub tenant: Tenant,
    /// Has asked for nothing yet: its key is in no memory.
    stranger: Tenant,
    /// How many ask at once: more than the pool has connections, or on a busy machine fewer.
    clients: usize,
}

/// Where a Postgres URL leads.
async fn address(url: &str) -> SocketAddr {
    let options: PgConnectOptions = url.parse().unwrap();
    tokio::net::lookup_host((options.get_host(), options.get_port())).await.unwrap().find(SocketAddr::is_ipv4).unwrap()
}

impl World {
    async fn start(full: bool) -> Self {
        Self::with(full, &services::database().await, &["DATABASE_URL", "DATABASE_SYSTEM_URL"]).await
    }

    pub async fn with(full: bool, database: &str, through_proxy: &[&str]) -> Self {
        let given = services::settings(database);
        let proxy = Proxy::start(address(&given["DATABASE_URL"]).await).await;
        let mut settings = BTreeMap::from([
            ("APP__FAULTS__ENABLED".to_owned(), "true".to_owned()),
            // As in production: with more checks it would recover sooner.
            ("APP__LIFECYCLE__CHECK_INTERVAL".to_owned(), "1s".to_owned()),
        ]);
        if !full {
            // Unoptimised, to connect takes 33 ms of a core: on a busy machine ten at once take longer than 500 ms.
            settings.insert("APP__DATABASE__ACQUIRE_TIMEOUT".to_owned(), "2s".to_owned());
        }
        settings.extend(through_proxy.iter().map(|name| ((*name).to_owned(), proxy.url(&given[*name]))));
        let app =
            TestApp::unready(Different { settings, database: Some(database.to_owned()), things: Some(things::FRESH) })
                .await;
        app.ready().await;
        let (tenant, stranger) = (app.tenant("acme").await, app.tenant("stranger").await);
        Self { app, proxy, tenant, stranger, clients: if full { 16 } else { 6 } }
    }

    /// Clients that read from Postgres each time.
    fn readers(&self) -> Watch {
        self.some_readers(self.clients)
    }

    fn some_readers(&self, clients: usize) -> Watch {
        Watch::get(clients, &self.app, "/v1/tenant", &self.tenant.read_key)
    }

    /// Clients that write.
    fn writers(&self, clients: usize) -> Watch {
        let (client, key) = (self.app.client.clone(), self.tenant.key.clone());
        Watch::start(clients, move || client.request(reqwest::Method::POST, "/v1/faults/lock?ms=0", &key))
    }

    /// Runs SQL of an administrator; `{}` is the database.
    async fn as_admin(&self, sql: &str) {
        let sql = sql.replace("{}", &self.app.database);
        services::admin().await.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    /// Ends the sessions on the database but these, as a restart or a failover does.
    async fn end_sessions(&self, but: &[i32]) {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> all ($2)";
        let query = sqlx::query(sql).bind(&self.app.database).bind(but);
        query.execute(&mut services::admin().await).await.unwrap();
    }

    pub async fn stop(self) {
        // A login that fell silent half way keeps its place in the server for a minute, and `drop database` waits.
        drop(self.proxy);
        self.app.stop().await;
    }
}

/// For how long a fault lasts.
fn lasts(full: bool, seconds: u64) -> Duration {
    if full { Duration::from_secs(seconds) } else { Duration::from_secs(1) }
}

/// The first success of a tenant whose key has to be looked up, by the system role.
async fn strangers_recovery(world: &World, end: std::time::Instant) -> Recovery {
    let watch = Watch::get(1, &world.app, "/v1/tenant", &world.stranger.read_key);
    let recovery = watch.recovery(end).await;
    watch.stop().await;
    recovery
}
