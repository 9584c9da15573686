//! Failures at the edge: one form, the ids everywhere, and a process that lives on.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, TestApp, sinks::SHARED, things};

const FAULTS: &[(&str, &str)] = &[("APP__FAULTS__ENABLED", "true")];

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_500_with_the_ids_and_the_process_lives() {
    let app = TestApp::with(FAULTS).await;
    let acme = app.tenant("acme").await;
    for _ in 0..3 {
        let answer = app.post("/v1/faults/panic", &acme.key, &json!(null)).await;
        answer.problem(500, "panic");
        assert!(!answer.text.contains("a fault was asked for"), "internal text stays inside: {}", answer.text);
        assert_eq!(answer.header("x-trace-id").len(), 32);
        let lines = SHARED.logs("request_id", answer.header("x-request-id")).await;
        let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
        assert_eq!(errors.len(), 1, "once, where it happened: {errors:#?}");
        assert_eq!((&errors[0]["message"], &errors[0]["panic"]), (&json!("panicked"), &json!("a fault was asked for")));
    }
    app.get("/v1/tenant", &acme.key).await.ok(200);
    assert_eq!(app.metric("unhandled_errors_total", &["kind=\"panic\""]).await, 3.0);
    assert_eq!(
        app.metric(
            "http_server_request_duration_seconds_count",
            &["error_type=\"panic\"", "http_response_status_code=\"500\""]
        )
        .await,
        3.0
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_logged_once_with_its_causes_and_answered_without_them() {
    let app = TestApp::with(FAULTS).await;
    let acme = app.tenant("acme").await;
    let answer = app.post("/v1/faults/error", &acme.key, &json!(null)).await;
    answer.problem(500, "fault_injected");
    assert!(!answer.text.contains("asked for"));
    let lines = SHARED.logs("request_id", answer.header("x-request-id")).await;
    let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(errors.len(), 1, "{lines:#?}");
    assert_eq!(errors[0]["message"], "request_failed");
    assert_eq!(errors[0]["error"], "fault_injected: a fault was asked for");
    assert_eq!(app.metric("unhandled_errors_total", &["kind=\"error\""]).await, 1.0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_past_its_deadline_is_a_504_and_leaves_a_clean_pool() {
    let app = TestApp::with(&[
        FAULTS[0],
        ("APP__HTTP__REQUEST_TIMEOUT", "200ms"),
        ("APP__HTTP__BODY_TIMEOUT", "150ms"),
        ("APP__DATABASE__ACQUIRE_TIMEOUT", "100ms"),
        ("APP__DATABASE__MAX_CONNECTIONS", "1"),
    ])
    .await;
    let acme = app.tenant("acme").await;
    app.post("/v1/faults/sleep?ms=400", &acme.key, &json!(null)).await.problem(504, "deadline_exceeded");
    app.post("/v1/faults/slow-query?ms=400", &acme.key, &json!(null)).await.problem(504, "deadline_exceeded");
    crate::support::eventually("the connection comes back", || async {
        (app.get("/v1/tenant", &acme.key).await.status == 200).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_and_methods_are_problems_and_one_series() {
    let app = TestApp::with_things(&[]).await;
    for n in 0..20 {
        app.get(&format!("/v1/unknown/{n}"), "").await.problem(404, "route_not_found");
    }
    let wrong = Answer::of(app.request(Method::PUT, things::PATH, "")).await;
    wrong.problem(405, "method_not_allowed");
    assert!(wrong.header("allow").contains("GET") && wrong.header("allow").contains("POST"), "{:?}", wrong.headers);
    app.delete(things::PATH, "").await.problem(405, "method_not_allowed");
    Answer::of(app.request(Method::from_bytes(b"BREW").unwrap(), things::PATH, ""))
        .await
        .problem(405, "method_not_allowed");
    let metrics = app.metrics().await;
    let series: Vec<_> =
        metrics.lines().filter(|line| line.starts_with("http_server_request_duration_seconds_count")).collect();
    assert_eq!(series.iter().filter(|line| line.contains("__unmatched__")).count(), 1, "{series:#?}");
    assert!(series.iter().any(|line| line.contains("http_request_method=\"_OTHER\"")), "{series:#?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_routes_exist_only_when_enabled_and_are_not_documented() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    app.post("/v1/faults/error", &acme.key, &json!(null)).await.problem(404, "route_not_found");
    assert!(!app.get("/openapi.json", "").await.text.contains("faults"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_route_does_what_it_says() {
    let app = TestApp::with(FAULTS).await;
    let acme = app.tenant("acme").await;
    let post = async |path: &str| app.post(&format!("/v1/faults/{path}"), &acme.key, &json!(null)).await.ok(200);
    assert_eq!(post("sleep?ms=20").await, json!({"slept_ms": 20}));
    assert_eq!(post("slow-query?ms=20").await, json!({"slept_ms": 20}));
    assert_eq!(post("n-plus-one?n=30").await, json!({"queries": 30}));
    assert_eq!(app.metric("db_client_operation_duration_seconds_count", &["SELECT fault_rows"]).await, 30.0);
    assert!(post("cpu?ms=20").await["rounds"].as_u64().unwrap() > 0);
    assert_eq!(post("lock?ms=20").await, json!({"held_ms": 20}));
    assert_eq!(post("leak?mib=1").await, json!({"leaked_mib": 1}));
    app.post("/v1/faults/sleep?sm=20", &acme.key, &json!(null)).await.problem(400, "malformed_query");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_is_answered_in_time_and_holds_nothing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = TestApp::with_things(&[("APP__HTTP__BODY_TIMEOUT", "300ms")]).await;
    let acme = app.tenant("acme").await;
    let mut stream = tokio::net::TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{{",
        things::PATH,
        acme.key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(std::time::Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection is closed");
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    // stop() fails if the work of that request were still there.
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_anywhere_is_counted_told_and_survived() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "bad-drop-{}", std::process::id());
        }
    }
    let app = TestApp::with(FAULTS).await;
    let acme = app.tenant("acme").await;
    let before = app.metric("panics_total", &[]).await;
    assert!(tokio::spawn(async { drop(Bad) }).await.is_err(), "a task of its own");
    assert!(std::thread::spawn(|| drop(Bad)).join().is_err(), "a thread");
    app.post("/v1/faults/panic", &acme.key, &json!(null)).await.problem(500, "panic");
    assert!(app.metric("panics_total", &[]).await >= before + 3.0);
    let told = SHARED.logs("panic", &format!("bad-drop-{}", std::process::id())).await;
    assert_eq!(told.len(), 2, "{told:#?}");
    app.get("/v1/tenant", &acme.key).await.ok(200);
    app.stop().await;
}
