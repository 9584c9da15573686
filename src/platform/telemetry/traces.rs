//! The tracer provider: sampler, limits and batching from `OTEL_*`, the exporter on a thread and
//! runtime of its own. No endpoint configured = no exporter, and spans still give ids to the logs.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::{KeyValue, Value, trace::Status};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{Sampler, SdkTracerProvider, SpanData},
};

use super::{
    build,
    redact::{MASK, is_secret_key, scrub},
};
use crate::platform::config::{Environment, Faults};

/// Where spans go.
pub enum SpanSink {
    /// Where `OTEL_EXPORTER_OTLP_*` says; nowhere without an endpoint.
    Environment,
    Nowhere,
    /// An exporter of the caller's (tests).
    Given(Box<SpanExporter>),
}

/// Exports that failed since the start: what `telemetry_export_failures_total` shows.
pub type Failures = Arc<AtomicU64>;

/// # Errors
/// An `OTEL_*` value that can't be used, in words.
pub fn provider(
    service: &str,
    environment: Environment,
    variables: &BTreeMap<String, String>,
    sink: SpanSink,
    failures: &Failures,
) -> Result<SdkTracerProvider, String> {
    let mut builder = SdkTracerProvider::builder().with_resource(resource(service, environment, variables));
    if variables.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(builder.with_sampler(Sampler::AlwaysOff).build());
    }
    let exporter = match sink {
        SpanSink::Given(exporter) => Some(*exporter),
        SpanSink::Environment => exporter(variables)?,
        SpanSink::Nowhere => None,
    };
    if let Some(exporter) = exporter {
        builder = builder.with_batch_exporter(Counted { inner: exporter, failures: Arc::clone(failures) });
    }
    Ok(builder.build())
}

/// Ours are defaults: what `OTEL_RESOURCE_ATTRIBUTES` names wins, but for the name of the service,
/// which logs and traces share (`OTEL_SERVICE_NAME` wins over the list, as the specification says;
/// the SDK has it the other way round).
fn resource(service: &str, environment: Environment, variables: &BTreeMap<String, String>) -> Resource {
    let given = variables.get("OTEL_RESOURCE_ATTRIBUTES").map_or("", String::as_str);
    let named: Vec<&str> = given.split(',').filter_map(|pair| Some(pair.split_once('=')?.0.trim())).collect();
    let defaults = [
        ("service.version", build::VERSION.to_owned()),
        ("service.instance.id", uuid::Uuid::now_v7().to_string()),
        ("deployment.environment.name", environment.as_str().to_owned()),
    ];
    let unnamed = defaults.into_iter().filter(|(key, _)| !named.contains(key));
    Resource::builder()
        .with_attributes(unnamed.map(|(key, value)| KeyValue::new(key, value)))
        .with_service_name(service.to_owned())
        .build()
}

/// Reports `OTEL_*` values that can't be used.
pub fn check(variables: &BTreeMap<String, String>, faults: &mut Faults) {
    if let Err(fault) = protocol(variables) {
        faults.add(fault);
    }
}

#[derive(Clone, Copy)]
enum Transport {
    Grpc,
    Http,
}

/// How to export, or `None` for not at all.
fn protocol(variables: &BTreeMap<String, String>) -> Result<Option<Transport>, String> {
    let get = |name: &str| variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let endpoint = get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| get("OTEL_EXPORTER_OTLP_ENDPOINT"));
    match get("OTEL_TRACES_EXPORTER") {
        Some("none") => return Ok(None),
        None | Some("otlp") => {}
        Some(other) => return Err(format!("OTEL_TRACES_EXPORTER: expected otlp or none, got \"{other}\"")),
    }
    let protocol = get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| get("OTEL_EXPORTER_OTLP_PROTOCOL"));
    let transport = match protocol {
        Some("grpc") => Transport::Grpc,
        None | Some("http/protobuf") => Transport::Http,
        Some(other) => {
            return Err(format!("OTEL_EXPORTER_OTLP_PROTOCOL: expected grpc or http/protobuf, got \"{other}\""));
        }
    };
    Ok(endpoint.map(|_| transport))
}

fn exporter(variables: &BTreeMap<String, String>) -> Result<Option<SpanExporter>, String> {
    match protocol(variables)? {
        None => Ok(None),
        Some(Transport::Grpc) => grpc().map(Some),
        Some(Transport::Http) => http(timeout(variables)).map(Some),
    }
}

/// Of one export; the specification's default. The client is ours, so the SDK does not set it.
fn timeout(variables: &BTreeMap<String, String>) -> Duration {
    let get = |name: &str| variables.get(name)?.parse().ok();
    let millis = get("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|| get("OTEL_EXPORTER_OTLP_TIMEOUT"));
    Duration::from_millis(millis.unwrap_or(10_000))
}

/// A blocking client: the batch thread has no runtime. Built on a plain thread, because reqwest
/// refuses to be built inside one; given explicitly, so that no feature of another crate can swap it.
fn http(timeout: Duration) -> Result<SpanExporter, String> {
    let client = std::thread::spawn(move || reqwest::blocking::Client::builder().timeout(timeout).build())
        .join()
        .ok()
        .and_then(Result::ok)
        .ok_or("the OTLP HTTP client can't be built (TLS roots?)")?;
    SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(client)
        .build()
        .map_err(|error| format!("OTEL_EXPORTER_OTLP_*: {error}"))
}

/// The channel lives on a runtime of its own: on the main one a pod with a single worker deadlocks
/// (opentelemetry-rust#2715).
fn grpc() -> Result<SpanExporter, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the OTLP runtime can't be started: {error}"))?;
    let (built, exporter) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("otlp-grpc".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                // 0.33 sets no trust roots for https by itself (opentelemetry-rust#2008).
                let tls = tonic::transport::ClientTlsConfig::new().with_enabled_roots();
                let exporter = SpanExporter::builder().with_tonic().with_tls_config(tls).build();
                let _ = built.send(exporter);
                std::future::pending::<()>().await;
            });
        })
        .map_err(|error| format!("the OTLP thread can't be started: {error}"))?;
    exporter.recv().map_err(|error| error.to_string())?.map_err(|error| format!("OTEL_EXPORTER_OTLP_*: {error}"))
}

/// On the exporter's thread, where it costs no request anything.
fn scrub_span(span: &mut SpanData) {
    for attribute in &mut span.attributes {
        if is_secret_key(attribute.key.as_str()) {
            attribute.value = Value::from(MASK);
        } else if let Value::String(text) = &attribute.value
            && let Cow::Owned(clean) = scrub(text.as_str())
        {
            attribute.value = Value::from(clean);
        }
    }
    if let Status::Error { description } = &mut span.status
        && let Cow::Owned(clean) = scrub(description)
    {
        *description = clean.into();
    }
}

/// Scrubs spans, and counts failed exports, which the SDK only logs.
#[derive(Debug)]
struct Counted<E> {
    inner: E,
    failures: Failures,
}

impl<E: opentelemetry_sdk::trace::SpanExporter> opentelemetry_sdk::trace::SpanExporter for Counted<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(scrub_span);
        let result = self.inner.export(batch).await;
        if result.is_err() {
            self.failures.fetch_add(1, Relaxed);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> Result<(), OTelSdkError> {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
