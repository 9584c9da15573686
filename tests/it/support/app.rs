//! The application as `main` starts it, on free ports and a database of its own.

use std::{collections::BTreeMap, ops::Deref, time::Instant};

use keel::shop::sandbox::{self, Sandbox};
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

use super::{
    client::{Answer, Client, Tenant},
    eventually, services,
    sinks::SHARED,
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
    /// The payment provider, unless the test brings its own.
    pub sandbox: Option<(Client, Sandbox)>,
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
}

impl TestApp {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts with these variables set, and waits until it is ready.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let app = Self::unready(Different { settings, database: None }).await;
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
        let own_provider = different.settings.contains_key("APP__SHOP__PAYMENTS__URL");
        variables.extend(different.settings);
        let mut sources = Sources { directory: None, variables, built_in: keel::config::FILES };
        let mut provider = None;
        if !own_provider {
            let config = keel::config::load(&sources).readable().unwrap();
            let started = sandbox::start(&config.shop.sandbox, &config.http, &SHARED.telemetry).await.unwrap();
            let url = format!("http://{}", started.address);
            sources.variables.insert("APP__SHOP__PAYMENTS__URL".to_owned(), url.clone());
            provider = Some((Client::new(url), started));
        }
        let config = keel::config::load(&sources).servable().unwrap();
        let running = App::build(&config, &SHARED.telemetry).unwrap().start(Instant::now()).await.unwrap();
        let client = Client::new(format!("http://{}", running.public));
        let admin = Client::new(format!("http://{}", running.admin.unwrap()));
        Self { client, admin, database, config, running, sandbox: provider }
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

    /// What the payment provider has in its books.
    pub async fn charges(&self) -> Vec<serde_json::Value> {
        let (books, _) = self.sandbox.as_ref().unwrap();
        books.get("/charges", "").await.ok(200)["data"].as_array().unwrap().clone()
    }

    /// The value of one series, 0 when it does not exist. `labels` as `name="value"`, any order.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.metrics().await, name, labels)
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
        if let Some((_, sandbox)) = self.sandbox {
            sandbox.stop().await;
        }
        services::drop_database(&database).await;
    }
}
