//! Transactions that meet each other: a deadlock and a storm of serialization failures, run again by the service.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use crate::{
    chaos::{Row, postgres::World, watch::Seen},
    support::{TestApp, client::Tenant, eventually, services},
};

async fn product(app: &TestApp, tenant: &Tenant, sku: &str) -> Uuid {
    let body = json!({"sku": sku, "name": "Plank", "price": {"amount_minor": 1, "currency": "EUR"}, "stock": 1000});
    app.post("/v1/products", &tenant.key, &body).await.ok(201)["id"].as_str().unwrap().parse().unwrap()
}

fn order(app: &TestApp, tenant: &Tenant, products: &[Uuid]) -> reqwest::RequestBuilder {
    let lines: Vec<_> = products.iter().map(|product| json!({"product_id": product, "quantity": 1})).collect();
    let request =
        app.request(Method::POST, "/v1/orders", &tenant.key).header("idempotency-key", Uuid::now_v7().to_string());
    request.json(&json!({"lines": lines, "payment_method": "tok_ok"}))
}

async fn retries(app: &TestApp) -> f64 {
    app.metric("database_transaction_retries_total", &[]).await
}

/// A database with this setting for all its sessions.
async fn world(full: bool, setting: &str) -> World {
    let database = services::database().await;
    let sql = AssertSqlSafe(format!("alter database {database} set {setting}"));
    services::admin().await.execute(sql).await.unwrap();
    World::with(full, &database, &[]).await
}

/// An order locks the first product and waits for the second; whoever holds that then wants the first.
async fn deadlock(full: bool) -> (Seen, f64, f64) {
    // The order's session looks for a deadlock once, so long after it began to wait.
    let world = world(full, "deadlock_timeout = '700ms'").await;
    let (app, tenant) = (&world.app, &world.tenant);
    let mut products = [product(app, tenant, "A").await, product(app, tenant, "B").await];
    products.sort_unstable();
    let url = services::with_database(&services::variable("TEST_ADMIN_DATABASE_URL"), &app.database);
    let mut other = PgConnection::connect(&url).await.unwrap();
    let lock = |id: Uuid| AssertSqlSafe(format!("update products set name = name where id = '{id}'"));
    // It looks much later: the order is the one that is given up.
    other.execute("begin; set local deadlock_timeout = '30s'").await.unwrap();
    other.execute(lock(products[1])).await.unwrap();
    let placing = tokio::spawn(Seen::of(order(app, tenant, &products)));
    eventually("the order to wait for the second product", || async {
        let sql = "select exists (select from pg_stat_activity where datname = $1 and wait_event_type = 'Lock')";
        let mut admin = services::admin().await;
        let waits: bool = sqlx::query_scalar(sql).bind(&app.database).fetch_one(&mut admin).await.unwrap();
        waits.then_some(())
    })
    .await;
    other.execute(lock(products[0])).await.unwrap();
    other.execute("commit").await.unwrap();
    let answer = placing.await.unwrap();
    let succeeded = app.metric("database_transaction_retries_total", &["outcome=\"success\""]).await;
    let charges = app.charges().await.len() as f64;
    world.stop().await;
    (answer, succeeded, charges)
}

pub async fn run(full: bool) {
    let (answer, succeeded, charges) = deadlock(full).await;
    Row {
        number: "4i1",
        fault: "an order in a deadlock (40P01)".to_owned(),
        expected: "run again by the service: 201, one charge".to_owned(),
        seen: format!("{} after {succeeded} retry, {charges} charge", answer.status),
        recovery: format!("{:.2} s", answer.took.as_secs_f64()),
        held: (answer.status, succeeded, charges) == (201, 1.0, 1.0),
    }
    .record(true);

    // With it Postgres refuses what comes second, instead of letting it wait and go on.
    let world = world(full, "default_transaction_isolation = 'repeatable read'").await;
    let (app, tenant) = (&world.app, &world.tenant);
    let hot = product(app, tenant, "HOT").await;
    let (rounds, at_once) = if full { (50, 8) } else { (5, 4) };
    let mut answers = Vec::new();
    for _ in 0..rounds {
        answers.extend(join_all((0..at_once).map(|_| Seen::of(order(app, tenant, &[hot])))).await);
    }
    let (asked, placed) = (answers.len(), answers.iter().filter(|answer| answer.is_ok()).count());
    let wrong = answers.iter().filter(|answer| !answer.is_ok() && answer.code != "database_conflict").count();
    // An order whose second transaction was refused is settled by its job.
    let (orders, charges, stock) = eventually("all orders to be settled", || async {
        let sql = "select count(*), count(*) filter (where status = 'paid') from orders";
        let url = services::with_database(&services::variable("TEST_ADMIN_DATABASE_URL"), &app.database);
        let mut admin = PgConnection::connect(&url).await.unwrap();
        let (all, paid): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut admin).await.unwrap();
        let stock: i32 = sqlx::query_scalar("select stock from products").fetch_one(&mut admin).await.unwrap();
        (all == paid).then_some((all, app.charges().await.len(), stock))
    })
    .await;
    let again = retries(app).await;
    Row {
        number: "4i2",
        fault: format!("{asked} orders for one product, {at_once} at once, repeatable read (40001)"),
        expected: "201, or 503 after two retries; nothing lost, nothing twice".to_owned(),
        seen: format!(
            "{placed} × 201, {} × 503 database_conflict, {wrong} else; {again} retries; {orders} orders, {charges} charges, \
             stock less {}",
            asked - placed - wrong,
            1000 - stock
        ),
        recovery: "–".to_owned(),
        held: wrong == 0
            && again > 0.0
            && again <= 4.0 * asked as f64
            && placed as i64 <= orders
            && charges as i64 == orders
            && i64::from(1000 - stock) == orders,
    }
    .record(true);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_meet_are_run_again() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    run(true).await;
}
