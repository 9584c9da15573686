//! Error reporting: one event for each fault, none for anything else, nothing in it that must not
//! leave, and a Sentry that is away costs nothing.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, TestApp, eventually,
    process::{Service, settings},
    sentry_server::{Behaviour, SentryServer},
    services,
    sinks::SHARED,
    things,
};

/// The events of a trace, after what is queued has left.
async fn events(trace_id: &str) -> Vec<Value> {
    SHARED.flush().await;
    SHARED.sentry.events().into_iter().filter(|event| event["contexts"]["trace"]["trace_id"] == trace_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "sentry"), ignore = "needs `sentry`")]
async fn a_fault_is_one_event_found_by_trace_log_line_and_header() {
    let app = TestApp::with(&[("APP__FAULTS__ENABLED", "true")]).await;
    let acme = app.tenant("acme").await;
    for (path, kind, handled) in [("/v1/faults/error", "fault_injected", true), ("/v1/faults/panic", "panic", false)] {
        let answer = app.post(path, &acme.key, &json!({})).await;
        assert_eq!(answer.status, 500);
        let found = events(answer.header("x-trace-id")).await;
        assert_eq!(found.len(), 1, "{path}: {found:#?}");
        let event = &found[0];
        assert_eq!(event["event_id"], answer.header("x-sentry-event-id"), "{path}");
        assert!(SHARED.sentry.requests() > 0 && SHARED.sentry.auths().iter().all(|auth| auth.contains("sentry_key=")));
        assert_eq!(event["exception"]["values"][0]["type"], kind);
        assert_eq!(event["exception"]["values"][0]["mechanism"]["handled"], handled);
        assert_eq!(event["transaction"], format!("POST {path}"));
        assert_eq!(event["environment"], "test");
        assert!(event["release"].as_str().unwrap().starts_with("keel@"), "{event}");
        assert_eq!(event["tags"]["request_id"], answer.header("x-request-id"));
        assert_eq!(event["tags"]["tenant_id"], acme.id.to_string());
        assert!(acme.key.contains(event["user"]["id"].as_str().unwrap()));
        let lines = SHARED.logs("request_id", answer.header("x-request-id")).await;
        let told: Vec<_> = lines.iter().filter(|line| line["sentry_event_id"] == event["event_id"]).collect();
        assert_eq!(told.len(), 1, "in the line of the fault: {lines:#?}");
        if kind == "panic" {
            let frames = event["exception"]["values"][0]["stacktrace"]["frames"].as_array().unwrap();
            assert!(
                frames
                    .iter()
                    .any(|frame| frame["function"].as_str().is_some_and(|name| name.contains("faults::panic")))
            );
        } else {
            assert_eq!(
                event["fingerprint"],
                json!(["fault_injected", "POST /v1/faults/error"]),
                "stable: no text in it"
            );
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "sentry"), ignore = "needs `sentry`")]
async fn what_is_no_fault_is_no_event() {
    let app = TestApp::with_things(&[("APP__FAULTS__ENABLED", "true")]).await;
    let acme = app.tenant("acme").await;
    let mut answers = vec![
        app.get("/v1/tenant", "").await,
        app.get(&format!("{}/019aa000-0000-7000-8000-000000000000", things::PATH), &acme.key).await,
        app.post(things::PATH, &acme.key, &json!({})).await,
        app.get("/v1/tenant", &acme.key).await,
    ];
    answers.push(app.post_raw(things::PATH, &acme.key, "{").await);
    for answer in &answers {
        assert!(answer.status < 500);
        assert_eq!((events(answer.header("x-trace-id")).await, answer.header("x-sentry-event-id")), (vec![], ""));
    }
    // A client that hangs up, while the work it asked for goes on.
    let request =
        app.request(Method::POST, "/v1/faults/sleep?ms=300", &acme.key).header("x-request-id", "left-early-1");
    assert!(request.timeout(Duration::from_millis(100)).send().await.is_err());
    let line = eventually("the 499", || async { SHARED.logs("request_id", "left-early-1").await.pop() }).await;
    assert_eq!(line["status"], 499);
    assert_eq!(events(line["trace_id"].as_str().unwrap()).await, Vec::<Value>::new());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "sentry"), ignore = "needs `sentry`")]
async fn a_job_that_is_given_up_is_one_event_and_its_retries_are_none() {
    let app = TestApp::with(&[("APP__FAULTS__ENABLED", "true"), ("APP__JOBS__MAX_ATTEMPTS", "3")]).await;
    let acme = app.tenant("acme").await;
    let answer = app.post("/v1/faults/jobs?fail=true", &acme.key, &json!({})).await;
    answer.ok(200);
    let request = answer.header("x-request-id");
    let dead = eventually("the dead letter", || async {
        SHARED.logs("request_id", request).await.into_iter().find(|line| line["outcome"] == "dead")
    })
    .await;
    SHARED.flush().await;
    let found: Vec<Value> =
        SHARED.sentry.events().into_iter().filter(|event| event["tags"]["request_id"] == request).collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["event_id"], dead["sentry_event_id"]);
    assert_eq!(found[0]["contexts"]["trace"]["trace_id"], dead["trace_id"], "the job's own trace");
    assert!(found[0]["transaction"].as_str().unwrap().starts_with("job "));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "sentry"), ignore = "needs `sentry`")]
async fn a_sentry_that_is_away_slow_or_full_costs_no_request_and_no_exit() {
    for (behaviour, outcome) in [
        (Behaviour::Refuse(500), "failed"),
        (Behaviour::Silent, "failed"),
        (Behaviour::Reset, "failed"),
        (Behaviour::Slow(Duration::from_millis(500)), "sent"),
        (Behaviour::TooMany(3_600), "rate_limited"),
        // More than a clock can hold.
        (Behaviour::TooMany(u64::MAX), "rate_limited"),
    ] {
        let (server, database) = (SentryServer::start(), services::database().await);
        server.set(behaviour);
        let mut variables = settings(&database);
        variables.insert("SENTRY_DSN".to_owned(), server.dsn());
        variables.insert("APP__FAULTS__ENABLED".to_owned(), "true".to_owned());
        // The commands below are processes of their own, on a busy machine.
        variables.insert("APP__DATABASE__ACQUIRE_TIMEOUT".to_owned(), "4s".to_owned());
        let mut service = Service::serve(&variables);
        let (public, admin) = service.clients().await;
        eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) }).await;
        let key = crate::support::process::run(&["tenant", "create", "acme"], &variables);
        assert!(key.status.success());
        let key = crate::support::process::run(
            &["api-key", "create", "--tenant", "acme", "--scope", "write", "--name", "x"],
            &variables,
        );
        let key = crate::support::process::text(&key.stdout).trim().to_owned();
        let began = Instant::now();
        for path in ["/v1/faults/error", "/v1/faults/panic", "/v1/faults/error"] {
            let answer: Answer = public.post(path, &key, &json!({})).await;
            assert_eq!((answer.status, answer.header("x-sentry-event-id").len()), (500, 32), "{behaviour:?} {path}");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{behaviour:?}: {:?}", began.elapsed());
        let counted = format!("sentry_events_total{{outcome=\"{outcome}\"}} ");
        eventually(&format!("{behaviour:?} to be counted"), || async {
            let text = admin.get("/metrics", "").await.text;
            text.lines().any(|line| line.strip_prefix(&counted).is_some_and(|n| n != "0")).then_some(())
        })
        .await;
        let asked = Instant::now();
        service.signal("TERM");
        assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
        assert!(asked.elapsed() < Duration::from_secs(9), "{behaviour:?}: {:?}", asked.elapsed());
        services::drop_database(&database).await;
    }
}

/// The client has its 504; what the work comes to later must still be told, once.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "sentry"), ignore = "needs `sentry`")]
async fn a_fault_after_the_client_has_gone_is_logged_counted_and_reported() {
    let app = TestApp::with_things(&[("APP__FAULTS__ENABLED", "true")]).await;
    let acme = app.tenant("acme").await;
    let mut owner = services::connect("DATABASE_MIGRATION_URL", &app.database).await;
    let sql = "create function fail() returns trigger language plpgsql as $$ begin perform pg_sleep(0.5); raise exception 'late'; end $$;
               create trigger fail before insert on test_things for each row execute function fail();";
    sqlx::raw_sql(sql).execute(&mut owner).await.unwrap();
    sqlx::Connection::close(owner).await.unwrap();
    let request = app.request(Method::POST, things::PATH, &acme.key).header("x-request-id", "late-fault-1");
    let request = request.json(&things::thing("oak"));
    assert!(request.timeout(Duration::from_millis(150)).send().await.is_err());
    let failed = eventually("the late fault", || async {
        SHARED.logs("request_id", "late-fault-1").await.into_iter().find(|line| line["message"] == "request_failed")
    })
    .await;
    assert_eq!(
        (&failed["status"], failed["error"].as_str().unwrap().contains("late")),
        (&json!(500), true),
        "{failed}"
    );
    let found = events(failed["trace_id"].as_str().unwrap()).await;
    assert_eq!((found.len(), &found[0]["event_id"]), (1, &failed["sentry_event_id"]));
    assert_eq!(app.metric("unhandled_errors_total", &["kind=\"error\""]).await, 1.0);
    app.stop().await;
}
