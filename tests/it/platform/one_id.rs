//! One request, one id: everything that the service says about a request is found by its trace id.

use reqwest::Method;
use serde_json::json;
use sqlx::Connection as _;

use crate::support::{
    Answer, TestApp,
    client::Tenant,
    services,
    sinks::{SHARED, SeenSpan},
    things,
};

/// An application for which every statement is slow.
pub const SLOW: (&str, &str) = ("APP__DATABASE__SLOW_QUERY", "1ms");

/// From now on an update of this table takes 50 ms and fails.
pub async fn break_updates(app: &TestApp, table: &str) {
    let mut owner = services::connect("DATABASE_MIGRATION_URL", &app.database).await;
    let sql = format!(
        "create function fail() returns trigger language plpgsql as $$ begin perform pg_sleep(0.05); raise exception 'broken on purpose'; end $$;
         create trigger fail before update on {table} for each row execute function fail();"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut owner).await.unwrap();
    owner.close().await.unwrap();
}

/// This answer, a 500 for a broken update, is found in every signal; its spans, of which there are so many at least.
pub async fn is_found_in_every_signal(
    app: &TestApp,
    tenant: &Tenant,
    route: &str,
    answer: &Answer,
    least: usize,
) -> Vec<SeenSpan> {
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
        .filter(|line| line["message"] == "slow_query" && line["duration_ms"].as_f64() >= Some(50.0))
        .find(|line| line["db_query_text"].as_str().unwrap().contains("update"))
        .unwrap_or_else(|| panic!("no slow update in {lines:#?}"));
    assert_eq!((&slow["route"], &slow["tenant_id"]), (&json!(route), &json!(tenant.id.to_string())));
    let failed = lines.iter().find(|line| line["message"] == "request_failed").unwrap();
    assert!(failed["error"].as_str().unwrap().contains("broken on purpose"), "{failed}");

    let spans = SHARED.trace(id, least).await;
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

    let accept = "application/openmetrics-text;version=1.0.0";
    let scrape = Answer::of(app.admin.request(Method::GET, "/metrics", "").header("accept", accept)).await.text;
    let took = lines
        .iter()
        .find(|line| line["message"] == "request_completed" && line["route"] == route)
        .unwrap()["duration_ms"]
        .as_f64()
        .unwrap()
        / 1_000.0;
    let exemplar = scrape
        .lines()
        .find(|line| line.starts_with("http_server_request_duration_seconds_bucket{") && line.contains(id))
        .expect("an exemplar");
    assert!(
        exemplar.contains(&format!("http_route=\"{route}\"")) && exemplar.contains("http_response_status_code=\"500\""),
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
    spans
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "sentry"), ignore = "needs `sentry`")]
async fn one_request_is_found_by_one_id_in_every_signal() {
    let app = TestApp::with_things(&[SLOW]).await;
    let acme = app.tenant("acme").await;
    let (path, _) = things::make(&app, &acme, "oak").await;
    break_updates(&app, "test_things").await;
    let answer = Answer::of(app.request(Method::PATCH, &path, &acme.key).json(&json!({"amount": 2}))).await;
    is_found_in_every_signal(&app, &acme, "/v1/test-things/{thing_id}", &answer, 3).await;
    app.stop().await;
}
