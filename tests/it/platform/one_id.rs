//! One request, one id: everything that the service says about a request is found by its trace id.

use reqwest::Method;
use serde_json::json;
use sqlx::Connection as _;

use crate::support::{Answer, TestApp, services, sinks::SHARED};

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "sentry"), ignore = "needs `sentry`")]
async fn one_request_is_found_by_one_id_in_every_signal() {
    // Every statement counts as slow here.
    let app = TestApp::with(&[("APP__DATABASE__SLOW_QUERY", "1ms"), ("APP__FAULTS__ENABLED", "true")]).await;
    let acme = app.tenant("acme").await;
    let body = json!({"sku": "A", "name": "Plank", "price": {"amount_minor": 1, "currency": "EUR"}, "stock": 5});
    let product = app.post("/v1/products", &acme.key, &body).await.ok(201)["id"].clone();
    // The money is taken and the second transaction fails: a fault of ours, after SQL, Redis and a call out.
    let mut owner = services::connect("DATABASE_MIGRATION_URL", &app.database).await;
    sqlx::raw_sql(
        "create function fail() returns trigger language plpgsql as $$ begin perform pg_sleep(0.05); raise exception 'broken on purpose'; end $$;
         create trigger fail before update on orders for each row execute function fail();",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    owner.close().await.unwrap();
    let order = json!({"lines": [{"product_id": product, "quantity": 1}], "payment_method": "tok_ok"});
    let request = app.request(Method::POST, "/v1/orders", &acme.key).header("idempotency-key", "k").json(&order);
    let answer = Answer::of(request).await;
    assert_eq!(answer.status, 500, "{}", answer.text);

    let id = answer.header("x-trace-id");
    assert_eq!(id.len(), 32);
    assert_eq!(answer.json()["trace_id"], id, "problem body");

    let lines = SHARED.logs("trace_id", id).await;
    for message in ["request_failed", "request_completed", "slow_query"] {
        assert!(lines.iter().any(|line| line["message"] == message), "{message} in {lines:#?}");
    }
    let slow = lines
        .iter()
        .find(|line| line["message"] == "slow_query" && line["duration_ms"].as_f64() >= Some(50.0))
        .unwrap();
    assert_eq!((&slow["route"], &slow["tenant_id"]), (&json!("/v1/orders"), &json!(acme.id.to_string())));
    assert!(slow["db_query_text"].as_str().unwrap().contains("update"), "{slow}");
    let failed = lines.iter().find(|line| line["message"] == "request_failed").unwrap();
    assert!(failed["error"].as_str().unwrap().contains("broken on purpose"), "{failed}");

    let spans = SHARED.trace(id, 8).await;
    let of = |what: &str, is_it: &dyn Fn(&crate::support::sinks::SeenSpan) -> bool| {
        spans.iter().find(|seen| is_it(seen)).unwrap_or_else(|| panic!("no {what} span in {spans:#?}")).clone()
    };
    let server = of("server", &|seen| seen.parent().is_empty());
    assert_eq!(failed["span_id"], server.id(), "the exception is in the line of the same ids");
    let status = server.span.status.clone().unwrap();
    assert_eq!(
        (status.code, server.attribute("error.type")),
        (2, Some(answer.json()["code"].as_str().unwrap().to_owned()))
    );
    let sql = of("SQL", &|seen| {
        seen.attribute("db.system.name").as_deref() == Some("postgresql") && seen.attribute("error.type").is_some()
    });
    assert_eq!(sql.attribute("db.response.status_code").as_deref(), Some("P0001"));
    of("Redis", &|seen| seen.attribute("db.system.name").as_deref() == Some("redis"));
    of("outbound", &|seen| seen.attribute("url.template").as_deref() == Some("/charges"));

    let accept = "application/openmetrics-text;version=1.0.0";
    let scrape = Answer::of(app.admin.request(Method::GET, "/metrics", "").header("accept", accept)).await.text;
    let took = lines
        .iter()
        .find(|line| line["message"] == "request_completed" && line["route"] == "/v1/orders")
        .unwrap()["duration_ms"]
        .as_f64()
        .unwrap()
        / 1_000.0;
    let exemplar = scrape
        .lines()
        .find(|line| line.starts_with("http_server_request_duration_seconds_bucket{") && line.contains(id))
        .expect("an exemplar");
    assert!(
        exemplar.contains("http_route=\"/v1/orders\"") && exemplar.contains("http_response_status_code=\"500\""),
        "{exemplar}"
    );
    let bound = |line: &str| {
        line.split("le=\"").nth(1).unwrap().split('"').next().unwrap().replace("+Inf", "inf").parse::<f64>().unwrap()
    };
    let value: f64 = exemplar.split("} ").last().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((value - took).abs() < 0.001 && value <= bound(exemplar), "{value} {took}: {exemplar}");
    let below = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
    let lower = below.iter().rev().find(|below| **below < bound(exemplar)).copied().unwrap_or(0.0);
    assert!(value > lower, "the right bucket: {exemplar}");

    let events: Vec<_> =
        SHARED.sentry.events().into_iter().filter(|event| event["contexts"]["trace"]["trace_id"] == id).collect();
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0]["event_id"], answer.header("x-sentry-event-id"));
    assert_eq!(failed["sentry_event_id"], events[0]["event_id"]);
    assert!(
        SHARED.collector.logs().iter().any(|log| log.trace_id() == id && log.body() == "request_failed"),
        "OTLP logs"
    );
    app.stop().await;
}
