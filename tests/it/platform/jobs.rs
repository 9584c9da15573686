//! The queue: poison is set aside, the rest flows, nothing grows.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{TestApp, eventually, process, services};

const FAULTS: (&str, &str) = ("APP__FAULTS__ENABLED", "true");

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_job_is_a_dead_letter_after_five_tries_and_the_others_flow() {
    let app = TestApp::with(&[FAULTS]).await;
    let acme = app.tenant("acme").await;
    app.post("/v1/faults/jobs?fail=true", &acme.key, &json!(null)).await.ok(200);
    app.post("/v1/faults/jobs?n=50", &acme.key, &json!(null)).await.ok(200);
    eventually("the dead letter", || async {
        (app.metric("jobs_dead_letters_total", &["queue=\"faults\""]).await == 1.0).then_some(())
    })
    .await;
    eventually("the others", || async {
        (app.metric("job_duration_seconds_count", &["job=\"faults.nothing\"", "outcome=\"success\""]).await == 50.0)
            .then_some(())
    })
    .await;
    assert_eq!(app.metric("job_duration_seconds_count", &["job=\"faults.poison\"", "outcome=\"retry\""]).await, 4.0);
    assert_eq!(app.metric("job_duration_seconds_count", &["job=\"faults.poison\"", "outcome=\"dead\""]).await, 1.0);

    let settings = process::settings(&app.database);
    let dead = process::text(&process::run(&["job", "dead"], &settings).stdout);
    assert_eq!(dead.lines().count(), 1, "{dead}");
    let id = dead.split('\t').next().unwrap();
    assert!(
        dead.contains("faults.poison")
            && dead.contains(&acme.id.to_string())
            && dead.contains("internal: a fault was asked for"),
        "{dead}"
    );
    let requeued = process::run(&["job", "requeue", id], &settings);
    assert_eq!(process::text(&requeued.stdout), "1 requeued\n");
    eventually("dead again", || async {
        (app.metric("jobs_dead_letters_total", &["queue=\"faults\""]).await == 2.0).then_some(())
    })
    .await;
    assert_eq!(
        process::run(&["job", "requeue", "01890000-0000-7000-8000-00000000000a"], &settings).status.code(),
        Some(1)
    );
    eventually("an empty queue", || async {
        (app.metric("jobs_pending", &["queue=\"faults\""]).await == 0.0).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_drain_and_memory_stays_flat() {
    const JOBS: i32 = 10_000;
    let app =
        TestApp::with(&[FAULTS, ("APP__JOBS__CONCURRENCY", "8"), ("APP__DATABASE__SYSTEM_MAX_CONNECTIONS", "10")])
            .await;
    let acme = app.tenant("acme").await;
    let mut owner = services::connect("DATABASE_URL", &app.database).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "begin; set local statement_timeout = '30s'; set local app.tenant_id = '{}';
         insert into jobs (tenant_id, id, queue, kind, payload, request_id, correlation_id)
         select '{}', gen_random_uuid(), 'faults', 'faults.nothing', '{{}}', 'bulk', 'bulk' from generate_series(1, {JOBS}); commit",
        acme.id, acme.id
    )))
    .execute(&mut owner)
    .await
    .unwrap();
    let done =
        async || app.metric("job_duration_seconds_count", &["job=\"faults.nothing\"", "outcome=\"success\""]).await;
    let (started, before) = (Instant::now(), done().await);
    assert!(app.metric("jobs_pending", &["queue=\"faults\""]).await >= 0.0);
    let deadline = started + Duration::from_secs(120);
    let first = app.metric("process_resident_memory_bytes", &[]).await;
    let mut most = first;
    while done().await < f64::from(JOBS) {
        assert!(Instant::now() < deadline, "{} after 120 s", done().await);
        most = most.max(app.metric("process_resident_memory_bytes", &[]).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let rate = (f64::from(JOBS) - before) / started.elapsed().as_secs_f64();
    println!(
        "10,000 jobs: {rate:.0} a second, at most {:.0} MiB resident (the whole test process)",
        most / 1_048_576.0
    );
    eventually("an empty table", || async {
        let mut system = services::connect("DATABASE_SYSTEM_URL", &app.database).await;
        let left: i64 = sqlx::query_scalar("select count(*) from jobs").fetch_one(&mut system).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    assert!(most - first < 128.0 * 1_048_576.0, "from {first} to {most} bytes");
    drop(owner);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_a_queue_and_run_each_job_once() {
    let first = TestApp::with(&[FAULTS]).await;
    let second = TestApp::unready(crate::support::app::Different {
        settings: [(FAULTS.0.to_owned(), FAULTS.1.to_owned())].into(),
        database: Some(first.database.clone()),
    })
    .await;
    second.ready().await;
    let acme = first.tenant("acme").await;
    for _ in 0..5 {
        first.post("/v1/faults/jobs?n=100", &acme.key, &json!(null)).await.ok(200);
    }
    let count = ["job=\"faults.nothing\"", "outcome=\"success\""];
    eventually("all of them", || async {
        let done = first.metric("job_duration_seconds_count", &count).await
            + second.metric("job_duration_seconds_count", &count).await;
        assert!(done <= 500.0, "{done} runs of 500 jobs");
        (done == 500.0).then_some(())
    })
    .await;
    assert!(second.running.shutdown().await);
    first.stop().await;
}
