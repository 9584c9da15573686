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
    eventually("it counts as dead", || async {
        (app.metric("jobs_dead", &["queue=\"faults\""]).await == 1.0).then_some(())
    })
    .await;
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

/// Jobs of the faults, straight into the table.
async fn bulk(database: &str, tenant: &str, kind: &str, count: i32, attempts: i32) {
    let mut runtime = services::connect("DATABASE_URL", database).await;
    let sql = format!(
        "begin; set local statement_timeout = '30s'; set local app.tenant_id = '{tenant}';
         insert into jobs (tenant_id, id, queue, kind, payload, request_id, correlation_id, attempts)
         select '{tenant}', gen_random_uuid(), 'faults', '{kind}', '{{}}', 'bulk', 'bulk', {attempts} from generate_series(1, {count}); commit"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut runtime).await.unwrap();
}

async fn left(database: &str) -> i64 {
    let mut system = services::connect("DATABASE_SYSTEM_URL", database).await;
    sqlx::query_scalar("select count(*) from jobs where dead_at is null").fetch_one(&mut system).await.unwrap()
}

/// With the defaults, in a process of its own, whose memory is then nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_drain_and_memory_stays_flat() {
    const JOBS: i32 = 10_000;
    let database = services::database().await;
    let mut variables = process::settings(&database);
    variables.insert(FAULTS.0.to_owned(), FAULTS.1.to_owned());
    variables.insert("RUST_LOG".to_owned(), "warn".to_owned());
    let tenant = process::text(&process::run(&["tenant", "create", "acme"], &variables).stdout).trim().to_owned();
    variables.insert("APP__HTTP__BIND".to_owned(), "127.0.0.1:0".to_owned());
    variables.insert("RUST_LOG".to_owned(), "warn,keel::app=info".to_owned());
    let mut service = process::Process::serve(&variables);
    let (_, admin) = service.clients().await;
    service.line("service_started").await;
    let resident = async || {
        let text = admin.get("/metrics", "").await.text;
        let line = text.lines().find(|line| line.starts_with("process_resident_memory_bytes ")).unwrap().to_owned();
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    bulk(&database, &tenant, "faults.nothing", 200, 0).await;
    eventually("warm", || async { (left(&database).await == 0).then_some(()) }).await;
    let before = resident().await;
    let (started, mut most) = (Instant::now(), before);
    bulk(&database, &tenant, "faults.nothing", JOBS, 0).await;
    while left(&database).await > 0 {
        assert!(started.elapsed() < Duration::from_secs(120), "{} left after 120 s", left(&database).await);
        most = most.max(resident().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let rate = f64::from(JOBS) / started.elapsed().as_secs_f64();
    let mib = |bytes: f64| bytes / 1_048_576.0;
    println!("10,000 jobs: {rate:.0} a second; resident {:.1} MiB before, {:.1} MiB at most", mib(before), mib(most));
    assert!(mib(most - before) <= 16.0, "from {:.1} to {:.1} MiB", mib(before), mib(most));
    service.signal("TERM");
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_its_process_every_time_is_buried_without_another_run() {
    let app = TestApp::with(&[FAULTS]).await;
    let acme = app.tenant("acme").await;
    bulk(&app.database, &acme.id.to_string(), "faults.nothing", 1, 5).await;
    eventually("the dead letter", || async {
        (app.metric("jobs_dead_letters_total", &["queue=\"faults\""]).await == 1.0).then_some(())
    })
    .await;
    let dead = process::text(&process::run(&["job", "dead"], &process::settings(&app.database)).stdout);
    assert!(dead.contains("its runs never ended"), "{dead}");
    // What this process does not know is left alone, for one that does.
    bulk(&app.database, &acme.id.to_string(), "of.the.next.release", 1, 0).await;
    bulk(&app.database, &acme.id.to_string(), "faults.nothing", 20, 0).await;
    eventually("the known ones", || async { (left(&app.database).await == 1).then_some(()) }).await;
    eventually("it counts as waiting", || async {
        (app.metric("jobs_pending", &["queue=\"faults\""]).await == 1.0).then_some(())
    })
    .await;
    assert!(app.metric("jobs_oldest_age_seconds", &["queue=\"faults\""]).await > 0.0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_late_when_it_is_due_not_when_it_is_old() {
    let app = TestApp::with(&[FAULTS]).await;
    let acme = app.tenant("acme").await;
    let age = || app.metric("jobs_oldest_age_seconds", &["queue=\"faults\""]);
    let mut system = services::connect("DATABASE_SYSTEM_URL", &app.database).await;
    // Nobody here knows the kind, so nobody takes it.
    bulk(&app.database, &acme.id.to_string(), "of.the.next.release", 1, 3).await;
    // Tried again and again for an hour, and now in a pause between two tries.
    let paused = "update jobs set created_at = now() - interval '1 hour', run_at = now() + interval '20 minutes'";
    sqlx::raw_sql(paused).execute(&mut system).await.unwrap();
    eventually("it waits and is not late", || async {
        (app.metric("jobs_pending", &["queue=\"faults\""]).await == 1.0 && age().await == 0.0).then_some(())
    })
    .await;
    sqlx::raw_sql("update jobs set run_at = now() - interval '10 minutes'").execute(&mut system).await.unwrap();
    eventually("it is late", || async { (age().await >= 600.0).then_some(()) }).await;
    // Somebody else has taken it.
    sqlx::raw_sql("update jobs set locked_until = now() + interval '1 minute'").execute(&mut system).await.unwrap();
    eventually("it runs", || async { (age().await == 0.0).then_some(()) }).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_a_queue_and_run_each_job_once() {
    let first = TestApp::with(&[FAULTS]).await;
    let second = TestApp::unready(crate::support::app::Different {
        settings: [(FAULTS.0.to_owned(), FAULTS.1.to_owned())].into(),
        database: Some(first.database.clone()),
        ..Default::default()
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

/// One tenant's endpoint is dead and each of its jobs waits for it: the others' must not wait behind them.
#[tokio::test(flavor = "multi_thread")]
async fn no_tenant_has_the_last_place_of_a_queue() {
    use keel::platform::{
        db::SystemTx,
        jobs::store::{self, Wanted},
    };
    let app = TestApp::with(&[("APP__JOBS__ENABLED", "false")]).await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    bulk(&app.database, &acme.id.to_string(), "faults.nothing", 50, 0).await;
    bulk(&app.database, &globex.id.to_string(), "faults.nothing", 1, 0).await;
    let claim = async |most, running| {
        let mut tx = SystemTx::begin(app.running.app.db()).await.unwrap();
        let kinds = ["faults.nothing"];
        let wanted =
            Wanted { queue: "faults", kinds: &kinds, most, most_of_one: 3, running, lease: Duration::from_secs(60) };
        let claimed = store::claim(&mut tx, &wanted).await.unwrap();
        tx.commit().await.unwrap();
        claimed.into_iter().map(|job| job.tenant_id).collect::<Vec<_>>()
    };
    let (acme, globex) = (acme.id.as_uuid(), globex.id.as_uuid());
    assert_eq!(claim(4, Vec::new()).await, [acme; 3], "all but one place");
    assert_eq!(claim(1, vec![(acme, 3)]).await, [globex], "which is for the next tenant, however long the queue");
    assert!(claim(1, vec![(acme, 3)]).await.is_empty(), "and stays free without one");
    assert_eq!(claim(2, vec![(acme, 2)]).await, [acme]);
    app.stop().await;
}
