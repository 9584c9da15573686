//! What goes on with a call: to a service of ours the whole context, to a tenant's endpoint the trace only.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::json;

use super::{
    orders::{order, product},
    webhooks::set_webhook,
};
use crate::support::{Answer, TestApp, eventually};

type Seen = Arc<Mutex<BTreeMap<&'static str, HeaderMap>>>;

/// A provider and a tenant's endpoint in one, that remember how they were asked.
async fn receiver() -> (String, Seen) {
    let seen = Seen::default();
    let (charged, hooked) = (Arc::clone(&seen), Arc::clone(&seen));
    let router = Router::new()
        .route(
            "/charges",
            post(async move |headers: HeaderMap, body: Bytes| {
                charged.lock().insert("charge", headers);
                let mut charge: serde_json::Value = serde_json::from_slice(&body).unwrap();
                charge["id"] = json!("ch_1");
                charge["outcome"] = json!("succeeded");
                (axum::http::StatusCode::CREATED, charge.to_string())
            }),
        )
        .route(
            "/hook",
            post(async move |headers: HeaderMap| {
                hooked.lock().insert("hook", headers);
            }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (base, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn baggage_goes_by_its_list_to_services_of_ours_and_never_to_tenants() {
    let (base, seen) = receiver().await;
    let app = TestApp::with(&[("APP__SHOP__PAYMENTS__URL", &base), ("APP__HTTP__BAGGAGE_KEYS", "customer.tier")]).await;
    let acme = app.tenant("acme").await;
    set_webhook(&app, &acme, &format!("{base}/hook")).await;
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    let huge = "x".repeat(300);
    let request = app
        .request(Method::POST, "/v1/orders", &acme.key)
        .header("idempotency-key", "k")
        .header("x-correlation-id", "corr-1")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4711-00f067aa0ba902b7-01")
        .header("tracestate", "vendor=value")
        .header("baggage", format!("customer.tier=gold%20plus,session=private,customer.tier2=no,huge={huge}"))
        .json(&order(&oak, 1, "tok_ok"));
    let answer = Answer::of(request).await;
    answer.ok(201);
    let charge = eventually("the charge", || async { seen.lock().get("charge").cloned() }).await;
    assert_eq!(charge["baggage"], "customer.tier=gold%20plus", "the allowed key, and nothing else");
    assert!(charge["traceparent"].to_str().unwrap().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4711-"));
    assert_eq!(
        (&charge["tracestate"], &charge["x-correlation-id"]),
        (&"vendor=value".parse().unwrap(), &"corr-1".parse().unwrap())
    );
    let hook = eventually("the webhook", || async { seen.lock().get("hook").cloned() }).await;
    assert!(hook.contains_key("traceparent") && hook["x-correlation-id"] == "corr-1");
    assert!(!hook.contains_key("baggage") && !hook.contains_key("tracestate"), "{hook:?}");
    app.stop().await;
}
