//! API7 through the job that confirms an order; `security::webhooks` has all spellings of an inner address.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;

use crate::{
    security::hostile::{Hostile, Manner},
    shop::{
        orders::{order, place, product},
        webhooks::set_webhook,
    },
    support::{TestApp, eventually, sinks::SHARED},
};

#[tokio::test(flavor = "multi_thread")]
async fn through_the_job_a_refusal_is_an_event_of_its_tenant_and_the_url_is_not_logged() {
    let app = TestApp::with(&[("APP__OUTBOUND__ALLOW_PRIVATE", "false"), ("APP__JOBS__BACKOFF", "1ms")]).await;
    let acme = app.tenant("acme").await;
    let inner = Hostile::start(Manner::json("200 OK", "{}")).await;
    let port = inner.url.rsplit_once(':').unwrap().1;
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    let before = app.metric("security_events_total", &["event=\"outbound_forbidden\""]).await;
    set_webhook(&app, &acme, &format!("https://2130706433:{port}/hook?token=webhook-canary-77")).await;
    place(&app, &acme, "k-1", &order(&oak, 1, "tok_ok")).await.ok(201);
    let event = eventually("the event", || async {
        let lines = SHARED.logs("tenant_id", &acme.id.to_string()).await;
        lines.into_iter().find(|line| line["event"] == "outbound_forbidden")
    })
    .await;
    assert_eq!((&event["message"], &event["level"]), (&json!("security_event"), &json!("WARN")));
    assert!(app.metric("security_events_total", &["event=\"outbound_forbidden\""]).await > before);
    assert_eq!(inner.connections.load(Relaxed), 0);
    let printed = String::from_utf8(SHARED.printed().await).unwrap();
    assert!(!printed.contains("webhook-canary-77"));
    app.stop().await;
}
