//! What is taken on at once, and who is stopped before anything is done: places, shares, memory for bodies, and
//! clients that try keys.

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    Answer, TestApp, eventually,
    sinks::SHARED,
    things::{self, thing},
};

const FAULTS: (&str, &str) = ("APP__FAULTS__ENABLED", "true");

/// Starts requests that take a second each, and waits until so many are being handled.
async fn occupy(app: &TestApp, key: &str, count: usize) -> Vec<tokio::task::JoinHandle<Answer>> {
    let before = app.metric("http_server_active_requests", &[]).await;
    let sleep = || tokio::spawn(Answer::of(app.request(Method::POST, "/v1/faults/sleep?ms=2000", key)));
    let tasks = (0..count).map(|_| sleep()).collect();
    eventually("they are being handled", || async {
        (app.metric("http_server_active_requests", &[]).await >= before + count as f64).then_some(())
    })
    .await;
    tasks
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_with_ids_and_without_span_or_line() {
    let app = TestApp::with(&[
        FAULTS,
        ("APP__HTTP__MAX_CONCURRENT_REQUESTS", "2"),
        ("APP__HTTP__TENANT_SHARE", "100"),
        ("APP__HTTP__QUEUE_TIMEOUT", "20ms"),
    ])
    .await;
    let acme = app.tenant("acme").await;
    let busy = occupy(&app, &acme.key, 2).await;
    let given = app.request(Method::GET, "/v1/tenant", &acme.key).header("x-request-id", "shed-1");
    let refused = Answer::of(given).await;
    refused.problem(503, "overloaded");
    assert_eq!(refused.header("x-request-id"), "shed-1");
    assert_eq!((refused.header("x-correlation-id"), refused.header("x-trace-id").len()), ("shed-1", 32));
    assert!((1..=3).contains(&refused.header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(app.get("/health/ready", "").await.status, 200, "probes pass by");
    app.get("/openapi.json", "").await.problem(503, "overloaded");
    assert_eq!(app.metric("http_server_requests_shed_total", &["reason=\"concurrency\""]).await, 2.0);
    let labels = ["http_response_status_code=\"503\"", "error_type=\"overloaded\""];
    assert_eq!(app.metric("http_server_request_duration_seconds_count", &labels).await, 2.0, "an error to the SLO");
    assert!(SHARED.logs("request_id", "shed-1").await.is_empty(), "no line of its own");
    assert!(SHARED.collector.trace(refused.header("x-trace-id")).is_empty(), "no span");
    assert!(!SHARED.logs("reason", "concurrency").await.is_empty(), "one line for all");
    for task in busy {
        task.await.unwrap().ok(200);
    }
    app.get("/v1/tenant", &acme.key).await.ok(200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_has_its_share_once_half_of_the_places_are_taken() {
    let app = TestApp::with(&[FAULTS, ("APP__HTTP__MAX_CONCURRENT_REQUESTS", "10")]).await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    // Four with this one are less than half of ten: its share is three, and nobody else wants the rest.
    let busy = occupy(&app, &acme.key, 4).await;
    let refused = app.get("/v1/tenant", &acme.key).await;
    refused.problem(429, "too_many_in_flight");
    assert!((1..=3).contains(&refused.header("retry-after").parse::<u32>().unwrap()));
    app.get("/v1/tenant", &globex.key).await.ok(200);
    assert_eq!(app.metric("http_server_requests_shed_total", &["reason=\"tenant_share\""]).await, 1.0);
    for task in busy {
        task.await.unwrap().ok(200);
    }
    app.get("/v1/tenant", &acme.key).await.ok(200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_being_read_have_bounded_memory() {
    let app = TestApp::with_things(&[
        ("APP__HTTP__BODY_LIMIT", "16KiB"),
        ("APP__HTTP__BODY_MEMORY", "16KiB"),
        ("APP__HTTP__QUEUE_TIMEOUT", "20ms"),
    ])
    .await;
    let acme = app.tenant("acme").await;
    let mut slow = tokio::net::TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n1\r\n{{\r\n",
        things::PATH,
        acme.key
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    eventually("the slow body has all memory", || async {
        let answer = app.post(things::PATH, &acme.key, &thing("first")).await;
        (answer.status == 503 && answer.json()["code"] == "overloaded").then_some(())
    })
    .await;
    assert!(app.metric("http_server_requests_shed_total", &["reason=\"body_memory\""]).await >= 1.0);
    app.get("/v1/tenant", &acme.key).await.ok(200);
    slow.write_all(b"1\r\n}\r\n0\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
    eventually("memory is free again", || async {
        matches!(app.post(things::PATH, &acme.key, &thing("second")).await.status, 201 | 409).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_tries_keys_is_stopped_and_others_behind_its_address_are_not() {
    let app = TestApp::with(&[("APP__AUTH__FAILURES_PER_MINUTE", "3"), ("APP__AUTH__KEY_CACHE_TTL", "10ms")]).await;
    let acme = app.tenant("acme").await;
    app.get("/v1/tenant", &acme.key).await.ok(200);
    let wrong = |n: usize| format!("ak_{n:0>12}_{}", "x".repeat(32));
    let lookups = async || {
        app.metric("db_client_operation_duration_seconds_count", &["db_query_summary=\"SELECT api_keys\""]).await
    };
    for n in 0..3 {
        app.get("/v1/tenant", &wrong(n)).await.problem(401, "invalid_api_key");
    }
    let before = lookups().await;
    for n in 3..20 {
        // What it says of itself changes nothing: no hop is trusted.
        let request = app.request(Method::GET, "/v1/tenant", &wrong(n)).header("x-forwarded-for", format!("9.9.9.{n}"));
        let stopped = Answer::of(request).await;
        stopped.problem(429, "too_many_failures");
        assert!((1..=20).contains(&stopped.header("retry-after").parse::<u32>().unwrap()));
    }
    assert_eq!(lookups().await, before, "none of them was looked up");
    app.get("/v1/tenant", &acme.key).await.ok(200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_trusted_proxies_the_client_is_who_they_say() {
    let trusted = ("APP__HTTP__TRUSTED_PROXIES", "127.0.0.0/8,10.0.0.0/8");
    let app = TestApp::with(&[("APP__AUTH__FAILURES_PER_MINUTE", "1"), trusted]).await;
    let acme = app.tenant("acme").await;
    let from = async |chain: &str, key: &str| {
        Answer::of(app.request(Method::GET, "/v1/tenant", key).header("x-forwarded-for", chain)).await
    };
    from("198.51.100.7, 10.1.1.1", "ak_wrong").await.problem(401, "invalid_api_key");
    from("198.51.100.7", "ak_wrong").await.problem(429, "too_many_failures");
    from("198.51.100.7, 198.51.100.8, 10.1.1.1", "ak_wrong").await.problem(401, "invalid_api_key");
    let answer = from("203.0.113.5", &acme.key).await;
    answer.ok(200);
    let trace = SHARED.trace(answer.header("x-trace-id"), 3).await;
    let server = trace.iter().find(|seen| seen.parent().is_empty()).unwrap();
    assert_eq!(server.attribute("client.address").as_deref(), Some("203.0.113.5"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_host() {
    let app = TestApp::start().await;
    for (hosts, status) in [("", "400"), ("host: a\r\nhost: b\r\n", "400"), ("host: a\r\n", "404")] {
        let mut stream = tokio::net::TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap();
        stream.write_all(format!("GET /x HTTP/1.1\r\n{hosts}connection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{hosts:?}: {answer}");
    }
    app.stop().await;
}
