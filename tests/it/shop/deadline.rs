//! One deadline: what the database has used of it is not there for the provider.

use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{Connection as _, Executor as _};

use super::orders::{order, place, product};
use crate::support::{TestApp, services, sinks::SHARED};

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_gets_what_the_database_left() {
    let app = TestApp::with(&[
        ("APP__HTTP__REQUEST_TIMEOUT", "1500ms"),
        ("APP__HTTP__BODY_TIMEOUT", "1s"),
        ("APP__SHOP__PAYMENTS__TIMEOUT", "1400ms"),
    ])
    .await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 100, "EUR", 9).await;
    let mut other = services::connect("DATABASE_MIGRATION_URL", &app.database).await;
    let mut holding = other.begin().await.unwrap();
    // Row-level security is for the owner too.
    let tenant = format!("set local app.tenant_id = '{}'", acme.id);
    holding.execute(sqlx::AssertSqlSafe(tenant)).await.unwrap();
    holding.execute("lock table products in exclusive mode").await.unwrap();
    let started = Instant::now();
    let release = async {
        tokio::time::sleep_until((started + Duration::from_millis(700)).into()).await;
        holding.rollback().await.unwrap();
    };
    let body = order(&oak, 1, "tok_timeout");
    let (answer, ()) = tokio::join!(place(&app, &acme, "k-1", &body), release);
    // With 1,400 ms of its own the provider would have been waited for past the deadline.
    assert_eq!(answer.ok(202)["status"], "payment_pending");
    assert!(started.elapsed() < Duration::from_millis(1_500), "{:?}", started.elapsed());
    let lines = SHARED.logs("request_id", answer.header("x-request-id")).await;
    // The sandbox has one of its own, with the same ids.
    let is_ours = |line: &&Value| line["message"] == "request_completed" && line["route"] == "/v1/orders";
    let line = lines.iter().find(is_ours).unwrap();
    assert!(line["db_ms"].as_f64().unwrap() >= 500.0, "the lock was waited for: {line}");
    app.stop().await;
}
