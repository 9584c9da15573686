//! What Postgres and its statements show of a request: the trace in `pg_stat_activity`, slow statements
//! by summary, text cut and without parameters; and what an unsampled trace still gives.

use reqwest::Method;
use serde_json::json;
use sqlx::Connection as _;

use crate::support::{Answer, TestApp, eventually, services, sinks::SHARED};

const FAULTS: (&str, &str) = ("APP__FAULTS__ENABLED", "true");

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_into_postgres_sees_which_trace_a_session_works_for() {
    let app = TestApp::with(&[FAULTS]).await;
    let acme = app.tenant("acme").await;
    let mut owner = services::connect("DATABASE_MIGRATION_URL", &app.database).await;
    let seen = async |owner: &mut sqlx::PgConnection, trace: &str| {
        let sql = "select count(*) from pg_stat_activity where application_name like $1";
        sqlx::query_scalar::<_, i64>(sql).bind(format!("00-{trace}-%")).fetch_one(owner).await.unwrap()
    };
    for (flags, trace, shown) in
        [("01", "4bf92f3577b34da6a3ce929d0e0ecc01", 1), ("00", "4bf92f3577b34da6a3ce929d0e0ecc02", 0)]
    {
        let request = app
            .request(Method::POST, "/v1/faults/slow-query?ms=1500", &acme.key)
            .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-{flags}"))
            .header("x-request-id", trace);
        let asking = tokio::spawn(request.send());
        eventually("the request to be at work", || async {
            app.admin.get("/debug/requests", "").await.text.contains(trace).then_some(())
        })
        .await;
        let mut most = 0;
        while !asking.is_finished() && most < 1 {
            most = seen(&mut owner, trace).await;
        }
        assert_eq!(most, shown, "sampled {flags}");
        assert_eq!(asking.await.unwrap().unwrap().status(), 200);
        assert_eq!(seen(&mut owner, trace).await, 0, "it ends with the transaction");
    }
    owner.close().await.unwrap();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsampled_request_has_its_ids_in_the_log_and_no_span() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0ecc03";
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let request = app
        .request(Method::GET, "/v1/tenant", &acme.key)
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-00"));
    let answer = Answer::of(request).await;
    assert_eq!(answer.header("x-trace-id"), TRACE);
    let lines = SHARED.logs("trace_id", TRACE).await;
    assert_eq!((lines.len(), &lines[0]["sampled"]), (1, &json!(false)), "{lines:#?}");
    // What came after it has arrived, so it would have too.
    let later = app.get("/v1/tenant", &acme.key).await;
    SHARED.trace(later.header("x-trace-id"), 1).await;
    assert!(SHARED.collector.trace(TRACE).is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_statement_is_a_line_with_its_request_and_a_count_by_summary() {
    let app = TestApp::with(&[FAULTS, ("APP__DATABASE__SLOW_QUERY", "50ms")]).await;
    let acme = app.tenant("acme").await;
    let answer = app.post("/v1/faults/slow-query?ms=80", &acme.key, &json!({})).await;
    answer.ok(200);
    let lines = SHARED.logs("request_id", answer.header("x-request-id")).await;
    let slow = lines.iter().find(|line| line["message"] == "slow_query").unwrap_or_else(|| panic!("{lines:#?}"));
    assert_eq!((slow["level"].as_str(), slow["duration_ms"].as_f64() >= Some(80.0)), (Some("WARN"), true));
    assert_eq!((&slow["route"], &slow["tenant_id"]), (&json!("/v1/faults/slow-query"), &json!(acme.id.to_string())));
    assert_eq!(slow["trace_id"], answer.header("x-trace-id"));
    assert!(slow["rows"].is_u64() || slow["rows"].is_i64());
    let text = slow["db_query_text"].as_str().unwrap();
    assert!(text.contains("$1") && !text.contains("0.08") && text.chars().count() <= 200, "{text}");
    let summary = slow["db_query_summary"].as_str().unwrap();
    let counted = app.metric("db_slow_queries_total", &[&format!("db_query_summary=\"{summary}\"")]).await;
    assert_eq!(counted, 1.0);
    // Fast ones are neither.
    let fast = app.get("/v1/tenant", &acme.key).await;
    assert!(
        SHARED.logs("request_id", fast.header("x-request-id")).await.iter().all(|line| line["message"] != "slow_query")
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_is_compressed_for_who_asks() {
    let app = TestApp::start().await;
    app.get("/v1/tenant", "").await.problem(401, "missing_api_key");
    let request = app.admin.request(Method::GET, "/metrics", "").header("accept-encoding", "gzip");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let (bytes, mut text) = (response.bytes().await.unwrap(), String::new());
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text).unwrap();
    assert!(text.contains("# TYPE http_server_request_duration_seconds histogram") && bytes.len() * 3 < text.len());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_met_another_one_is_run_again_at_most_twice() {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use keel::platform::db::{TenantTx, retried};
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let db = app.running.app.db();
    let conflict = async |code: &str| {
        let mut tx = TenantTx::begin(db, acme.id).await?;
        let raise = format!("do $$ begin raise exception 'met another' using errcode = '{code}'; end $$");
        sqlx::query(sqlx::AssertSqlSafe(raise)).execute(tx.traced("DO")).await?;
        tx.commit().await
    };
    let retries = async |outcome: &str| {
        app.metric("database_transaction_retries_total", &[&format!("outcome=\"{outcome}\"")]).await
    };
    for (code, fails, tries, good) in
        [("40001", 1, 2, true), ("40P01", 2, 3, true), ("40001", 9, 3, false), ("55P03", 9, 1, false)]
    {
        let runs = AtomicU32::new(0);
        let result =
            retried(db, || async { if runs.fetch_add(1, Relaxed) < fails { conflict(code).await } else { Ok(()) } })
                .await;
        assert_eq!((result.is_ok(), runs.load(Relaxed)), (good, tries), "{code}");
    }
    assert_eq!((retries("success").await, retries("failure").await), (2.0, 3.0));
    app.stop().await;
}
