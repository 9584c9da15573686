//! What rows with processes stand on: one database, the payment provider, and any number of instances of the built
//! binary. Rows that need no process use `TestApp`.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde_json::json;
use uuid::Uuid;

use crate::support::{
    app,
    client::Client,
    eventually,
    harness::{Backend, exchange},
    process::{Process, Service, run, settings, text},
    services,
};

/// On a busy machine; nothing waits so long that is right.
pub const SOON: Duration = Duration::from_secs(30);

/// A database with what the instances share.
pub struct Fleet {
    pub variables: BTreeMap<String, String>,
    database: String,
    sandbox: Process,
}

/// One instance of the service.
pub struct Instance {
    pub process: Service,
    pub public: SocketAddr,
    pub client: Client,
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
        let sandbox =
            Process::spawn(&["payment-sandbox"], &variables.iter().map(own).filter(|(n, _)| n != "RUST_LOG").collect());
        let line = sandbox.line("payment_sandbox_started").await;
        let url = format!("http://{}", line["listen_address"].as_str().unwrap());
        variables.insert("APP__SHOP__PAYMENTS__URL".to_owned(), url);
        variables.extend(different.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self { variables, database, sandbox }
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
        drop(self.sandbox);
        services::drop_database(&self.database).await;
    }
}

impl Instance {
    pub async fn of(process: Service) -> Self {
        let (client, admin) = process.clients().await;
        let public = client.base.trim_start_matches("http://").parse().unwrap();
        Self { process, public, client, admin }
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

    /// New products with such a name, and enough of each for any number of orders.
    pub async fn products(&self, key: &str, name: &str, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let answer = self.client.post("/v1/products", key, &product(name)).await;
            ids.push(answer.ok(201)["id"].as_str().unwrap().to_owned());
        }
        ids
    }

    /// Ends it with SIGTERM; the exit code.
    pub async fn terminate(mut self) -> i32 {
        self.process.signal("TERM");
        self.process.exit(SOON).await
    }
}

/// The body of a new product.
pub fn product(name: &str) -> serde_json::Value {
    let price = json!({"amount_minor": 100, "currency": "EUR"});
    json!({"sku": Uuid::now_v7().simple().to_string(), "name": name, "price": price, "stock": 1_000_000_000})
}

/// An order of one of this product, the first and only with its idempotency key.
pub fn order(key: &str, product: &str) -> Vec<u8> {
    let body = json!({"lines": [{"product_id": product, "quantity": 1}], "payment_method": "tok_ok"});
    let once = Uuid::now_v7().to_string();
    exchange::post("/v1/orders", key, &body.to_string(), &[("idempotency-key", &once)])
}

/// Any moment before this one.
pub fn random(below: Duration) -> Duration {
    below.mul_f64(f64::from(u32::try_from(Uuid::new_v4().as_u128() >> 96).unwrap()) / f64::from(u32::MAX))
}

fn own((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}
