//! The names that telemetry uses, against the semantic conventions the lock file pins: what has a
//! standard name carries it, what has none is ours and says so.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_semantic_conventions::{attribute as a, metric as m};
use serde_json::json;

use crate::support::{TestApp, eventually, sinks::SHARED};

/// Attributes of spans: of the conventions, by constant, so that a renamed one no longer compiles.
const STANDARD: &[&str] = &[
    a::CLIENT_ADDRESS,
    a::DB_COLLECTION_NAME,
    a::DB_NAMESPACE,
    a::DB_OPERATION_NAME,
    a::DB_QUERY_SUMMARY,
    a::DB_QUERY_TEXT,
    a::DB_RESPONSE_RETURNED_ROWS,
    a::DB_RESPONSE_STATUS_CODE,
    a::DB_SYSTEM_NAME,
    a::ERROR_TYPE,
    a::HTTP_REQUEST_METHOD,
    a::HTTP_REQUEST_METHOD_ORIGINAL,
    a::HTTP_RESPONSE_STATUS_CODE,
    a::HTTP_ROUTE,
    a::MESSAGING_DESTINATION_NAME,
    a::MESSAGING_MESSAGE_ID,
    a::MESSAGING_OPERATION_TYPE,
    a::MESSAGING_SYSTEM,
    a::NETWORK_PROTOCOL_VERSION,
    a::SERVER_ADDRESS,
    a::SERVER_PORT,
    a::URL_FULL,
    a::URL_PATH,
    a::URL_SCHEME,
    a::URL_TEMPLATE,
    a::USER_AGENT_ORIGINAL,
    a::USER_ID,
];
/// `http.request.header.<key>` is a template of the conventions.
const TEMPLATES: &[&str] = &["http.request.header."];
/// Ours.
const OWN: &[&str] = &[
    "tenant.id", // whose request or job it is
    "correlation_id",
    "shop.order.id", // of the example
];

/// Metrics: conventions' name, its unit's suffix → the name in Prometheus.
const METRICS: &[(&str, &str, &str)] = &[
    (m::HTTP_SERVER_REQUEST_DURATION, "seconds", "http_server_request_duration_seconds"),
    (m::HTTP_SERVER_ACTIVE_REQUESTS, "", "http_server_active_requests"),
    (m::HTTP_CLIENT_REQUEST_DURATION, "seconds", "http_client_request_duration_seconds"),
    (m::DB_CLIENT_OPERATION_DURATION, "seconds", "db_client_operation_duration_seconds"),
    (m::DB_CLIENT_CONNECTION_COUNT, "", "db_client_connection_count"),
    (m::DB_CLIENT_CONNECTION_MAX, "", "db_client_connection_max"),
    (m::DB_CLIENT_CONNECTION_PENDING_REQUESTS, "", "db_client_connection_pending_requests"),
    (m::DB_CLIENT_CONNECTION_WAIT_TIME, "seconds", "db_client_connection_wait_time_seconds"),
    (m::DB_CLIENT_CONNECTION_TIMEOUTS, "total", "db_client_connection_timeouts_total"),
];
/// The only labels metrics of the conventions may have, besides those of the conventions' own.
const OWN_LABELS: &[&str] = &["state"];

#[tokio::test(flavor = "multi_thread")]
async fn every_attribute_of_every_kind_of_span_is_standard_or_declared_as_ours() {
    let app = TestApp::with(&[("APP__FAULTS__ENABLED", "true")]).await;
    let acme = app.tenant("acme").await;
    app.get("/v1/tenant", &acme.key).await.ok(200);
    for path in ["/v1/faults/error", "/v1/faults/panic", "/v1/faults/slow-query?ms=1", "/v1/faults/jobs"] {
        app.post(path, &acme.key, &json!({})).await;
    }
    app.get("/nowhere", "").await;
    check_spans(&[2, 3, 5], &[a::HTTP_ROUTE, a::DB_QUERY_SUMMARY, a::MESSAGING_SYSTEM, a::ERROR_TYPE]).await;
    app.stop().await;
}

/// Checks the attributes of all spans that were exported so far, and that these kinds and attributes are among them.
pub async fn check_spans(kinds_wanted: &[i32], wanted: &[&str]) {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut kinds, mut statuses) = (BTreeSet::new(), Vec::new());
    eventually("a job's span", || async {
        SHARED.flush().await;
        SHARED.collector.all().iter().any(|span| span.span.kind == 5).then_some(())
    })
    .await;
    for span in SHARED.collector.all() {
        // Made by hand, by the test of what must not leave.
        if span.span.name == "canaries" {
            continue;
        }
        kinds.insert(span.span.kind);
        let is = |key: &str| span.attribute(key).is_some();
        let required: &[&str] = match span.span.kind {
            2 => &[
                a::HTTP_REQUEST_METHOD,
                a::URL_PATH,
                a::URL_SCHEME,
                a::NETWORK_PROTOCOL_VERSION,
                a::CLIENT_ADDRESS,
                "correlation_id",
            ],
            3 if is(a::DB_SYSTEM_NAME) => &[a::DB_OPERATION_NAME, a::SERVER_ADDRESS, a::SERVER_PORT],
            3 => &[a::HTTP_REQUEST_METHOD, a::URL_FULL, a::URL_TEMPLATE, a::SERVER_ADDRESS, a::SERVER_PORT],
            5 => &[
                a::MESSAGING_SYSTEM,
                a::MESSAGING_OPERATION_TYPE,
                a::MESSAGING_DESTINATION_NAME,
                a::MESSAGING_MESSAGE_ID,
                "tenant.id",
            ],
            _ => &[],
        };
        for key in required {
            assert!(is(key), "{key} is missing on {}", span.span.name);
        }
        if span.attribute(a::DB_SYSTEM_NAME).as_deref() == Some("postgresql") {
            for key in [a::DB_NAMESPACE, a::DB_QUERY_SUMMARY, a::DB_QUERY_TEXT, a::DB_RESPONSE_RETURNED_ROWS] {
                assert!(is(key), "{key} is missing on {}", span.span.name);
            }
        }
        for attribute in &span.span.attributes {
            seen.entry(attribute.key.clone()).or_default().insert(span.span.name.clone());
        }
        if span.span.kind == 2 {
            let status: i64 = span.attribute("http.response.status_code").unwrap().parse().unwrap();
            statuses.push((
                status,
                span.span.status.as_ref().map_or(0, |status| status.code),
                span.attribute("error.type"),
            ));
        }
    }
    for kind in kinds_wanted {
        assert!(kinds.contains(kind), "no span of kind {kind} (1 internal, 2 server, 3 client, 5 consumer): {kinds:?}");
    }
    for (key, spans) in &seen {
        let known = STANDARD.contains(&key.as_str())
            || OWN.contains(&key.as_str())
            || TEMPLATES.iter().any(|template| key.starts_with(template));
        assert!(known, "{key} on {spans:?} is in no table");
    }
    for key in wanted {
        assert!(seen.contains_key(*key), "{key} was never seen: the walk is too short");
    }
    for (status, code, error_type) in statuses {
        assert_eq!((code == 2, error_type.is_some()), (status >= 500, status >= 500), "status by the book: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_that_have_a_standard_name_carry_it_with_its_labels() {
    let app = TestApp::start().await;
    let definitions = app.running.app.registry.definitions();
    let labels: Vec<String> = STANDARD.iter().map(|key| key.replace('.', "_")).collect();
    for (standard, unit, name) in METRICS {
        let translated = [&standard.replace('.', "_"), *unit]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("_");
        assert_eq!(translated, *name);
        let metric =
            definitions.iter().find(|metric| metric.name == *name).unwrap_or_else(|| panic!("{name} is not exposed"));
        for label in metric.labels {
            assert!(labels.iter().any(|known| known == label) || OWN_LABELS.contains(label), "{name}: {label}");
        }
    }
    for metric in &definitions {
        let claims =
            ["http_server_", "http_client_", "db_client_"].iter().any(|prefix| metric.name.starts_with(prefix));
        let ours = ["http_server_requests_shed_total"].contains(&metric.name);
        assert!(
            !claims || ours || METRICS.iter().any(|(_, _, name)| *name == metric.name),
            "{} takes a namespace of the conventions",
            metric.name
        );
    }
    app.stop().await;
}
