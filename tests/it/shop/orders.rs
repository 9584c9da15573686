//! Orders: nothing lost, nothing twice.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestApp, client::Tenant, eventually, services, sinks::SHARED};

pub async fn product(app: &TestApp, tenant: &Tenant, sku: &str, price: i64, currency: &str, stock: i64) -> String {
    let body =
        json!({"sku": sku, "name": "Plank", "price": {"amount_minor": price, "currency": currency}, "stock": stock});
    app.post("/v1/products", &tenant.key, &body).await.ok(201)["id"].as_str().unwrap().to_owned()
}

pub async fn place(app: &TestApp, tenant: &Tenant, key: &str, body: &Value) -> Answer {
    Answer::of(app.request(Method::POST, "/v1/orders", &tenant.key).header("idempotency-key", key).json(body)).await
}

pub fn order(product: &str, quantity: i64, method: &str) -> Value {
    json!({"lines": [{"product_id": product, "quantity": quantity}], "payment_method": method})
}

async fn stock(app: &TestApp, tenant: &Tenant, product: &str) -> i64 {
    app.get(&format!("/v1/products/{product}"), &tenant.key).await.ok(200)["stock"].as_i64().unwrap()
}

async fn settled(app: &TestApp, tenant: &Tenant, id: &str, status: &str) -> Value {
    eventually(status, || async {
        let order = app.get(&format!("/v1/orders/{id}"), &tenant.key).await.ok(200);
        (order["status"] == status).then_some(order)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_paid_replayed_and_cancelled() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    let ash = product(&app, &acme, "ASH", 500, "EUR", 10).await;
    assert_eq!(stock(&app, &acme, &oak).await, 10);
    let body = json!({"lines": [{"product_id": oak, "quantity": 3}, {"product_id": ash, "quantity": 1}], "payment_method": "tok_ok"});
    let placed = place(&app, &acme, "k-1", &body).await;
    let paid = placed.ok(201);
    assert_eq!((&paid["status"], &paid["total"]), (&json!("paid"), &json!({"amount_minor": 6497, "currency": "EUR"})));
    assert_eq!(paid["lines"].as_array().unwrap().len(), 2);
    assert_eq!(placed.header("idempotent-replayed"), "");
    assert_eq!(app.get(placed.header("location"), &acme.key).await.ok(200), paid);
    assert_eq!((stock(&app, &acme, &oak).await, stock(&app, &acme, &ash).await), (7, 9));

    let spaced = serde_json::to_string_pretty(&body).unwrap();
    let replay = app
        .request(Method::POST, "/v1/orders", &acme.key)
        .header("idempotency-key", "k-1")
        .header("content-type", "application/json")
        .body(spaced);
    let replay = Answer::of(replay).await;
    assert_eq!((replay.status, &replay.text, replay.header("idempotent-replayed")), (201, &placed.text, "true"));
    place(&app, &acme, "k-1", &order(&oak, 1, "tok_ok")).await.problem(422, "idempotency_key_reused");
    assert_eq!(app.charges().await.len(), 1);
    assert_eq!(app.charges().await[0]["amount_minor"], 6497);

    let globex = app.tenant("globex").await;
    let theirs = product(&app, &globex, "OAK", 1, "EUR", 1).await;
    place(&app, &globex, "k-1", &order(&theirs, 1, "tok_ok")).await.ok(201);
    place(&app, &globex, "k-2", &order(&oak, 1, "tok_ok")).await.problem(422, "validation_failed");

    let cancel = format!("{}/cancel", placed.header("location"));
    let cancelled = app.post(&cancel, &acme.key, &json!(null)).await.ok(200);
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(app.post(&cancel, &acme.key, &json!(null)).await.ok(200), cancelled, "twice is once");
    assert_eq!((stock(&app, &acme, &oak).await, stock(&app, &acme, &ash).await), (10, 10));
    eventually("the refund", || async {
        app.charges()
            .await
            .iter()
            .any(|charge| charge["order_id"] == paid["id"] && charge["refunded"] == true)
            .then_some(())
    })
    .await;
    let list = app.get("/v1/orders?limit=1", &acme.key).await.ok(200);
    assert_eq!((list["data"].as_array().unwrap().len(), &list["next_cursor"]), (1, &json!(null)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_payment_is_a_402_that_gives_the_stock_back_and_is_replayed() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    let first = place(&app, &acme, "k-1", &order(&oak, 3, "tok_declined")).await;
    first.problem(402, "payment_declined");
    let replay = place(&app, &acme, "k-1", &order(&oak, 3, "tok_declined")).await;
    assert_eq!(
        (replay.status, &replay.text, replay.header("content-type")),
        (402, &first.text, "application/problem+json")
    );
    assert_eq!(stock(&app, &acme, &oak).await, 10);
    let orders = app.get("/v1/orders", &acme.key).await.ok(200);
    assert_eq!(orders["data"][0]["status"], "payment_declined");
    let cancel = format!("/v1/orders/{}/cancel", orders["data"][0]["id"].as_str().unwrap());
    app.post(&cancel, &acme.key, &json!(null)).await.problem(409, "order_not_cancellable");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_a_202_that_settles_by_itself_and_charges_once() {
    let app =
        TestApp::with(&[("APP__SHOP__PAYMENTS__TIMEOUT", "300ms"), ("APP__SHOP__PAYMENTS__SETTLE_AFTER", "4s")]).await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    for method in ["tok_error", "tok_timeout"] {
        let placed = place(&app, &acme, method, &order(&oak, 1, method)).await;
        let pending = placed.ok(202);
        assert_eq!(pending["status"], "payment_pending");
        let id = pending["id"].as_str().unwrap();
        settled(&app, &acme, id, "paid").await;
        let replay = place(&app, &acme, method, &order(&oak, 1, method)).await;
        assert_eq!((replay.status, &replay.text), (202, &placed.text), "the first answer stays");
        let charges: Vec<_> = app.charges().await.into_iter().filter(|charge| charge["order_id"] == id).collect();
        assert_eq!(charges.len(), 1);
    }
    assert_eq!(stock(&app, &acme, &oak).await, 8);
    assert_eq!(app.metric("shop_orders_total", &["outcome=\"paid\""]).await, 2.0, "each counted once, when settled");
    assert_eq!(app.metric("shop_payments_total", &["outcome=\"unknown\""]).await, 2.0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_provider_is_waited_for() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    assert_eq!(place(&app, &acme, "k-1", &order(&oak, 1, "tok_slow")).await.ok(201)["status"], "paid");
    // What the provider will never take is a decline, not a question to ask for ever.
    place(&app, &acme, "k-2", &order(&oak, 1, "tok_nonsense")).await.problem(402, "payment_declined");
    // A twin in the middle of it is told so.
    let body = order(&oak, 1, "tok_slow");
    let (first, twin) = tokio::join!(place(&app, &acme, "k-3", &body), async {
        eventually("the first is at the provider", || async { (app.charges().await.len() == 2).then_some(()) }).await;
        place(&app, &acme, "k-3", &body).await
    });
    first.ok(201);
    twin.problem(409, "idempotency_key_in_progress");
    assert_eq!(app.charges().await.len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_gone_leaves_orders_pending_and_is_not_hammered() {
    // Nothing listens there; the breaker opens.
    let app = TestApp::with(&[("APP__SHOP__PAYMENTS__URL", "http://127.0.0.1:1")]).await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    for n in 0..5 {
        let pending = place(&app, &acme, &format!("k-{n}"), &order(&oak, 1, "tok_ok")).await.ok(202);
        let cancel = format!("/v1/orders/{}/cancel", pending["id"].as_str().unwrap());
        app.post(&cancel, &acme.key, &json!(null)).await.problem(409, "order_payment_pending");
    }
    assert_eq!(app.metric("circuit_breaker_open", &["dependency=\"payment_provider\""]).await, 1.0);
    assert!(app.metric("http_client_request_duration_seconds_count", &["error_type=\"connect\""]).await >= 5.0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_orders_at_once_for_a_stock_of_ten_sell_ten() {
    let app = TestApp::with(&[("APP__HTTP__REQUEST_TIMEOUT", "30s"), ("APP__DATABASE__ACQUIRE_TIMEOUT", "20s")]).await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 100, "EUR", 10).await;
    let body = order(&oak, 1, "tok_ok");
    let keys: Vec<String> = (0..100).map(|n| format!("k-{n}")).collect();
    let answers = join_all(keys.iter().map(|key| place(&app, &acme, key, &body))).await;
    let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
    for answer in &answers {
        *seen.entry(answer.status).or_default() += 1;
        match answer.status {
            201 => {}
            409 => drop(answer.problem(409, "insufficient_stock")),
            // Waiting for the row longer than the role's lock_timeout: nothing was done.
            503 => drop(answer.problem(503, "database_busy")),
            other => panic!("{other}: {}", answer.text),
        }
    }
    assert_eq!(seen[&201], 10, "{seen:?}");
    assert_eq!(stock(&app, &acme, &oak).await, 0);
    let charges = app.charges().await;
    assert_eq!(charges.len(), 10, "never charged without an order");
    let orders = app.get("/v1/orders?limit=100", &acme.key).await.ok(200);
    let orders = orders["data"].as_array().unwrap();
    assert_eq!(orders.len(), 10);
    assert!(
        charges
            .iter()
            .all(|charge| orders.iter().any(|order| order["id"] == charge["order_id"] && order["status"] == "paid"))
    );
    assert_eq!(app.metric("shop_revenue_minor_units_total", &["currency=\"EUR\""]).await, 1_000.0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_posts_with_one_key_are_one_order_and_one_charge() {
    let app = TestApp::with(&[("APP__HTTP__REQUEST_TIMEOUT", "30s"), ("APP__DATABASE__ACQUIRE_TIMEOUT", "20s")]).await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 100, "EUR", 10).await;
    let body = order(&oak, 1, "tok_ok");
    let answers = join_all((0..100).map(|_| place(&app, &acme, "one-key", &body))).await;
    let mut fresh = 0;
    for answer in &answers {
        match answer.status {
            201 => fresh += usize::from(answer.header("idempotent-replayed").is_empty()),
            409 => {
                answer.problem(409, "idempotency_key_in_progress");
                assert_eq!(answer.header("retry-after"), "1");
            }
            503 => drop(answer.problem(503, "database_busy")),
            other => panic!("{other}: {}", answer.text),
        }
    }
    assert_eq!(fresh, 1);
    assert_eq!((app.charges().await.len(), stock(&app, &acme, &oak).await), (1, 9));
    assert_eq!(app.metric("idempotency_requests_total", &["outcome=\"new\""]).await, 1.0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_rule_is_refused_and_keeps_no_key() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 999_999_999_999, "EUR", 1_000_000_000).await;
    let usd = product(&app, &acme, "USD", 1, "USD", 10).await;
    let none = "01890000-0000-7000-8000-00000000000a";
    let two = |a: &str, b: &str| json!({"lines": [{"product_id": a, "quantity": 1}, {"product_id": b, "quantity": 1}], "payment_method": "tok_ok"});
    let cases = [
        (json!({"lines": [], "payment_method": "tok_ok"}), "lines"),
        (order(&oak, 0, "tok_ok"), "lines[0].quantity"),
        (order(&oak, 1_000_001, "tok_ok"), "lines[0].quantity"),
        (order(none, 1, "tok_ok"), "lines[0].product_id"),
        (two(&oak, &oak), "lines[1].product_id"),
        (two(&oak, &usd), "lines"),
        (order(&oak, 1, ""), "payment_method"),
    ];
    for (body, field) in cases {
        let problem = place(&app, &acme, "k-1", &body).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    place(&app, &acme, "k-1", &order(&usd, 11, "tok_ok")).await.problem(409, "insufficient_stock");
    // The refusals kept nothing: the key is free.
    place(&app, &acme, "k-1", &order(&usd, 1, "tok_ok")).await.ok(201);
    let bare = app.request(Method::POST, "/v1/orders", &acme.key).json(&order(&usd, 1, "tok_ok"));
    Answer::of(bare).await.problem(400, "idempotency_key_required");
    for key in ["", "a b", &"k".repeat(256), "é"] {
        let request = app
            .request(Method::POST, "/v1/orders", &acme.key)
            .header("idempotency-key", key.as_bytes())
            .json(&order(&usd, 1, "tok_ok"));
        Answer::of(request).await.problem(400, "invalid_idempotency_key");
    }
    assert_eq!(app.metric("shop_orders_total", &["outcome=\"insufficient_stock\""]).await, 1.0);
    assert_eq!(app.metric("shop_orders_total", &["outcome=\"validation_failed\""]).await, 7.0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_reads_like_the_code_and_the_job_links_to_it() {
    let app =
        TestApp::with(&[("APP__SHOP__PAYMENTS__TIMEOUT", "300ms"), ("APP__SHOP__PAYMENTS__SETTLE_AFTER", "4s")]).await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    let placed = place(&app, &acme, "k-1", &order(&oak, 1, "tok_error")).await;
    let id = placed.ok(202)["id"].as_str().unwrap().to_owned();
    settled(&app, &acme, &id, "paid").await;
    let trace = SHARED.trace(placed.header("x-trace-id"), 14).await;
    assert!(
        trace
            .iter()
            .any(|seen| seen.span.name == "SET" && seen.attribute("db.system.name").as_deref() == Some("redis"))
    );
    let named =
        |name: &str| trace.iter().find(|seen| seen.span.name == name).unwrap_or_else(|| panic!("{name} in {trace:#?}"));
    let server = named("POST /v1/orders");
    for step in ["orders.validate_stock", "orders.charge", "orders.settle"] {
        assert_eq!(named(step).parent(), server.id(), "{step}");
    }
    assert_eq!(named("INSERT idempotency_keys").parent(), named("orders.validate_stock").id());
    assert_eq!(named("UPDATE orders").parent(), named("orders.settle").id());
    // One call and its one retry, each with the provider's own server span below it.
    let calls: Vec<_> = trace.iter().filter(|seen| seen.span.name == "POST /charges" && seen.span.kind == 3).collect();
    assert_eq!(calls.len(), 2);
    for call in calls {
        assert_eq!(call.parent(), named("orders.charge").id());
        let served = trace.iter().find(|seen| seen.span.kind == 2 && seen.parent() == call.id());
        assert_eq!(served.unwrap().attribute("correlation_id").as_deref(), Some(placed.header("x-correlation-id")));
    }
    let job = eventually("the span of the job", || async {
        SHARED.flush().await;
        SHARED.collector.all().into_iter().find(|seen| {
            seen.span.name == "job orders.settle"
                && seen.attribute("correlation_id").as_deref() == Some(placed.header("x-correlation-id"))
        })
    })
    .await;
    assert_ne!(job.trace_id(), placed.header("x-trace-id"), "a trace of its own");
    let link = &job.span.links[0];
    let linked: String = link.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(linked, placed.header("x-trace-id"));
    assert_eq!(job.span.kind, 5, "CONSUMER");
    let lines = SHARED.logs("correlation_id", placed.header("x-correlation-id")).await;
    let completed =
        lines.iter().find(|line| line["message"] == "job_completed" && line["job"] == "orders.settle").unwrap();
    assert_eq!((&completed["tenant_id"], &completed["trace_id"]), (&json!(acme.id), &json!(job.trace_id())));
    assert_eq!(completed["request_id"], placed.header("x-request-id"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_answers_expire_and_those_in_progress_stay() {
    let app = TestApp::with(&[("APP__IDEMPOTENCY__RETENTION", "1s")]).await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    place(&app, &acme, "k-1", &order(&oak, 1, "tok_ok")).await.ok(201);
    let mut system = services::connect("DATABASE_MIGRATION_URL", &app.database).await;
    sqlx::raw_sql("alter table idempotency_keys no force row level security").execute(&mut system).await.unwrap();
    sqlx::query("insert into idempotency_keys (tenant_id, key, fingerprint) values ($1, 'busy', '')")
        .bind(acme.id.as_uuid())
        .execute(&mut system)
        .await
        .unwrap();
    sqlx::raw_sql("update idempotency_keys set created_at = now() - interval '1 minute'")
        .execute(&mut system)
        .await
        .unwrap();
    sqlx::raw_sql("alter table idempotency_keys force row level security").execute(&mut system).await.unwrap();
    drop(system);
    // The application does this every minute, and perhaps just now.
    app.running.app.idempotency().expire(app.running.app.db()).await.unwrap();
    let mut system = services::connect("DATABASE_SYSTEM_URL", &app.database).await;
    let kept: Vec<String> =
        sqlx::query_scalar("select key from idempotency_keys").fetch_all(&mut system).await.unwrap();
    assert_eq!(kept, ["busy"]);
    drop(system);
    // Free again: a new order.
    place(&app, &acme, "k-1", &order(&oak, 2, "tok_ok")).await.ok(201);
    app.stop().await;
}
