//! `kill -9` at the worst moments: after a restart nothing is lost, nothing is charged twice.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use reqwest::Method;
use serde_json::json;
use tokio::sync::{Notify, mpsc};

use crate::support::{
    Answer,
    client::Client,
    eventually,
    process::{Process, Service, run, settings, text},
    services,
    sinks::Collector,
};

struct World {
    database: String,
    variables: BTreeMap<String, String>,
    key: String,
    sandbox: Process,
    books: Client,
}

impl World {
    /// A database, a tenant with its key, and the provider as a process of its own.
    async fn new(webhook: Option<&str>) -> Self {
        let database = services::database().await;
        let mut variables = settings(&database);
        variables.insert("APP__JOBS__LEASE".to_owned(), "1s".to_owned());
        let mut create = vec!["tenant", "create", "acme"];
        create.extend(webhook.iter().flat_map(|url| ["--webhook-url", *url]));
        assert!(run(&create, &variables).status.success());
        let key = run(&["api-key", "create", "--tenant", "acme", "--scope", "write", "--name", "test"], &variables);
        let sandbox = Process::spawn(&["payment-sandbox"], &variables);
        let line = sandbox.line("payment_sandbox_started").await;
        let url = format!("http://{}", line["listen_address"].as_str().unwrap());
        variables.insert("APP__SHOP__PAYMENTS__URL".to_owned(), url.clone());
        Self { database, variables, key: text(&key.stdout).trim().to_owned(), sandbox, books: Client::new(url) }
    }

    async fn service(&self) -> (Service, Client) {
        let service = Service::serve(&self.variables);
        let (public, admin) = service.clients().await;
        eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) }).await;
        (service, public)
    }

    async fn product(&self, public: &Client) -> String {
        let body = json!({"sku": "OAK", "name": "Oak", "price": {"amount_minor": 100, "currency": "EUR"}, "stock": 10});
        public.post("/v1/products", &self.key, &body).await.ok(201)["id"].as_str().unwrap().to_owned()
    }

    fn order(&self, public: &Client, product: &str, method: &str) -> reqwest::RequestBuilder {
        let body = json!({"lines": [{"product_id": product, "quantity": 1}], "payment_method": method});
        public.request(Method::POST, "/v1/orders", &self.key).header("idempotency-key", "k-1").json(&body)
    }

    async fn charges(&self) -> Vec<serde_json::Value> {
        self.books.get("/charges", "").await.ok(200)["data"].as_array().unwrap().clone()
    }

    async fn end(self, mut service: Service) {
        service.signal("TERM");
        assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
        drop(self.sandbox);
        services::drop_database(&self.database).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_charge_and_settle_the_order_is_paid_after_a_restart_and_charged_once() {
    let world = World::new(None).await;
    let (service, public) = world.service().await;
    let product = world.product(&public).await;
    // The provider has charged and takes most of a second to say so.
    let request = world.order(&public, &product, "tok_slow");
    let asked = tokio::spawn(async move { request.send().await });
    let charged = eventually("the charge", || async { world.charges().await.first().cloned() }).await;
    service.signal("KILL");
    assert!(asked.await.unwrap().is_err(), "the client got no answer");
    drop(service);

    let (service, public) = world.service().await;
    let path = format!("/v1/orders/{}", charged["order_id"].as_str().unwrap());
    eventually("the settled order", || async {
        (public.get(&path, &world.key).await.ok(200)["status"] == "paid").then_some(())
    })
    .await;
    assert_eq!(world.charges().await.len(), 1);
    // The client's retry gets the answer it missed.
    let replay = Answer::of(world.order(&public, &product, "tok_slow")).await;
    assert_eq!(
        (replay.ok(201)["id"].clone(), replay.header("idempotent-replayed")),
        (charged["order_id"].clone(), "true")
    );
    assert_eq!(world.charges().await.len(), 1);
    let stock = public.get(&format!("/v1/products/{product}"), &world.key).await.ok(200)["stock"].clone();
    assert_eq!(stock, 9);
    world.end(service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_settling_a_pending_order_it_is_charged_once() {
    let mut world = World::new(None).await;
    // The provider is away: its port is free, nothing listens.
    let address = world.books.base.trim_start_matches("http://").to_owned();
    world.sandbox.signal("KILL");
    world.sandbox.exit(Duration::from_secs(5)).await;
    let (service, public) = world.service().await;
    let product = world.product(&public).await;
    let pending = Answer::of(world.order(&public, &product, "tok_slow")).await.ok(202);
    // It comes back, and the job charges; in the middle of that the service dies.
    world.variables.insert("APP__SHOP__SANDBOX__BIND".to_owned(), address);
    world.sandbox = Process::spawn(&["payment-sandbox"], &world.variables);
    world.sandbox.line("payment_sandbox_started").await;
    eventually("the charge by the job", || async { world.charges().await.first().cloned() }).await;
    service.signal("KILL");
    drop(service);

    let (service, public) = world.service().await;
    let path = format!("/v1/orders/{}", pending["id"].as_str().unwrap());
    eventually("the settled order", || async {
        (public.get(&path, &world.key).await.ok(200)["status"] == "paid").then_some(())
    })
    .await;
    assert_eq!(world.charges().await.len(), 1);
    world.end(service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_one_trace_over_both_processes() {
    let mut world = World::new(None).await;
    let collector = Collector::start();
    world.sandbox.signal("TERM");
    world.sandbox.exit(Duration::from_secs(30)).await;
    world.variables.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.endpoint.clone());
    world.variables.insert("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "100".to_owned());
    world
        .variables
        .insert("APP__SHOP__SANDBOX__BIND".to_owned(), world.books.base.trim_start_matches("http://").to_owned());
    world.sandbox = Process::spawn(&["payment-sandbox"], &world.variables);
    world.sandbox.line("payment_sandbox_started").await;
    let (service, public) = world.service().await;
    let product = world.product(&public).await;
    let placed = Answer::of(world.order(&public, &product, "tok_ok")).await;
    placed.ok(201);
    let trace = eventually("both ends of the trace", || async {
        let trace = collector.trace(placed.header("x-trace-id"));
        let from = |service: &str| trace.iter().any(|seen| seen.resource("service.name").as_deref() == Some(service));
        (from("keel") && from("payment-sandbox") && trace.iter().any(|seen| seen.span.name == "POST /v1/orders"))
            .then_some(trace)
    })
    .await;
    let find = |service: &str, name: &str, kind: i32| {
        trace
            .iter()
            .find(|seen| {
                seen.span.name == name
                    && seen.span.kind == kind
                    && seen.resource("service.name").as_deref() == Some(service)
            })
            .unwrap_or_else(|| panic!("{service} {name}: {trace:#?}"))
    };
    let call = find("keel", "POST /charges", 3);
    assert_eq!(
        find("payment-sandbox", "POST /charges", 2).parent(),
        call.id(),
        "the sandbox's server span hangs on our call"
    );
    assert_eq!(call.parent(), find("keel", "orders.charge", 1).id());
    for (name, kind) in [("INSERT orders", 3), ("SET", 3), ("POST /v1/orders", 2)] {
        find("keel", name, kind);
    }
    world.end(service).await;
}

/// Takes webhooks, says so, and answers when told to.
async fn receiver() -> (String, mpsc::UnboundedReceiver<String>, std::sync::Arc<Notify>) {
    let (seen, webhooks) = mpsc::unbounded_channel();
    let answer = std::sync::Arc::new(Notify::new());
    let receive = post(
        |State((seen, answer)): State<(mpsc::UnboundedSender<String>, std::sync::Arc<Notify>)>, headers: HeaderMap| async move {
            seen.send(headers["webhook-id"].to_str().unwrap().to_owned()).unwrap();
            answer.notified().await;
            StatusCode::NO_CONTENT
        },
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", receive).with_state((seen, std::sync::Arc::clone(&answer)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, webhooks, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_job_between_webhook_sent_and_marked_it_is_sent_again_with_the_same_id() {
    let (url, mut webhooks, answer) = receiver().await;
    let world = World::new(Some(&url)).await;
    let (service, public) = world.service().await;
    let product = world.product(&public).await;
    Answer::of(world.order(&public, &product, "tok_ok")).await.ok(201);
    let first = webhooks.recv().await.unwrap();
    service.signal("KILL");
    drop(service);

    let (service, _) = world.service().await;
    // The lease of the dead process runs out, and the job is taken anew.
    let again = tokio::time::timeout(Duration::from_secs(30), webhooks.recv()).await.unwrap().unwrap();
    assert_eq!(again, first);
    answer.notify_waiters();
    answer.notify_one();
    eventually("the finished job", || async {
        let mut database = services::connect("DATABASE_SYSTEM_URL", &world.database).await;
        let left: i64 = sqlx::query_scalar("select count(*) from jobs").fetch_one(&mut database).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    assert_eq!(world.charges().await.len(), 1);
    world.end(service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_at_sigterm_is_finished_before_the_exit() {
    let (url, mut webhooks, answer) = receiver().await;
    let mut world = World::new(Some(&url)).await;
    world.variables.insert("APP__JOBS__LEASE".to_owned(), "60s".to_owned());
    let (mut service, public) = world.service().await;
    let product = world.product(&public).await;
    Answer::of(world.order(&public, &product, "tok_ok")).await.ok(201);
    webhooks.recv().await.unwrap();
    service.signal("TERM");
    service.line("shutdown_started").await;
    answer.notify_one();
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
    let mut system = services::connect("DATABASE_SYSTEM_URL", &world.database).await;
    let left: i64 = sqlx::query_scalar("select count(*) from jobs").fetch_one(&mut system).await.unwrap();
    assert_eq!(left, 0, "done and written down");
    assert!(webhooks.try_recv().is_err(), "and sent once");
    drop((system, world.sandbox));
    services::drop_database(&world.database).await;
}
