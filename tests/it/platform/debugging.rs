//! What a person looks at while the service runs: requests under way, profiles, timings, the waterfall
//! under a line, and the warnings about queries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use prost::Message as _;
use reqwest::Method;
use serde_json::json;

use crate::support::{
    Answer, TestApp, eventually,
    process::{Service, run, settings, text},
    services,
    sinks::SHARED,
};

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_listed_oldest_first_and_leave_the_list() {
    let app = TestApp::with(&[("APP__FAULTS__ENABLED", "true")]).await;
    let acme = app.tenant("acme").await;
    let ask = |id: &'static str| {
        app.request(Method::POST, "/v1/faults/slow-query?ms=1500", &acme.key).header("x-request-id", id).send()
    };
    let (first, second) = (tokio::spawn(ask("under-way-1")), tokio::spawn(ask("under-way-2")));
    let rows = eventually("both to be listed", || async {
        let listed = app.admin.get("/debug/requests", "").await.ok(200);
        let mine: Vec<_> = listed["requests"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| {
                row["request_id"].as_str().is_some_and(|id| id.starts_with("under-way-")) && !row["tenant_id"].is_null()
            })
            .cloned()
            .collect();
        (mine.len() == 2).then_some(mine)
    })
    .await;
    let row = &rows[0];
    assert_eq!((&row["route"], &row["method"]), (&json!("/v1/faults/slow-query"), &json!("POST")));
    assert_eq!(row["tenant_id"], acme.id.to_string());
    assert_eq!(row["trace_id"].as_str().unwrap().len(), 32);
    assert!(rows[0]["age_ms"].as_u64() >= rows[1]["age_ms"].as_u64());
    for request in [first, second] {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    eventually("the list to forget them", || async {
        let listed = app.admin.get("/debug/requests", "").await.text;
        (!listed.contains("under-way-")).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "cpu-profile"), ignore = "needs `cpu-profile`")]
async fn a_cpu_profile_names_the_function_that_burns_one_at_a_time() {
    let app = TestApp::start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let burn = std::thread::spawn(move || burn_for_the_profile(&told));
    let profile = |format: &str| {
        let request = app.admin.request(Method::GET, &format!("/debug/pprof/profile?seconds=1&format={format}"), "");
        async move { request.send().await.unwrap() }
    };
    let both = tokio::join!(profile("svg"), profile("svg"));
    let (svg, refused) = if both.0.status() == 200 { both } else { (both.1, both.0) };
    assert_eq!(refused.status(), 409);
    assert!(refused.text().await.unwrap().contains("profile_running"));
    assert_eq!((svg.status().as_u16(), &svg.headers()["content-type"]), (200, &"image/svg+xml".parse().unwrap()));
    let svg = svg.text().await.unwrap();
    assert!(
        svg.contains("<svg") && svg.contains("burn_for_the_profile"),
        "the function that burns: {}",
        &svg[..500.min(svg.len())]
    );
    let pb = profile("pb").await;
    assert_eq!(pb.status(), 200);
    let bytes = pb.bytes().await.unwrap();
    let mut raw = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut raw).unwrap();
    #[derive(prost::Message)]
    struct Names {
        #[prost(string, repeated, tag = "6")]
        strings: Vec<String>,
    }
    let names = Names::decode(&raw[..]).unwrap().strings;
    assert!(names.iter().any(|name| name.contains("burn_for_the_profile")), "{} names", names.len());
    for bad in ["seconds=0", "seconds=61", "seconds=x", "format=png"] {
        app.admin.get(&format!("/debug/pprof/profile?{bad}"), "").await.problem_without_ids(400, "malformed_profile");
    }
    assert_eq!(app.admin.get("/debug/pprof/heap", "").await.status >= 400, !cfg!(feature = "heap-profile"));
    stop.store(true, Relaxed);
    burn.join().unwrap();
    app.stop().await;
}

#[inline(never)]
fn burn_for_the_profile(stop: &AtomicBool) {
    let mut rounds = 0_u64;
    while !stop.load(Relaxed) {
        rounds = std::hint::black_box(rounds.wrapping_add(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_queries_and_long_waits_are_said_by_name() {
    let app = TestApp::with(&[
        ("APP__FAULTS__ENABLED", "true"),
        ("APP__HTTP__QUERY_BUDGET", "10"),
        ("APP__HTTP__QUERY_BUDGETS", "POST /v1/faults/slow-query=0"),
        ("APP__DATABASE__MAX_CONNECTIONS", "1"),
        ("APP__DATABASE__SLOW_ACQUIRE", "50ms"),
        ("APP__DATABASE__ACQUIRE_TIMEOUT", "3s"),
    ])
    .await;
    let acme = app.tenant("acme").await;
    let said = async |answer: &Answer, message: &str| {
        let lines = SHARED.logs("request_id", answer.header("x-request-id")).await;
        lines.into_iter().find(|line| line["message"] == message)
    };
    let loops = app.post("/v1/faults/n-plus-one?n=30", &acme.key, &json!({})).await;
    let line = said(&loops, "query_budget_exceeded").await.unwrap();
    assert_eq!((&line["budget"], &line["times"], line["level"].as_str()), (&json!(10), &json!(30), Some("WARN")));
    assert!(line["db_query_summary"].as_str().unwrap().starts_with("SELECT "), "{line}");
    let few = app.post("/v1/faults/n-plus-one?n=5", &acme.key, &json!({})).await;
    assert_eq!(said(&few, "query_budget_exceeded").await, None);
    let own = app.post("/v1/faults/slow-query?ms=1", &acme.key, &json!({})).await;
    assert_eq!(said(&own, "query_budget_exceeded").await.unwrap()["budget"], 0, "a budget of its own");
    let route = "http_route=\"/v1/faults/n-plus-one\"";
    assert_eq!(app.metric("db_queries_per_request_bucket", &[route, "le=\"20\""]).await, 1.0);
    assert_eq!(app.metric("db_queries_per_request_count", &[route]).await, 2.0);

    // Two at once on a pool of one: the second waits.
    let waits = eventually("a wait", || async {
        let nothing = json!({});
        let ask = || app.post("/v1/faults/slow-query?ms=300", &acme.key, &nothing);
        let (one, other) = futures_util::future::join(ask(), ask()).await;
        match said(&one, "slow_acquire").await {
            Some(line) => Some(line),
            None => said(&other, "slow_acquire").await,
        }
    })
    .await;
    assert!(waits["duration_ms"].as_f64().unwrap() >= 50.0);
    assert_eq!(
        (&waits["connections"], &waits["succeeded"], &waits["tenant_id"]),
        (&json!(1), &json!(true), &json!(acme.id.to_string()))
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_timing_is_there_when_asked_for_and_else_not() {
    let app = TestApp::with(&[("APP__HTTP__SERVER_TIMING", "true")]).await;
    let acme = app.tenant("acme").await;
    let answer = app.get("/v1/tenant", &acme.key).await;
    let header = answer.header("server-timing");
    for metric in ["total;dur=", "db;dur=", "pool;dur=", "redis;dur="] {
        assert!(header.contains(metric), "{header}");
    }
    app.stop().await;
    let app = TestApp::start().await;
    assert_eq!(app.get("/v1/tenant", "").await.header("server-timing"), "");
    app.stop().await;
}

/// A terminal: pretty lines, a waterfall under the request's line, and a loop that is held to its limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_the_spans_under_the_line_and_not_the_same_line_a_thousand_times() {
    let database = services::database().await;
    let mut variables = settings(&database);
    variables.insert("APP__LOG__FORMAT".to_owned(), "pretty".to_owned());
    variables.insert("APP__LOG__RATE_LIMIT".to_owned(), "5".to_owned());
    variables.insert("APP__FAULTS__ENABLED".to_owned(), "true".to_owned());
    variables.insert("APP__DATABASE__ACQUIRE_TIMEOUT".to_owned(), "4s".to_owned());
    variables.insert("APP__HTTP__BIND".to_owned(), services::free_address());
    variables.insert("APP__ADMIN__BIND".to_owned(), services::free_address());
    assert!(run(&["tenant", "create", "acme"], &variables).status.success());
    let key =
        text(&run(&["api-key", "create", "--tenant", "acme", "--scope", "write", "--name", "x"], &variables).stdout);
    let key = key.trim();
    let public = crate::support::client::Client::new(format!("http://{}", variables["APP__HTTP__BIND"]));
    let admin = crate::support::client::Client::new(format!("http://{}", variables["APP__ADMIN__BIND"]));
    let mut service = Service::serve(&variables);
    let printed =
        || service.lines().iter().map(|line| line.as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>();
    eventually("the start", || async { printed().iter().any(|line| line.contains("service_started")).then_some(()) })
        .await;
    assert_eq!(admin.get("/health/ready", "").await.status, 200);
    let answer = public.post("/v1/faults/slow-query?ms=40", key, &json!({})).await;
    answer.ok(200);
    let drawn = eventually("the waterfall", || async {
        let lines = printed();
        let at = lines
            .iter()
            .position(|line| line.contains("request_completed") && line.contains(answer.header("x-trace-id")))?;
        lines.get(at + 3)?;
        Some(lines[at + 1..at + 4].join("\n"))
    })
    .await;
    assert!(drawn.contains("POST /v1/faults/slow-query") && drawn.contains("SELECT") && drawn.contains('█'), "{drawn}");
    // The same warning, over and over.
    for _ in 0..30 {
        public.get("/v1/tenant", "ak_wrong").await.problem(401, "invalid_api_key");
    }
    eventually("what was held back to be said", || async {
        printed()
            .iter()
            .any(|line| line.contains("log_suppressed") && line.contains("event=\"security_event\""))
            .then_some(())
    })
    .await;
    assert!(printed().iter().filter(|line| line.contains(" security_event ")).count() <= 15);
    assert_eq!(
        printed().iter().filter(|line| line.contains("request_completed") && line.contains("401")).count(),
        30,
        "never held back"
    );
    service.signal("TERM");
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
    services::drop_database(&database).await;
}
