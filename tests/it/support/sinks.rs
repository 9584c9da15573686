//! Where telemetry ends up in tests: an OTLP/HTTP collector that decodes what it gets, and the log
//! lines. Both are shared by all tests of the process; a trace id tells whose they are.

use std::{
    io::Write,
    sync::{Arc, LazyLock},
};

use axum::{Router, body::Bytes, http::header, routing::post};
use keel::platform::telemetry::{Options, Telemetry, traces::SpanSink};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as AnyValue},
    trace::v1::Span,
};
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::Value;

/// A span as the collector saw it.
#[derive(Clone, Debug)]
pub struct SeenSpan {
    pub span: Span,
    pub resource: Vec<KeyValue>,
}

impl SeenSpan {
    pub fn trace_id(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// An attribute as text.
    pub fn attribute(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }

    pub fn resource(&self, key: &str) -> Option<String> {
        text(&self.resource, key)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()?;
    Some(match value {
        AnyValue::StringValue(text) => text.clone(),
        AnyValue::IntValue(number) => number.to_string(),
        AnyValue::BoolValue(flag) => flag.to_string(),
        other => format!("{other:?}"),
    })
}

/// A collector on a port of its own.
#[derive(Clone)]
pub struct Collector {
    pub endpoint: String,
    spans: Arc<Mutex<Vec<SeenSpan>>>,
}

impl Collector {
    /// Starts on a thread of its own: tests come and go with their runtimes.
    pub fn start() -> Self {
        let spans: Arc<Mutex<Vec<SeenSpan>>> = Arc::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let store = Arc::clone(&spans);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let receive = post(async move |body: Bytes| {
                    let request = ExportTraceServiceRequest::decode(body).unwrap();
                    let mut spans = store.lock();
                    for resource in request.resource_spans {
                        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
                        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                            spans.push(SeenSpan { span, resource: attributes.clone() });
                        }
                    }
                    ([(header::CONTENT_TYPE, "application/x-protobuf")], Bytes::new())
                });
                axum::serve(listener, Router::new().route("/v1/traces", receive)).await.unwrap();
            });
        });
        Self { endpoint, spans }
    }

    /// The spans of a trace so far.
    pub fn trace(&self, trace_id: &str) -> Vec<SeenSpan> {
        self.spans.lock().iter().filter(|seen| seen.trace_id() == trace_id).cloned().collect()
    }

    pub fn all(&self) -> Vec<SeenSpan> {
        self.spans.lock().clone()
    }
}

/// The log lines of the process.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The telemetry of this process, and its sinks.
pub struct Shared {
    pub telemetry: Telemetry,
    pub collector: Collector,
    lines: Lines,
}

pub static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let collector = Collector::start();
    let lines = Lines::default();
    let endpoint = format!("{}/v1/traces", collector.endpoint);
    // reqwest's blocking client refuses to be built on a runtime, where tests are.
    let client = std::thread::spawn(reqwest::blocking::Client::new).join().unwrap();
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()
        .unwrap();
    let sources = keel::platform::config::Sources {
        variables: [("APP_ENVIRONMENT".to_owned(), "test".to_owned())].into(),
        built_in: keel::config::FILES,
        directory: None,
    };
    let config = keel::config::load(&sources).readable().unwrap();
    let for_people = std::panic::take_hook();
    let telemetry = Telemetry::init(Options {
        service: "keel",
        environment: config.environment,
        log: &config.log,
        variables: &sources.variables,
        log_sink: Box::new(lines.clone()),
        span_sink: SpanSink::Given(Box::new(exporter)),
    })
    .unwrap();
    // The service's hook writes a log line; a failing test must also say so on the terminal.
    let for_logs = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        for_logs(info);
        for_people(info);
    }));
    Shared { telemetry, collector, lines }
});

impl Shared {
    /// Exports what is queued. Off the runtime: the exporter blocks.
    pub async fn flush(&self) {
        tokio::task::spawn_blocking(|| SHARED.telemetry.flush()).await.unwrap();
    }

    /// The log lines in which `field` is `value`, in order.
    pub async fn logs(&self, field: &str, value: &str) -> Vec<Value> {
        self.flush().await;
        let bytes = self.lines.0.lock().clone();
        let mut found = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Value = serde_json::from_slice(line).expect("every log line is one JSON object");
            if line[field] == value {
                found.push(line);
            }
        }
        found
    }

    /// The spans of a trace, once `enough` of them have arrived.
    pub async fn trace(&self, trace_id: &str, enough: usize) -> Vec<SeenSpan> {
        super::eventually(&format!("{enough} spans of trace {trace_id}"), || async {
            self.flush().await;
            let spans = self.collector.trace(trace_id);
            (spans.len() >= enough).then_some(spans)
        })
        .await
    }
}
