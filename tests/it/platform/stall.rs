//! A runtime whose workers are stuck: seen from the admin thread, told, taken out of service, and then dead.

use std::time::Duration;

use reqwest::Method;

use crate::support::{
    Answer, eventually,
    process::{Service, run, settings, text},
    services,
};

#[tokio::test(flavor = "multi_thread")]
async fn blocked_workers_end_readiness_then_liveness_and_both_come_back() {
    let database = services::database().await;
    let mut variables = settings(&database);
    assert!(run(&["tenant", "create", "acme"], &variables).status.success());
    let key = run(&["api-key", "create", "--tenant", "acme", "--scope", "write", "--name", "test"], &variables);
    let key = text(&key.stdout).trim().to_owned();
    for (name, value) in [
        ("TOKIO_WORKER_THREADS", "2"),
        ("APP__FAULTS__ENABLED", "true"),
        ("APP__LIFECYCLE__STALLED_AFTER", "1s"),
        ("APP__LIFECYCLE__DEAD_AFTER", "3s"),
    ] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    let probe = async |path: &str| {
        let answer = admin.get(path, "").await;
        (answer.status, answer.json()["status"].as_str().unwrap_or_default().to_owned())
    };
    eventually("readiness", || async { (probe("/health/ready").await.0 == 200).then_some(()) }).await;
    assert_eq!(probe("/health/live").await, (200, "alive".to_owned()));
    // Each holds one worker; a third that waits for its turn holds the next one that is free.
    let spins: Vec<_> = (0..3)
        .map(|_| tokio::spawn(Answer::of(public.request(Method::POST, "/v1/faults/cpu?ms=5000", &key))))
        .collect();
    eventually("not ready", || async { (probe("/health/ready").await.0 == 503).then_some(()) }).await;
    eventually("dead", || async { (probe("/health/live").await == (503, "stalled".to_owned())).then_some(()) }).await;
    let line = service.line("runtime_stalled").await;
    assert_eq!(line["severity"], "critical");
    assert!(line["lag_ms"].as_f64().unwrap() > 1_000.0, "{line}");
    for spin in spins {
        let _answered_or_too_late = spin.await.unwrap();
    }
    eventually("alive and ready", || async {
        (probe("/health/live").await.0 == 200 && probe("/health/ready").await.0 == 200).then_some(())
    })
    .await;
    service.line("runtime_recovered").await;
    service.signal("TERM");
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_few_descriptors_the_service_holds_fewer_connections_and_the_admin_port_answers() {
    let database = services::database().await;
    let mut service = Service::limited(200, &settings(&database));
    let (public, admin) = service.clients().await;
    eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) }).await;
    let warning = service.line("config_warning").await;
    assert!(warning["warning"].as_str().unwrap().contains("http.max_connections"), "{warning}");
    let address = public.base.trim_start_matches("http://").to_owned();
    let mut held = Vec::new();
    for _ in 0..150 {
        held.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    eventually("its connections are all taken", || async {
        let text = admin.get("/metrics", "").await.text;
        text.lines().any(|line| line == "listener_open_connections 72").then_some(())
    })
    .await;
    assert_eq!(admin.get("/health/live", "").await.status, 200);
    drop(held);
    assert_eq!(public.get("/health/live", "").await.status, 200, "and goes on when there is room");
    service.signal("TERM");
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
    services::drop_database(&database).await;
}
