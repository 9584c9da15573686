//! Confirmations to the tenant: signed, at least once, never in the way of an order.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use keel::platform::{db::SystemTx, tenancy::store};
use serde_json::json;

use super::orders::{order, place, product};
use crate::support::{TestApp, client::Tenant, eventually, process};

pub async fn set_webhook(app: &TestApp, tenant: &Tenant, url: &str) {
    let mut tx = SystemTx::begin(app.running.app.db()).await.unwrap();
    store::set_webhook(&mut tx, tenant.id.as_uuid(), Some(url)).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_order_is_confirmed_by_a_signed_webhook() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let books = app.books();
    set_webhook(&app, &acme, &format!("{}/webhooks", books.base)).await;
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    let paid = place(&app, &acme, "k-1", &order(&oak, 1, "tok_ok")).await.ok(201);
    let hook = eventually("the webhook", || async {
        books.get("/webhooks", "").await.ok(200)["data"].as_array().unwrap().first().cloned()
    })
    .await;
    let text = |field: &str| hook[field].as_str().unwrap().to_owned();
    let body: serde_json::Value = serde_json::from_str(&text("body")).unwrap();
    assert_eq!((&body["type"], &body["data"], &body["id"]), (&json!("order.paid"), &paid, &hook["id"]));
    // As the tenant checks it, with the secret it was given.
    let shown = process::run(&["tenant", "webhook-secret", "acme"], &process::settings(&app.database));
    let secret = process::text(&shown.stdout).trim().strip_prefix("whsec_").unwrap().to_owned();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(secret).unwrap());
    let signature = BASE64_STANDARD.decode(text("signature").strip_prefix("v1,").unwrap()).unwrap();
    let signed = format!("{}.{}.{}", text("id"), text("timestamp"), text("body"));
    hmac::verify(&key, signed.as_bytes(), &signature).expect("the signature fits the secret and the bytes");
    let age = chrono::Utc::now().timestamp() - text("timestamp").parse::<i64>().unwrap();
    assert!((0..60).contains(&age));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_to_a_private_address_is_refused_and_the_order_stands() {
    let app = TestApp::with(&[("APP__OUTBOUND__ALLOW_PRIVATE", "false"), ("APP__JOBS__BACKOFF", "1ms")]).await;
    let acme = app.tenant("acme").await;
    let books = app.books();
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
