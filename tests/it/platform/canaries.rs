//! Secrets planted in every input and searched in every sink: log lines, OTLP spans and records, Sentry,
//! metrics in both formats, answers. None may turn up; a sink that saw nothing at all proves nothing.

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    trace::{Span as _, Status, Tracer as _},
};
use reqwest::Method;
use serde_json::json;
use sqlx::Connection as _;

use keel::platform::telemetry::context::{self, RequestContext};

use crate::support::{
    Answer, TestApp, eventually,
    process::{Service, run, settings, text},
    services,
    sinks::SHARED,
    things::{self, thing},
};

/// Each is unique, so that a find names the way it took.
const CANARIES: [(&str, &str); 30] = [
    ("bearer", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkwMSJ9.c2lnMDE"),
    ("cookie", "canary02cookievalue"),
    ("x-api-key", "canary03headerkey"),
    ("user-agent", "canary04agentpass"),
    ("path e-mail", "canary05.path@example.com"),
    ("query", "canary06querytoken"),
    ("request id", "ak_canary07aaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
    ("correlation id", "AKIACANARY08EXAMPLE0"),
    ("tracestate", "ghp_canary09aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ("baggage", "canary10.baggage@example.com"),
    ("unknown field", "canary11.field@example.com"),
    ("body that is no JSON", "canary12.broken@example.com"),
    ("row", "canary13.row@example.com"),
    ("invalid value", "canary14.value@example.com"),
    ("error of Postgres", "canary15postgres"),
    ("panic", "canary16panic"),
    ("idempotency key", "sk_live_canary17idempotency"),
    ("span attribute", "canary18attribute"),
    ("span event", "canary19.event@example.com"),
    ("span status", "canary20status"),
    ("log field by key", "canary21bykey"),
    ("log field by value", "4000056655665556"),
    ("log message", "canary23.message@example.com"),
    ("error chain", "canary24chain"),
    ("path segment", "DE89370400440532013000"),
    ("number by key", "8642097531"),
    ("breadcrumb", "canary27.crumb@example.com"),
    ("cut agent", "ghp_canary28"),
    ("cut path", "ghp_canary29"),
    ("configuration", "canary30.config@example.com"),
];

fn canary(way: &str) -> &'static str {
    CANARIES.iter().find(|(known, _)| *known == way).unwrap_or_else(|| panic!("{way}")).1
}

#[derive(Debug, thiserror::Error)]
#[error("outer")]
struct Outer(#[source] std::io::Error);

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "sentry"), ignore = "needs `sentry`")]
async fn no_canary_reaches_any_sink() {
    let app = TestApp::with_things(&[("APP__FAULTS__ENABLED", "true"), ("APP__HTTP__BAGGAGE_KEYS", "customer")]).await;
    let acme = app.tenant("acme").await;
    let mut answers = Vec::new();

    let path = format!("/v1/{}/{}?token={}", canary("path e-mail"), canary("path segment"), canary("query"));
    let request = app
        .request(Method::GET, &path, "")
        .header("authorization", format!("Bearer {}", canary("bearer")))
        .header("cookie", format!("session={}", canary("cookie")))
        .header("x-api-key", canary("x-api-key"))
        .header("user-agent", format!("curl/8 password={}", canary("user-agent")))
        .header("x-request-id", canary("request id"))
        .header("x-correlation-id", canary("correlation id"))
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0eca07-00f067aa0ba902b7-01")
        .header("tracestate", format!("vendor={}", canary("tracestate")))
        .header("baggage", format!("customer={},other={}", canary("baggage"), canary("baggage")));
    answers.push(Answer::of(request).await);
    answers.push(app.post(things::PATH, &acme.key, &json!({"name": "x", canary("unknown field"): 1})).await);
    let broken = format!("{{\"name\": \"{}\", oops", canary("body that is no JSON"));
    answers.push(app.post_raw(things::PATH, &acme.key, broken).await);
    let row = thing(canary("row"));
    app.post(things::PATH, &acme.key, &row).await.ok(201);
    answers.push(app.post(things::PATH, &acme.key, &row).await);
    answers.last().unwrap().problem(409, "thing_name_taken");
    let wrong = json!({"name": format!("{}\u{7}and more", canary("invalid value")), "amount": -1});
    answers.push(app.post(things::PATH, &acme.key, &wrong).await);
    answers.last().unwrap().problem(422, "validation_failed");
    for body in [thing("once"), thing("again"), json!({"name": "", "amount": -1})] {
        let request = app.request(Method::POST, things::ONCE, &acme.key);
        answers.push(Answer::of(request.header("idempotency-key", canary("idempotency key")).json(&body)).await);
    }

    let mut owner = services::connect("DATABASE_MIGRATION_URL", &app.database).await;
    let sql = format!(
        "create function fail() returns trigger language plpgsql as $$ begin raise exception 'password={}'; end $$;
         create trigger fail before insert on test_things for each row execute function fail();",
        canary("error of Postgres")
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut owner).await.unwrap();
    owner.close().await.unwrap();
    answers.push(app.post(things::PATH, &acme.key, &thing("refused")).await);
    assert_eq!(answers.last().unwrap().status, 500);

    let panicked = tokio::spawn(async { panic!("login failed: {{\"password\": \"{}\"}}", canary("panic")) });
    assert!(panicked.await.is_err());
    let tracer = &SHARED.telemetry.tracer;
    let mut span = tracer.start("canaries");
    span.set_attribute(KeyValue::new("app.password", canary("span attribute")));
    span.add_event("said", vec![KeyValue::new("to", canary("span event"))]);
    span.set_status(Status::error(format!("secret={}", canary("span status"))));
    span.end();
    tracing::warn!(
        userPassword = canary("log field by key"),
        pin = 8_642_097_531_u64,
        note = format!("paid with {}", canary("log field by value")),
        error = &Outer(std::io::Error::other(format!("api_key={}", canary("error chain")))) as &dyn std::error::Error,
        "canary_event for {}",
        canary("log message")
    );

    // A line inside a request that fails: what Sentry gets of it is a breadcrumb.
    let inside =
        RequestContext::new("canaries-1".to_owned(), "canaries-1".to_owned(), "GET", "/canaries", "/".to_owned());
    context::enter(inside.begin(), || {
        tracing::info!(to = canary("breadcrumb"), "canary_breadcrumb");
        SHARED.telemetry.sentry.as_ref().unwrap().error("canaries", &format!("mail to {}", canary("breadcrumb")))
    })
    .unwrap();
    // On a line that lies across the place where paths and agents are cut.
    for padding in [240, 250, 1_000, 1_010] {
        let rest = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        let agent = format!("{} {}{rest}", "a".repeat(padding), canary("cut agent"));
        let path = format!("/{}/{}{rest}", "p".repeat(padding), canary("cut path"));
        answers.push(Answer::of(app.request(Method::GET, &path, "").header("user-agent", agent)).await);
    }
    let config =
        run(&["config", "show"], &[("APP__SERVICE__NAME".to_owned(), canary("configuration").to_owned())].into());

    SHARED.flush().await;
    let scrape = |accept: &'static str| app.admin.request(Method::GET, "/metrics", "").header("accept", accept);
    let spans = eventually("the spans", || async {
        SHARED.flush().await;
        let all = SHARED.collector.all();
        all.iter().any(|seen| seen.span.name == "canaries").then_some(all)
    })
    .await;
    let sinks = [
        ("log lines", String::from_utf8(SHARED.printed().await).unwrap(), "canary_event"),
        ("OTLP spans", format!("{spans:?}"), "canaries"),
        ("OTLP logs", format!("{:?}", SHARED.collector.logs()), "canary_event"),
        ("Sentry", String::from_utf8_lossy(&SHARED.sentry.raw()).into_owned(), "login failed"),
        ("text metrics", Answer::of(scrape("text/plain")).await.text, "redactions_total"),
        ("OpenMetrics", Answer::of(scrape("application/openmetrics-text")).await.text, "redactions_total"),
        ("requests under way", app.admin.get("/debug/requests", "").await.text, "total"),
        ("configuration", text(&config.stdout), "[service]"),
        ("answers", format!("{answers:?}"), "validation_failed"),
    ];
    for (sink, seen, expected) in &sinks {
        assert!(seen.contains(expected), "{sink} saw nothing: the search proves nothing");
        for (way, canary) in CANARIES {
            // What an answer says back to who sent it is theirs.
            if *sink == "answers" && ["row"].contains(&way) {
                continue;
            }
            if let Some(at) = seen.find(canary) {
                let start = seen.floor_char_boundary(at.saturating_sub(200));
                panic!("the {way} canary is in {sink}: …{}", &seen[start..seen.ceil_char_boundary(at + 60)]);
            }
        }
    }
    assert!(SHARED.sentry.faults().is_empty() && SHARED.collector.faults().is_empty());
    for sink in ["log", "span", "sentry"] {
        assert!(app.metric("redactions_total", &[&format!("sink=\"{sink}\"")]).await > 0.0, "{sink} is counted");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secrets_of_the_process_are_known_by_their_value() {
    const TOKEN: &str = "unremarkable-words-that-are-a-token";
    let database = services::database().await;
    let mut variables = settings(&database);
    variables.insert("APP__ADMIN__TOKEN".to_owned(), TOKEN.to_owned());
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) }).await;
    let answer = public.get(&format!("/v1/{TOKEN}/x"), "").await;
    let line = eventually("the line", || async {
        service.lines().into_iter().find(|line| line["trace_id"] == answer.header("x-trace-id"))
    })
    .await;
    assert_eq!(line["path"], "/v1/[REDACTED]/x");
    service.signal("TERM");
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
    assert!(!format!("{:?}", service.lines()).contains(TOKEN));
    services::drop_database(&database).await;
}
