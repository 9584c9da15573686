//! The export as users configure it, on the built binary: by `OTEL_*` variables only.

use std::time::{Duration, Instant};

use crate::support::{
    client::Client,
    eventually,
    process::{Service, settings},
    sentry_server::Behaviour,
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

/// The sum of a counter of the process, over its labels.
async fn counted(admin: &Client, name: &str) -> f64 {
    let text = admin.get("/metrics", "").await.text;
    let samples = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
    samples.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "otlp-grpc"), ignore = "needs `otlp-grpc`")]
async fn a_collector_that_fails_in_any_way_costs_no_request_and_no_exit_and_every_loss_is_counted() {
    const REQUESTS: usize = 20;
    let behaviours = [
        Some(Behaviour::Refuse(503)),
        Some(Behaviour::Silent),
        Some(Behaviour::Slow(Duration::from_millis(300))),
        Some(Behaviour::Reset),
        // Nobody listens at all.
        None,
    ];
    for protocol in ["http/protobuf", "grpc"] {
        for behaviour in behaviours {
            let (database, collector) = (services::database().await, Collector::start());
            match behaviour {
                Some(behaviour) => collector.set(behaviour),
                None => collector.stop(),
            }
            let mut variables = settings(&database);
            variables.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.endpoint.clone());
            variables.insert("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), protocol.to_owned());
            variables.insert("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "100".to_owned());
            variables.insert("OTEL_EXPORTER_OTLP_TIMEOUT".to_owned(), "500".to_owned());
            let mut service = Service::serve(&variables);
            let (public, admin) = service.clients().await;
            eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) })
                .await;
            for _ in 0..REQUESTS {
                let asked = Instant::now();
                public.get("/v1/tenant", "").await.problem(401, "missing_api_key");
                assert!(asked.elapsed() < Duration::from_secs(1), "{protocol} {behaviour:?}: {:?}", asked.elapsed());
            }
            let what = format!("{protocol} {behaviour:?}: every span to be exported or counted as lost");
            let lost = eventually(&what, || async {
                let lost = counted(&admin, "telemetry_spans_dropped_total{").await;
                let exported = counted(&admin, "telemetry_exported_total{signal=\"traces\"}").await;
                (lost + exported == REQUESTS as f64).then_some(lost)
            })
            .await;
            let slow = matches!(behaviour, Some(Behaviour::Slow(_)));
            assert_eq!(lost, if slow { 0.0 } else { REQUESTS as f64 }, "{protocol} {behaviour:?}: exactly");
            assert_eq!(counted(&admin, "telemetry_export_failures_total{").await > 0.0, !slow);
            let asked = Instant::now();
            service.signal("TERM");
            assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
            assert!(asked.elapsed() < Duration::from_secs(9), "{protocol} {behaviour:?}: {:?}", asked.elapsed());
            services::drop_database(&database).await;
        }
    }
}
