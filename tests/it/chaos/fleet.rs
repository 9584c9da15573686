//! What rows with processes stand on: one database, and any number of instances of the built
//! binary. Rows that need no process use `TestApp`.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use uuid::Uuid;

use crate::support::shop;
use crate::support::{
    app,
    client::Client,
    eventually,
    harness::Backend,
    process::{Service, run, settings, text},
    services,
};

/// On a busy machine; nothing waits so long that is right.
pub const SOON: Duration = Duration::from_secs(30);

/// A database with what the instances share.
pub struct Fleet {
    pub variables: BTreeMap<String, String>,
    database: String,
    _shop: crate::support::process::Process,
}

/// One instance of the service.
pub struct Instance {
    pub process: Service,
    pub public: SocketAddr,
    pub admin: Client,
}

impl Fleet {
    pub async fn new(full: bool, different: &[(&str, &str)]) -> Self {
        let database = services::database().await;
        let mut variables = settings(&database);
        // A line for each request would be work for whoever reads them, and that is the test.
        variables.insert("RUST_LOG".to_owned(), "warn,keel::app=info,keel::cli=info".to_owned());
        if !full {
            // A debug build needs tens of milliseconds of a core to log in, and other tests have the cores.
            variables.insert("APP__DATABASE__ACQUIRE_TIMEOUT".to_owned(), "4s".to_owned());
        }
        let shop = shop::spawn(&mut variables).await;
        let different = different.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self {
            // Who asks for something else gets it.
            variables: variables.into_iter().chain(different).collect(),
            database,
            _shop: shop,
        }
    }

    /// The key of a new tenant.
    pub fn tenant(&self, slug: &str) -> String {
        assert!(run(&["tenant", "create", slug], &self.variables).status.success());
        let arguments = ["api-key", "create", "--tenant", slug, "--scope", "write", "--name", "chaos"];
        text(&run(&arguments, &self.variables).stdout).trim().to_owned()
    }

    /// A new instance, with its listeners open.
    pub async fn start(&self) -> Instance {
        Instance::of(Service::serve(&self.variables)).await
    }

    pub async fn ready(&self) -> Instance {
        let instance = self.start().await;
        instance.ready().await;
        instance
    }

    pub async fn end(self) {
        services::drop_database(&self.database).await;
    }
}

impl Instance {
    pub async fn of(process: Service) -> Self {
        let (client, admin) = process.clients().await;
        let public = client.base.trim_start_matches("http://").parse().unwrap();
        Self { process, public, admin }
    }

    pub async fn ready(&self) {
        eventually("readiness", || async { (self.admin.get("/health/ready", "").await.status == 200).then_some(()) })
            .await;
    }

    pub fn backend(&self) -> Backend {
        Backend { address: self.public, health: self.public, health_path: "/health/ready".to_owned() }
    }

    /// The sum of the series with these labels.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        app::sum(&self.admin.get("/metrics", "").await.text, name, labels)
    }

    /// Ends it with SIGTERM; the exit code.
    pub async fn terminate(mut self) -> i32 {
        self.process.signal("TERM");
        self.process.exit(SOON).await
    }
}

/// Any moment before this one.
pub fn random(below: Duration) -> Duration {
    below.mul_f64(f64::from(u32::try_from(Uuid::new_v4().as_u128() >> 96).unwrap()) / f64::from(u32::MAX))
}
