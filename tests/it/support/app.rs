//! The application as `main` starts it, on free ports and a database of its own.

use std::{
    collections::BTreeMap,
    ops::Deref,
    time::{Duration, Instant},
};

use keel::{
    app::{App, Running},
    config::Config,
    platform::{
        config::Sources,
        db::SystemTx,
        tenancy::{
            Scope, TenantId,
            api_key::{NewKey, Pepper},
            store,
        },
    },
};
use uuid::Uuid;

use super::shop;
use super::{
    client::{Answer, Client, Tenant},
    eventually, services,
    sinks::SHARED,
    things::{self, Things},
};

/// The sum over the series of this name with these labels, in the text of `/metrics`.
pub fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    metrics
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// A running application. Call [`TestApp::stop`] at the end of the test.
pub struct TestApp {
    pub client: Client,
    pub admin: Client,
    pub database: String,
    pub config: Config,
    pub running: Running,
    things: Option<Things>,
    pub shop: Option<shop::Provider>,
}

impl Deref for TestApp {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// How an application differs from the usual.
#[derive(Default)]
pub struct Different {
    pub settings: BTreeMap<String, String>,
    pub database: Option<String>,
    /// Serves [`things`] too; one is fresh in the cache for so long.
    pub things: Option<Duration>,
}

impl TestApp {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts with these variables set, and waits until it is ready.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        Self::different(settings, None).await
    }

    /// The same, with [`things`].
    pub async fn with_things(settings: &[(&str, &str)]) -> Self {
        Self::different(settings, Some(things::FRESH)).await
    }

    async fn different(settings: &[(&str, &str)], things: Option<Duration>) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let app = Self::unready(Different { settings, database: None, things }).await;
        app.ready().await;
        app
    }

    /// Starts without waiting.
    pub async fn unready(different: Different) -> Self {
        let database = match different.database {
            Some(database) => database,
            None => services::database().await,
        };
        let mut variables = services::settings(&database);
        // Tests share one Redis; the prefix keeps them apart.
        variables.insert("APP__REDIS__KEY_PREFIX".to_owned(), format!("test-{}", Uuid::now_v7()));
        variables.extend(different.settings);
        let shop = shop::start(&mut variables).await;
        let sources = Sources { directory: None, variables, built_in: keel::config::FILES };
        let config = keel::config::load(&sources).servable().unwrap();
        let mut app = App::build(&config, &SHARED.telemetry).unwrap();
        let mut things = None;
        if let Some(fresh) = different.things {
            let served = Things::create(&app, &config, &database, fresh).await;
            app = app.with_routes(served.routes());
            things = Some(served);
        }
        let running = app.start(Instant::now()).await.unwrap();
        Self {
            client: Client::new(format!("http://{}", running.public)),
            admin: Client::new(format!("http://{}", running.admin.unwrap())),
            database,
            config,
            running,
            things,
            shop,
        }
    }

    pub async fn ready(&self) {
        eventually("readiness", || async {
            let answer = self.admin.get("/health/ready", "").await;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// A new tenant with its keys.
    pub async fn tenant(&self, slug: &str) -> Tenant {
        let pepper = Pepper::new(self.config.auth.pepper.as_ref().unwrap(), None);
        let id = TenantId::new();
        let mut tx = SystemTx::begin(self.running.app.db()).await.unwrap();
        store::insert_tenant(&mut tx, id, slug, None).await.unwrap();
        let mut keys = Vec::new();
        for scope in [Scope::Write, Scope::Read] {
            let key = NewKey::generate(&pepper).unwrap();
            store::insert_key(&mut tx, id.as_uuid(), &key.id, "test", scope, &key.hash).await.unwrap();
            keys.push(key.text);
        }
        tx.commit().await.unwrap();
        Tenant { id, read_key: keys.pop().unwrap(), key: keys.pop().unwrap() }
    }

    /// The value of one series, 0 when it does not exist. `labels` as `name="value"`, any order.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let own = self.things.as_ref().map_or(0.0, |things| sum(&things.metrics(), name, labels));
        own + sum(&self.metrics().await, name, labels)
    }

    pub async fn metrics(&self) -> String {
        let answer: Answer = self.admin.get("/metrics", "").await;
        assert_eq!(answer.status, 200);
        answer.text
    }

    /// Drains and stops the application and drops its database.
    pub async fn stop(self) {
        let database = self.database.clone();
        assert!(self.running.shutdown().await, "the drain fits its deadline");
        shop::stop(self.shop).await;
        services::drop_database(&database).await;
    }
}
