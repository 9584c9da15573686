//! Collector and Sentry behind a network that refuses, swallows or delays.

use std::time::Duration;

use super::{EXIT, Plan, Subject, World, compare, end, record};
use crate::{
    chaos::Row,
    support::{
        eventually,
        harness::{Mode, Proxy, get, post},
        sentry_server::SentryServer,
        sinks::Collector,
    },
};

const SLOW: Duration = Duration::from_millis(300);

fn modes() -> [(&'static str, Mode); 3] {
    [("refused", Mode::Refuse), ("black hole", Mode::BlackHole), ("slow, 300 ms each way", Mode::Delay(SLOW))]
}

fn url(proxy: &Proxy) -> String {
    format!("http://{}", proxy.address)
}

/// Every span is in the collector or counted as lost.
async fn spans(subject: &Subject, created: u64) -> (f64, f64) {
    eventually("every span exported or counted", || async {
        let lost = subject.metric("telemetry_spans_dropped_total{").await;
        let exported = subject.metric("telemetry_exported_total{signal=\"traces\"}").await;
        (lost + exported >= created as f64).then_some((exported, lost))
    })
    .await
}

async fn collector(number: &'static str, name: &str, mode: Mode, full: bool) {
    let world = World::new().await;
    let (good, bad) = (Collector::start(), Collector::start());
    let proxy = Proxy::start(bad.address).await;
    proxy.set(mode.clone());
    let short = ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000");
    let (control, healthy) = world.serve(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &good.endpoint), short]).await;
    let (service, faulty) = world.serve(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url(&proxy)), short]).await;
    // Without a key a request is one span, so that all that were created are known.
    let plan = Plan {
        request: get("/v1/tenant", "", "localhost"),
        status: 401,
        rate: if full { 1_000.0 } else { 100.0 },
        rounds: if full { 7 } else { 1 },
        each: Duration::from_secs(if full { 5 } else { 1 }),
    };
    let compared = compare(&plan, &healthy, &faulty).await;
    let (exported, lost) = spans(&faulty, compared.requests[1]).await;
    let (_, lost_by_control) = spans(&healthy, compared.requests[0]).await;
    let ((code, took), _) = (end(service).await, end(control).await);
    let received = bad.spans_received() as f64;
    let counts = received == exported
        && received + lost == compared.requests[1] as f64
        && (lost > 0.0) == !matches!(mode, Mode::Delay(_))
        && lost_by_control == 0.0
        && compared.more_memory() <= 32.0
        && code == 0
        && took <= EXIT;
    let row = Row {
        number,
        fault: format!("collector {name}"),
        expected: "p99 + ≤ 5 %; memory + ≤ 32 MiB; created = received + counted as lost; exit in time".to_owned(),
        seen: format!(
            "{}; {} spans = {received} received + {lost} lost; exit {code} after {:.1} s",
            compared.summary(),
            compared.requests[1],
            took.as_secs_f64()
        ),
        recovery: "–".to_owned(),
        held: counts && compared.slower() <= 5.0,
    };
    record(row, counts);
    world.end().await;
}

/// Events wait one after the other in a short queue; so many may be neither sent nor lost yet.
const QUEUED: f64 = 101.0;

async fn sentry(number: &'static str, name: &str, mode: Mode, full: bool) {
    let world = World::new().await;
    let (good, bad) = (SentryServer::start(), SentryServer::start());
    let proxy = Proxy::start(bad.address).await;
    proxy.set(mode.clone());
    let dsn = bad.dsn().replace(&bad.address.to_string(), &proxy.address.to_string());
    let (control, healthy) = world.serve(&[("SENTRY_DSN", &good.dsn())]).await;
    let (service, faulty) = world.serve(&[("SENTRY_DSN", &dsn)]).await;
    let plan = Plan {
        request: post("/v1/faults/error", &world.key, "", &[]),
        status: 500,
        rate: if full { 200.0 } else { 50.0 },
        rounds: if full { 7 } else { 2 },
        each: Duration::from_secs(if full { 5 } else { 1 }),
    };
    let compared = compare(&plan, &healthy, &faulty).await;
    let asked = compared.requests[1] as f64;
    let counted = faulty.metric("sentry_events_total{").await;
    let sent = faulty.metric("sentry_events_total{outcome=\"sent\"}").await;
    let ((code, took), _) = (end(service).await, end(control).await);
    let received = bad.events().len() as f64;
    let counts = (0.0..=QUEUED).contains(&(asked - counted))
        // What is sent while the service ends is received, too.
        && (sent..=sent + QUEUED).contains(&received)
        && compared.more_memory() <= 32.0
        && code == 0
        && took <= EXIT;
    let row = Row {
        number,
        fault: format!("Sentry {name}, every request an error"),
        expected: "p99 + ≤ 5 %; memory + ≤ 32 MiB; every event sent, counted or among the 101 that wait".to_owned(),
        seen: format!(
            "{}; {asked} events: {counted} counted, {sent} of them sent; exit {code} after {:.1} s",
            compared.summary(),
            took.as_secs_f64()
        ),
        recovery: "–".to_owned(),
        held: counts && compared.slower() <= 5.0,
    };
    record(row, counts);
    world.end().await;
}

pub async fn collectors(full: bool) {
    for (number, (name, mode)) in ["6a1", "6a2", "6a3"].into_iter().zip(modes()) {
        collector(number, name, mode, full).await;
    }
}

pub async fn sentries(full: bool) {
    for (number, (name, mode)) in ["6b1", "6b2", "6b3"].into_iter().zip(modes()) {
        sentry(number, name, mode, full).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_counted_spans_only() {
    collectors(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "sentry"), ignore = "needs `sentry`")]
async fn a_sentry_that_is_away_costs_counted_events_only() {
    sentries(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    collectors(true).await;
    sentries(true).await;
}
