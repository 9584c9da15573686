//! The export as users configure it, on the built binary: by `OTEL_*` variables only.

use std::time::{Duration, Instant};

use crate::support::{
    eventually,
    process::{Service, settings},
    services,
    sinks::Collector,
};

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_the_collector_that_the_environment_names_and_the_last_ones_at_sigterm() {
    let database = services::database().await;
    let collector = Collector::start();
    let mut variables = settings(&database);
    variables.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.endpoint.clone());
    variables.insert("OTEL_SERVICE_NAME".to_owned(), "billing".to_owned());
    variables.insert("OTEL_RESOURCE_ATTRIBUTES".to_owned(), "service.instance.id=i-1,peer.service.name=x".to_owned());
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) }).await;
    let answer = public.get("/v1/tenant", "").await;
    service.signal("TERM");
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
    let trace = collector.trace(answer.header("x-trace-id"));
    assert_eq!(trace.len(), 1, "flushed before the exit");
    assert_eq!(trace[0].resource("service.name").as_deref(), Some("billing"));
    assert_eq!(trace[0].resource("service.instance.id").as_deref(), Some("i-1"));
    assert_eq!(service.lines()[0]["service"], "billing", "logs and traces agree");
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_gone_or_silent_costs_no_request_and_holds_no_exit() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for protocol in ["http/protobuf", "grpc"] {
        for endpoint in ["http://127.0.0.1:1", &silent] {
            let database = services::database().await;
            let mut variables = settings(&database);
            variables.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint.to_owned());
            variables.insert("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), protocol.to_owned());
            variables.insert("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "100".to_owned());
            variables.insert("OTEL_EXPORTER_OTLP_TIMEOUT".to_owned(), "500".to_owned());
            let mut service = Service::serve(&variables);
            let (public, admin) = service.clients().await;
            eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) })
                .await;
            for _ in 0..20 {
                public.get("/v1/tenant", "").await.problem(401, "missing_api_key");
            }
            eventually("the failed export", || async {
                let text = admin.get("/metrics", "").await.text;
                text.lines()
                    .any(|line| {
                        line.starts_with("telemetry_export_failures_total{signal=\"traces\"}") && !line.ends_with(" 0")
                    })
                    .then_some(())
            })
            .await;
            let asked = Instant::now();
            service.signal("TERM");
            assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
            assert!(asked.elapsed() < Duration::from_secs(9), "{protocol} {endpoint}: {:?}", asked.elapsed());
            services::drop_database(&database).await;
        }
    }
}
