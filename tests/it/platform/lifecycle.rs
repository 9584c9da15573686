//! The process: start, probes, SIGTERM and its phases, exit codes. On the built binary.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Answer,
    app::sum,
    eventually,
    process::{Service, run, settings, text},
    services,
};

const SOON: Duration = Duration::from_secs(30);

/// A database with one tenant, and its key.
async fn prepared() -> (String, std::collections::BTreeMap<String, String>, String) {
    let database = services::database().await;
    let variables = settings(&database);
    assert!(run(&["tenant", "create", "acme"], &variables).status.success());
    let key = run(&["api-key", "create", "--tenant", "acme", "--scope", "write", "--name", "test"], &variables);
    (database, variables, text(&key.stdout).trim().to_owned())
}

async fn ready(admin: &crate::support::client::Client) {
    eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_requests_finish_refuses_new_ones_and_exits_0() {
    let (database, mut variables, key) = prepared().await;
    variables.insert("APP__FAULTS__ENABLED".to_owned(), "true".to_owned());
    variables.insert("APP__LIFECYCLE__DRAIN_DELAY".to_owned(), "500ms".to_owned());
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    ready(&admin).await;
    assert_eq!(admin.get("/health/startup", "").await.status, 200);
    assert!(admin.get("/metrics", "").await.text.contains("\nservice_ready 1\n"));
    assert_eq!(public.get("/health/live", "").await.ok(200), json!({"status": "alive"}));
    assert_eq!(public.get("/health/ready", "").await.ok(200), json!({"status": "ready"}), "status only");
    let version = admin.get("/version", "").await.ok(200);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));

    let slow = tokio::spawn(Answer::of(public.request(reqwest::Method::POST, "/v1/faults/sleep?ms=1500", &key)));
    eventually("the request is in flight", || async {
        admin.get("/metrics", "").await.text.contains("http_server_active_requests 1").then_some(())
    })
    .await;
    service.signal("TERM");
    // During the delay: not ready, still serving.
    eventually("draining", || async {
        let answer = admin.get("/health/ready", "").await;
        (answer.status == 503 && answer.json()["status"] == "draining").then_some(())
    })
    .await;
    assert!(admin.get("/metrics", "").await.text.contains("\nservice_ready 0\n"));
    public.get("/v1/tenant", &key).await.ok(200);
    slow.await.unwrap().ok(200);
    assert_eq!(service.exit(SOON).await, 0);
    assert!(reqwest::get(format!("{}/health/live", public.base)).await.is_err(), "nothing listens any more");
    let names: Vec<_> = service.lines().iter().filter_map(|line| Some(line["message"].as_str()?.to_owned())).collect();
    for name in ["service_starting", "service_started", "shutdown_requested", "shutdown_started", "shutdown_completed"]
    {
        assert!(names.iter().any(|seen| seen == name), "{name} in {names:?}");
    }
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_past_the_drain_deadline_is_cut_and_the_exit_code_is_3() {
    let (database, mut variables, key) = prepared().await;
    variables.insert("APP__FAULTS__ENABLED".to_owned(), "true".to_owned());
    variables.insert("APP__LIFECYCLE__DRAIN_TIMEOUT".to_owned(), "200ms".to_owned());
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    ready(&admin).await;
    let request = public.request(reqwest::Method::POST, "/v1/faults/sleep?ms=20000", &key);
    let slow = tokio::spawn(async move { request.send().await });
    eventually("the request is in flight", || async {
        admin.get("/metrics", "").await.text.contains("http_server_active_requests 1").then_some(())
    })
    .await;
    let asked = Instant::now();
    service.signal("TERM");
    assert_eq!(service.exit(SOON).await, 3);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(slow.await.unwrap().is_err(), "the connection was cut");
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_as_many_workers_as_asked_for_and_never_one_alone() {
    let (database, mut variables, _) = prepared().await;
    for (asked, expected) in [("1", 2), ("3", 3)] {
        variables.insert("TOKIO_WORKER_THREADS".to_owned(), asked.to_owned());
        let mut service = Service::serve(&variables);
        let (_, admin) = service.clients().await;
        assert_eq!(service.line("service_starting").await["workers"], expected);
        assert_eq!(sum(&admin.get("/metrics", "").await.text, "tokio_workers", &[]), f64::from(expected));
        service.signal("TERM");
        assert_eq!(service.exit(SOON).await, 0);
    }
    variables.insert("TOKIO_WORKER_THREADS".to_owned(), "many".to_owned());
    let output = run(&["serve"], &variables);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("TOKIO_WORKER_THREADS"), "{}", text(&output.stderr));
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_wait() {
    let (database, mut variables, _) = prepared().await;
    variables.insert("APP__LIFECYCLE__DRAIN_DELAY".to_owned(), "60s".to_owned());
    let mut service = Service::serve(&variables);
    let (_, admin) = service.clients().await;
    ready(&admin).await;
    service.signal("INT");
    service.line("shutdown_started").await;
    service.signal("TERM");
    assert_eq!(service.exit(SOON).await, 3);
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_it_waits_says_so_and_gives_up_in_time() {
    let database = services::database().await;
    let mut variables = settings(&database);
    for name in ["DATABASE_URL", "DATABASE_SYSTEM_URL"] {
        variables.insert(name.to_owned(), "postgres://keel:hunter2@127.0.0.1:1/keel".to_owned());
    }
    variables.insert("APP__DATABASE__STARTUP_TIMEOUT".to_owned(), "1s".to_owned());
    let mut service = Service::serve(&variables);
    let line = service.line("database_not_usable").await;
    assert_eq!((line["severity"].as_str(), line["code"].as_str()), (Some("critical"), Some("unreachable")));
    assert_eq!(service.exit(SOON).await, 1);
    let said = format!("{:?}{}", service.lines(), service.errors.lock().unwrap());
    assert!(said.contains("gave up after 1 s"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_the_start_ends_it_cleanly() {
    let database = services::empty_database().await;
    let mut service = Service::serve(&settings(&database));
    let (public, admin) = service.clients().await;
    let answer = admin.get("/health/ready", "").await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (503, Some("not_ready")));
    assert_eq!(admin.get("/health/startup", "").await.status, 503);
    assert_eq!(public.get("/health/live", "").await.status, 200, "alive is not ready");
    service.signal("TERM");
    assert_eq!(service.exit(SOON).await, 0);
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_becomes_ready_when_the_migration_it_waited_for_has_run() {
    let database = services::empty_database().await;
    let variables = settings(&database);
    let mut service = Service::serve(&variables);
    let (_, admin) = service.clients().await;
    eventually("the reason", || async {
        (admin.get("/health/ready", "").await.json()["checks"]["postgres"] == "migrations_missing").then_some(())
    })
    .await;
    assert_eq!(run(&["wait-for-schema", "--timeout", "0"], &variables).status.code(), Some(1));
    assert!(run(&["migrate"], &variables).status.success());
    assert!(run(&["wait-for-schema", "--timeout", "1"], &variables).status.success());
    ready(&admin).await;
    service.signal("TERM");
    assert_eq!(service.exit(SOON).await, 0);
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_migrators_at_once_apply_everything_once() {
    let database = services::empty_database().await;
    let variables = settings(&database);
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| run(&["migrate"], &variables))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
    let applied: Vec<String> =
        outputs.iter().map(|output| text(&output.stdout)).filter(|line| !line.starts_with("0 ")).collect();
    assert_eq!(applied.len(), 1, "{applied:?}");
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_one_clear_line_and_exit_1() {
    let database = services::database().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["HTTP", "ADMIN"] {
        let mut variables = settings(&database);
        variables.insert(format!("APP__{key}__BIND"), address.clone());
        let output = run(&["serve"], &variables);
        assert_eq!(output.status.code(), Some(1));
        let error = text(&output.stderr);
        assert!(
            error.contains(&format!("{address} is taken")) && error.contains(&format!("APP__{key}__BIND")),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_asks_the_running_service() {
    let database = services::database().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut variables = settings(&database);
    variables.insert("APP__ADMIN__BIND".to_owned(), free);
    assert_eq!(run(&["healthcheck"], &variables).status.code(), Some(1));
    let mut service = Service::serve(&variables);
    service.clients().await;
    let output = run(&["healthcheck"], &variables);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "alive\n"));
    service.signal("TERM");
    assert_eq!(service.exit(SOON).await, 0);
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_takes_it_out_of_service_and_a_returned_one_brings_it_back() {
    let (database, variables, key) = prepared().await;
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    ready(&admin).await;
    public.get("/v1/tenant", &key).await.ok(200);
    let mut postgres = services::admin().await;
    // No session may be opened, and those that are open end: to the service that is a lost database.
    for sql in [
        format!("alter database {database} allow_connections false"),
        format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut postgres).await.unwrap();
    }
    eventually("not ready", || async {
        let answer = admin.get("/health/ready", "").await;
        (answer.status == 503 && answer.json()["checks"]["postgres"] != "ok").then_some(())
    })
    .await;
    assert_eq!(admin.get("/health/live", "").await.status, 200, "a restart would not help");
    let answer = public.get("/v1/tenant", &key).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(answer.header("retry-after"), "1");
    let sql = format!("alter database {database} allow_connections true");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut postgres).await.unwrap();
    ready(&admin).await;
    public.get("/v1/tenant", &key).await.ok(200);
    service.signal("TERM");
    assert_eq!(service.exit(SOON).await, 0);
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_a_client_that_hung_up_is_finished_before_the_exit() {
    let (database, mut variables, key) = prepared().await;
    variables.insert("APP__FAULTS__ENABLED".to_owned(), "true".to_owned());
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    ready(&admin).await;
    // Holds the row for a second inside its transaction, then queues behind nothing and commits.
    let request =
        public.request(reqwest::Method::POST, "/v1/faults/lock?ms=1000", &key).header("x-request-id", "left-1");
    assert!(request.timeout(Duration::from_millis(200)).send().await.is_err(), "the client leaves");
    service.signal("TERM");
    let asked = Instant::now();
    assert_eq!(service.exit(SOON).await, 0);
    assert!(asked.elapsed() >= Duration::from_millis(500), "it waited for the work: {:?}", asked.elapsed());
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_at_its_limit_is_load_and_not_a_lost_database() {
    let (database, mut variables, key) = prepared().await;
    variables.insert("APP__FAULTS__ENABLED".to_owned(), "true".to_owned());
    variables.insert("APP__DATABASE__MAX_CONNECTIONS".to_owned(), "1".to_owned());
    variables.insert("APP__DATABASE__ACQUIRE_TIMEOUT".to_owned(), "100ms".to_owned());
    variables.insert("APP__LIFECYCLE__CHECK_INTERVAL".to_owned(), "50ms".to_owned());
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    ready(&admin).await;
    public.get("/v1/tenant", &key).await.ok(200);
    let busy = tokio::spawn(Answer::of(public.request(reqwest::Method::POST, "/v1/faults/slow-query?ms=2000", &key)));
    eventually("busy", || async {
        let readiness = admin.get("/health/ready", "").await;
        assert_eq!(readiness.status, 200, "{}", readiness.text);
        (readiness.json()["checks"]["postgres"] == "busy").then_some(())
    })
    .await;
    while !busy.is_finished() {
        assert_eq!(admin.get("/health/ready", "").await.status, 200);
    }
    busy.await.unwrap().ok(200);
    service.signal("TERM");
    assert_eq!(service.exit(SOON).await, 0);
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_readiness_requires_is_a_setting_and_checks_that_stop_coming_count_as_failed() {
    let (database, mut variables, key) = prepared().await;
    variables.insert("REDIS_URL".to_owned(), "redis://127.0.0.1:1/0".to_owned());
    variables.insert("APP__ADMIN__READINESS__REQUIRES".to_owned(), "postgres,redis".to_owned());
    let mut service = Service::serve(&variables);
    let (_, admin) = service.clients().await;
    eventually("redis is required", || async {
        let answer = admin.get("/health/ready", "").await;
        (answer.status == 503
            && answer.json()["checks"]["redis"] == "unreachable"
            && answer.json()["checks"]["postgres"] == "ok")
            .then_some(())
    })
    .await;
    service.signal("TERM");
    assert_eq!(service.exit(SOON).await, 0);

    // Requests that let no worker go: the admin thread answers, and says so.
    variables.remove("APP__ADMIN__READINESS__REQUIRES");
    variables.insert("APP__FAULTS__ENABLED".to_owned(), "true".to_owned());
    variables.insert("TOKIO_WORKER_THREADS".to_owned(), "2".to_owned());
    variables.insert("APP__LIFECYCLE__CHECK_INTERVAL".to_owned(), "50ms".to_owned());
    variables.insert("APP__LIFECYCLE__CHECK_TIMEOUT".to_owned(), "50ms".to_owned());
    let service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    eventually("degraded without redis", || async {
        let answer = admin.get("/health/ready", "").await;
        (answer.status == 200 && answer.json()["status"] == "degraded").then_some(())
    })
    .await;
    // Again and again: on a busy machine one of them may wait while another is done.
    let stuck: Vec<_> = (0..4)
        .map(|_| {
            let (public, key) = (public.clone(), key.clone());
            tokio::spawn(async move {
                loop {
                    let request = public.request(reqwest::Method::POST, "/v1/faults/cpu?ms=6000", &key);
                    eprintln!("the blocking request: {:?}", request.send().await.map(|answer| answer.status()));
                }
            })
        })
        .collect();
    eventually("not ready while the runtime is blocked", || async {
        (admin.get("/health/ready", "").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(admin.get("/health/live", "").await.status, 200);
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
    eventually("ready again", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) }).await;
    drop(service);
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_changes_for_a_while_with_the_token_and_goes_back_by_itself() {
    let (database, mut variables, key) = prepared().await;
    variables.insert("APP__ADMIN__TOKEN".to_owned(), "let-me-in".to_owned());
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    ready(&admin).await;
    let put = async |path: &str, token: &str, filter: &'static str| {
        Answer::of(admin.request(reqwest::Method::PUT, path, token).body(filter)).await
    };
    put("/log-level", "", "debug").await.problem_without_ids(401, "invalid_admin_token");
    put("/log-level", "wrong", "debug").await.problem_without_ids(401, "invalid_admin_token");
    put("/log-level", "let-me-in", "a=b=c").await.problem_without_ids(400, "malformed_log_level");
    put("/log-level?ttl=1", "let-me-in", "debug").await.problem_without_ids(400, "malformed_log_level");
    assert_eq!(
        admin.get("/log-level", "").await.ok(200),
        json!({"filter": "info", "configured": "info", "reverts_in_seconds": null})
    );
    put("/log-level?ttl=700ms", "let-me-in", "error").await.ok(200);
    let quiet = public.get("/v1/tenant", &key).await;
    assert_eq!(quiet.header("x-trace-id").len(), 32, "the level of the logs takes nothing from the traces");
    let reverted = service.line("log_level_reverted").await;
    assert_eq!(reverted["to"], "info");
    let loud = public.get("/v1/tenant", &key).await;
    let of = |answer: &Answer| {
        service.lines().into_iter().filter(|line| line["request_id"] == answer.header("x-request-id")).count()
    };
    eventually("the line of the second request", || async { (of(&loud) == 1).then_some(()) }).await;
    assert_eq!(of(&quiet), 0);
    let changed = service.line("log_level_changed").await;
    assert_eq!(
        (changed["from"].as_str(), changed["to"].as_str(), changed["ttl_seconds"].as_u64()),
        (Some("info"), Some("error"), Some(0))
    );
    service.signal("TERM");
    assert_eq!(service.exit(SOON).await, 0);
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_does_not_hold_the_drain_and_a_slow_reader_gets_its_whole_answer() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (database, variables, _) = prepared().await;
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    ready(&admin).await;
    let address = public.base.trim_start_matches("http://").to_owned();
    let mut half = tokio::net::TcpStream::connect(&address).await.unwrap();
    half.write_all(b"GET / HT").await.unwrap();
    // Asks for the largest answer there is, and reads it only after the drain has begun.
    let mut slow = tokio::net::TcpStream::connect(&address).await.unwrap();
    slow.write_all(b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1_000];
    slow.read_exact(&mut answer).await.unwrap();
    let asked = Instant::now();
    service.signal("TERM");
    service.line("shutdown_started").await;
    tokio::time::timeout(Duration::from_secs(5), slow.read_to_end(&mut answer)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    assert_eq!(body.len(), length, "not cut");
    assert_eq!(service.exit(SOON).await, 0);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    services::drop_database(&database).await;
}
