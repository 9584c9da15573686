//! One request in logs, traces and metrics: the same ids everywhere.

use serde_json::json;

use crate::support::{Answer, TestApp, sinks::SHARED, things};

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_one_trace_of_server_sql_and_redis_spans() {
    let app = TestApp::with_things(&[]).await;
    let acme = app.tenant("acme").await;
    let (path, _) = things::make(&app, &acme, "oak").await;
    let answer = app.get(&path, &acme.key).await;
    answer.ok(200);
    let trace = SHARED.trace(answer.header("x-trace-id"), 5).await;
    let named =
        |name: &str| trace.iter().find(|seen| seen.span.name == name).unwrap_or_else(|| panic!("{name} in {trace:#?}"));
    let server = named("GET /v1/test-things/{thing_id}");
    assert_eq!(server.parent(), "");
    assert_eq!(server.span.kind, 2, "SERVER");
    assert_eq!(server.span.status.as_ref().map_or(0, |status| status.code), 0, "unset below 500");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/v1/test-things/{thing_id}"),
        ("http.response.status_code", "200"),
        ("url.path", path.as_str()),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("client.address", "127.0.0.1"),
        ("tenant.id", &acme.id.to_string()),
        ("correlation_id", answer.header("x-correlation-id")),
    ] {
        assert_eq!(server.attribute(key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(server.resource("service.name").as_deref(), Some("keel"));
    assert_eq!(server.resource("deployment.environment.name").as_deref(), Some("test"));
    let (get, select, set) = (named("GET"), named("SELECT test_things"), named("EVAL"));
    assert_eq!(get.parent(), server.id());
    assert_eq!(select.parent(), server.id());
    assert_eq!(set.parent(), server.id());
    for (key, value) in [
        ("db.system.name", "postgresql"),
        ("db.operation.name", "SELECT"),
        ("db.collection.name", "test_things"),
        ("db.query.summary", "SELECT test_things"),
        ("db.namespace", app.database.as_str()),
        ("db.response.returned_rows", "1"),
    ] {
        assert_eq!(select.attribute(key).as_deref(), Some(value), "{key}");
    }
    let text = select.attribute("db.query.text").unwrap();
    assert!(text.contains("where tenant_id = $1") && !text.contains(&acme.id.to_string()), "{text}");
    assert_eq!(get.attribute("db.system.name").as_deref(), Some("redis"));
    assert!(!format!("{get:?}").contains(&app.config.redis.key_prefix), "no key in a span");
    assert_eq!(
        trace.len(),
        5,
        "EVALSHA is the quota; and nothing else: {:?}",
        trace.iter().map(|seen| &seen.span.name).collect::<Vec<_>>()
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_trace_goes_on_here_unless_told_otherwise() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let header = format!("00-{TRACE}-00f067aa0ba902b7-01");
    for (trust, joined) in [("continue", true), ("link", false), ("ignore", false)] {
        let app = TestApp::with(&[("APP__HTTP__TRUST_TRACE_CONTEXT", trust)]).await;
        let id = format!("{trust}-1");
        let request = app
            .request(reqwest::Method::GET, "/v1/tenant", "")
            .header("traceparent", &header)
            .header("x-request-id", &id);
        let answer = Answer::of(request).await;
        assert_eq!(answer.header("x-trace-id") == TRACE, joined, "{trust}");
        let trace = SHARED.trace(answer.header("x-trace-id"), 1).await;
        let server = trace.iter().find(|seen| seen.attribute("correlation_id").as_deref() == Some(&id)).unwrap();
        assert_eq!(server.parent(), if joined { "00f067aa0ba902b7" } else { "" });
        assert_eq!(server.span.links.len(), usize::from(trust == "link"));
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_trace_context_is_no_context() {
    let app = TestApp::with(&[("APP__HTTP__BAGGAGE_KEYS", "a,k1,key")]).await;
    let long = format!("00-{}-00f067aa0ba902b7-01", "a".repeat(10_000));
    let bad = [
        "",
        "garbage",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        &long,
    ];
    for header in bad {
        let answer =
            Answer::of(app.request(reqwest::Method::GET, "/v1/tenant", "").header("traceparent", header)).await;
        answer.problem(401, "missing_api_key");
        assert_eq!(answer.header("x-trace-id").len(), 32);
        assert_ne!(answer.header("x-trace-id"), "4bf92f3577b34da6a3ce929d0e0e4736", "{header}");
    }
    let many: String = (0..3_000).map(|n| format!("k{n}=v,")).collect();
    for baggage in ["=,=;;", "a=%FF%00", "key", "a=b;c;d=e,,,", &many] {
        let request = app.request(reqwest::Method::GET, "/v1/tenant", "").header("baggage", baggage);
        Answer::of(request).await.problem(401, "missing_api_key");
    }
    let twice = app
        .request(reqwest::Method::GET, "/v1/tenant", "")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-01");
    let answer = Answer::of(twice).await;
    assert!(!answer.header("x-trace-id").starts_with("4bf92f3577b34da6"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_request_carries_its_ids_and_the_canonical_one_its_cost() {
    let app = TestApp::with_things(&[]).await;
    let acme = app.tenant("acme").await;
    let answer = app.post(&format!("{}?", things::PATH), &acme.key, &things::thing("oak")).await;
    answer.ok(201);
    let lines = SHARED.logs("request_id", answer.header("x-request-id")).await;
    let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["thing_made", "request_completed"]);
    for line in &lines {
        for (field, value) in [
            ("trace_id", answer.header("x-trace-id")),
            ("correlation_id", answer.header("x-correlation-id")),
            ("method", "POST"),
            ("route", things::PATH),
            ("path", things::PATH),
            ("service", "keel"),
            ("environment", "test"),
            ("level", "INFO"),
            ("tenant_id", &acme.id.to_string()),
            ("version", env!("CARGO_PKG_VERSION")),
        ] {
            assert_eq!(line[field], value, "{field} in {line}");
        }
        assert_eq!(line["sampled"], true);
        assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
        assert!(acme.key.contains(line["principal_id"].as_str().unwrap()));
        let timestamp = line["timestamp"].as_str().unwrap();
        assert!(timestamp.len() == 27 && timestamp.ends_with('Z'), "{timestamp}");
    }
    let canonical = &lines[1];
    assert_eq!((&canonical["status"], &canonical["outcome"]), (&json!(201), &json!("success")));
    assert_eq!(canonical["db_queries"], 2, "the key and the insert");
    for cost in ["duration_ms", "db_ms"] {
        assert!(canonical[cost].as_f64().unwrap() > 0.0, "{cost}");
    }
    for field in ["db_pool_wait_ms", "redis_ops", "redis_ms", "request_bytes", "response_bytes", "cold_start"] {
        assert!(!canonical[field].is_null(), "{field} in {canonical}");
    }
    let second = app.get("/v1/tenant", &acme.key).await;
    let line = &SHARED.logs("request_id", second.header("x-request-id")).await[0];
    assert!(line["cold_start"].is_null(), "only the first request of the process is cold");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_scrapes_are_counted_but_not_logged_and_not_traced() {
    let app = TestApp::start().await;
    for _ in 0..3 {
        app.get("/health/live", "").await.ok(200);
    }
    let answer = app.get("/health/ready", "").await;
    answer.ok(200);
    assert_eq!(answer.header("x-trace-id"), "");
    assert_eq!(SHARED.logs("request_id", answer.header("x-request-id")).await, Vec::<serde_json::Value>::new());
    assert_eq!(app.metric("http_server_request_duration_seconds_count", &["http_route=\"/health/live\""]).await, 3.0);
    assert!(SHARED.collector.all().iter().all(|seen| !seen.span.name.contains("/health/")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_is_a_499_and_its_work_is_finished() {
    let app = TestApp::with(&[("APP__FAULTS__ENABLED", "true"), ("APP__DATABASE__MAX_CONNECTIONS", "1")]).await;
    let acme = app.tenant("acme").await;
    let request = app
        .request(reqwest::Method::POST, "/v1/faults/slow-query?ms=300", &acme.key)
        .header("x-request-id", "hung-up-1");
    assert!(request.timeout(std::time::Duration::from_millis(100)).send().await.is_err());
    crate::support::eventually("the 499", || async {
        let seen =
            app.metric("http_server_request_duration_seconds_count", &["http_response_status_code=\"499\""]).await;
        (seen == 1.0).then_some(())
    })
    .await;
    let lines = SHARED.logs("request_id", "hung-up-1").await;
    let canonical = lines.iter().find(|line| line["message"] == "request_completed").unwrap();
    assert_eq!((&canonical["status"], &canonical["outcome"]), (&json!(499), &json!("cancelled")));
    // The only connection comes back clean, without a transaction left open on it.
    for _ in 0..3 {
        app.get("/v1/tenant", &acme.key).await.ok(200);
    }
    assert_eq!(app.metric("http_server_active_requests", &[]).await, 0.0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_are_valid_and_say_what_happened() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    app.get("/v1/tenant", &acme.key).await.ok(200);
    app.get("/v1/tenant", "").await.problem(401, "missing_api_key");
    let answered = "http_server_request_duration_seconds_count";
    let route = "http_route=\"/v1/tenant\"";
    assert_eq!(
        app.metric(answered, &[route, "http_response_status_code=\"200\"", "http_request_method=\"GET\""]).await,
        1.0
    );
    assert_eq!(app.metric(answered, &[route, "http_response_status_code=\"401\"", "error_type=\"\""]).await, 1.0);
    assert_eq!(app.metric("db_client_connection_max", &[]).await, 10.0);
    assert!(app.metric("db_client_connection_count", &[]).await >= 1.0);
    for present in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "tokio_workers",
        "service_info",
    ] {
        assert!(app.metric(present, &[]).await > 0.0, "{present}");
    }
    assert!(app.metric("service_start_duration_seconds", &["phase=\"total\""]).await > 0.0);
    let text = app.metrics().await;
    assert!(
        text.contains("unhandled_errors_total{kind=\"panic\"} 0"),
        "counters that alerts watch exist from the start"
    );
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(series), "twice: {series}");
        value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_of_a_request_leads_to_its_trace() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let answer = app.get("/v1/tenant", &acme.key).await;
    answer.ok(200);
    let accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let scrape = Answer::of(app.admin.request(reqwest::Method::GET, "/metrics", "").header("accept", accept)).await;
    assert_eq!(scrape.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(scrape.text.ends_with("# EOF\n"));
    let exemplar = format!("trace_id=\"{}\"", answer.header("x-trace-id"));
    for family in ["http_server_request_duration_seconds_bucket{", "db_client_operation_duration_seconds_bucket{"] {
        let found = scrape.text.lines().any(|line| line.starts_with(family) && line.contains(&exemplar));
        assert!(found, "{family} has no exemplar of {exemplar}");
    }
    // A trace that is not sampled is no example.
    let quiet = app
        .request(reqwest::Method::GET, "/v1/tenant", &acme.key)
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4799-00f067aa0ba902b7-00");
    Answer::of(quiet).await.ok(200);
    let scrape = Answer::of(app.admin.request(reqwest::Method::GET, "/metrics", "").header("accept", accept)).await;
    assert!(!scrape.text.contains("4bf92f3577b34da6a3ce929d0e0e4799"));
    assert_eq!(app.admin.get("/metrics", "").await.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_answer_is_complete_when_its_last_byte_is_taken() {
    let app = TestApp::start().await;
    let request = app.request(reqwest::Method::GET, "/openapi.json", "").header("accept-encoding", "gzip");
    let response = request.send().await.unwrap();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let bytes = response.bytes().await.unwrap();
    let canonical =
        crate::support::eventually("the canonical line", || async { SHARED.logs("request_id", &id).await.pop() }).await;
    assert_eq!((&canonical["status"], &canonical["outcome"]), (&json!(200), &json!("success")));
    assert_eq!(canonical["response_bytes"].as_u64(), Some(bytes.len() as u64), "as sent");
    app.stop().await;
}
