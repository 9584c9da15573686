//! Confirmations to the tenant: signed, at least once, never in the way of an order.

use keel::platform::{db::SystemTx, tenancy::store};
use serde_json::json;

use super::orders::{order, place, product};
use crate::support::{TestApp, client::Tenant, eventually, process};

async fn set_webhook(app: &TestApp, tenant: &Tenant, url: &str) {
    let mut tx = SystemTx::begin(app.running.app.db()).await.unwrap();
    store::set_webhook(&mut tx, tenant.id.as_uuid(), Some(url)).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_order_is_confirmed_by_a_signed_webhook() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (books, _) = app.sandbox.as_ref().unwrap();
    set_webhook(&app, &acme, &format!("{}/webhooks", books.base)).await;
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    let paid = place(&app, &acme, "k-1", &order(&oak, 1, "tok_ok")).await.ok(201);
    let hook = eventually("the webhook", || async {
        books.get("/webhooks", "").await.ok(200)["data"].as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!((&hook["body"]["type"], &hook["body"]["data"]), (&json!("order.paid"), &paid));
    assert_eq!(hook["id"], hook["body"]["id"]);
    assert!(hook["signature"].as_str().unwrap().starts_with("v1,"));
    let secret = process::run(&["tenant", "webhook-secret", "acme"], &process::settings(&app.database));
    assert!(process::text(&secret.stdout).starts_with("whsec_"), "{secret:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_to_a_private_address_is_refused_and_the_order_stands() {
    let app = TestApp::with(&[("APP__OUTBOUND__ALLOW_PRIVATE", "false")]).await;
    let acme = app.tenant("acme").await;
    let (books, _) = app.sandbox.as_ref().unwrap();
    let port = books.base.rsplit_once(':').unwrap().1.to_owned();
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    for (n, host) in ["https://127.0.0.1", "https://localhost", "https://[::ffff:127.0.0.1]", "http://example.com"]
        .iter()
        .enumerate()
    {
        set_webhook(&app, &acme, &format!("{host}:{port}/webhooks")).await;
        place(&app, &acme, &format!("k-{n}"), &order(&oak, 1, "tok_ok")).await.ok(201);
        eventually("the dead letter", || async {
            (app.metric("jobs_dead_letters_total", &["queue=\"webhooks\""]).await == (n + 1) as f64).then_some(())
        })
        .await;
    }
    let dead = process::run(&["job", "dead"], &process::settings(&app.database));
    let dead = process::text(&dead.stdout);
    assert_eq!(
        dead.lines().filter(|line| line.contains("orders.confirm") && line.contains("not allowed")).count(),
        4,
        "{dead}"
    );
    assert_eq!(books.get("/webhooks", "").await.ok(200)["data"], json!([]));
    app.stop().await;
}
