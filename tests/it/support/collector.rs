//! The OTLP collector of the tests: one port that speaks OTLP/HTTP and OTLP/gRPC, with TLS or without,
//! keeps what it is sent, and misbehaves when told to.

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header},
    response::{IntoResponse as _, Response},
};
use http_body_util::{BodyExt as _, Full};
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::LogRecord,
    trace::v1::Span,
};
use parking_lot::Mutex;
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};

use super::sentry_server::{Arrival, Port, unzip};

/// A span as the collector saw it.
#[derive(Clone, Debug)]
pub struct SeenSpan {
    pub span: Span,
    pub resource: Vec<KeyValue>,
    pub scope: String,
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

/// A log record as the collector saw it.
#[derive(Clone, Debug)]
pub struct SeenLog {
    pub record: LogRecord,
    pub resource: Vec<KeyValue>,
}

impl SeenLog {
    pub fn body(&self) -> String {
        self.record.body.as_ref().map(show).unwrap_or_default()
    }

    pub fn trace_id(&self) -> String {
        hex(&self.record.trace_id)
    }

    pub fn span_id(&self) -> String {
        hex(&self.record.span_id)
    }

    pub fn attribute(&self, key: &str) -> Option<String> {
        text(&self.record.attributes, key)
    }

    pub fn resource(&self, key: &str) -> Option<String> {
        text(&self.resource, key)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref().map(show)
}

fn show(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        // `1.0`, not `1`: a test can tell that it is no integer.
        Some(Value::DoubleValue(number)) => format!("{number:?}"),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::BytesValue(bytes)) => hex(bytes),
        Some(Value::ArrayValue(list)) => {
            format!("[{}]", list.values.iter().map(show).collect::<Vec<_>>().join(", "))
        }
        Some(Value::KvlistValue(list)) => {
            let shown = |pair: &KeyValue| format!("{}={}", pair.key, pair.value.as_ref().map(show).unwrap_or_default());
            format!("{{{}}}", list.values.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        // Nothing, or what only profiles have.
        _ => String::new(),
    }
}

/// A request as the collector saw it, accepted or not.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    pub path: String,
    /// By names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Of the body on the wire.
    pub bytes: usize,
    pub gzip: bool,
    pub grpc: bool,
    pub http2: bool,
    pub client_certificate: bool,
    pub spans: usize,
    pub logs: usize,
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// What a request carries.
#[derive(Default)]
struct Batch {
    spans: Vec<SeenSpan>,
    logs: Vec<SeenLog>,
}

impl Batch {
    fn read(arrival: &Arrival, grpc: bool) -> Result<Self, String> {
        let (path, kind) = (arrival.parts.uri.path(), arrival.header("content-type"));
        if arrival.parts.method != Method::POST || !(grpc || kind == "application/x-protobuf") {
            return Err(format!("{} {path} with content type {kind:?}", arrival.parts.method));
        }
        let message = if grpc { message(arrival)? } else { arrival.content()? };
        let undecodable = |error: prost::DecodeError| format!("{path}: {error}");
        let is = |rpc: &str, http: &str| if grpc { path == rpc } else { path.ends_with(http) };
        let batch = if is(TRACES, "/v1/traces") {
            Self::traces(ExportTraceServiceRequest::decode(message).map_err(undecodable)?)
        } else if is(LOGS, "/v1/logs") {
            Self::logs(ExportLogsServiceRequest::decode(message).map_err(undecodable)?)
        } else {
            return Err(format!("nothing is received at {path}"));
        };
        // Protobuf takes ids of any length; the specification does not.
        let spans = batch.spans.iter().map(|seen| (seen.span.trace_id.len(), seen.span.span_id.len()));
        let logs = batch.logs.iter().map(|seen| (seen.record.trace_id.len(), seen.record.span_id.len()));
        match spans.chain(logs.filter(|lengths| !matches!(lengths, (0 | 16, 0)))).find(|lengths| *lengths != (16, 8)) {
            Some(lengths) => Err(format!("{path}: ids of {lengths:?} bytes")),
            None => Ok(batch),
        }
    }

    fn traces(request: ExportTraceServiceRequest) -> Self {
        let mut spans = Vec::new();
        for group in request.resource_spans {
            let resource = group.resource.unwrap_or_default().attributes;
            for scope in group.scope_spans {
                let name = scope.scope.unwrap_or_default().name;
                let seen = |span| SeenSpan { span, resource: resource.clone(), scope: name.clone() };
                spans.extend(scope.spans.into_iter().map(seen));
            }
        }
        Self { spans, logs: Vec::new() }
    }

    fn logs(request: ExportLogsServiceRequest) -> Self {
        let mut logs = Vec::new();
        for group in request.resource_logs {
            let resource = group.resource.unwrap_or_default().attributes;
            let records = group.scope_logs.into_iter().flat_map(|scope| scope.log_records);
            logs.extend(records.map(|record| SeenLog { record, resource: resource.clone() }));
        }
        Self { spans: Vec::new(), logs }
    }
}

/// The one message of a unary gRPC call.
fn message(arrival: &Arrival) -> Result<Bytes, String> {
    let bytes = arrival.body.len();
    let Some(([flag, length @ ..], _)) = arrival.body.split_first_chunk::<5>() else {
        return Err(format!("a gRPC frame of {bytes} bytes"));
    };
    let message = arrival.body.slice(5..);
    match (flag, arrival.header("grpc-encoding")) {
        _ if u32::from_be_bytes(*length) as usize != message.len() => Err(format!("a gRPC frame cut at {bytes} bytes")),
        (0, _) => Ok(message),
        (1, "gzip") => unzip(&message),
        (flag, encoding) => Err(format!("a gRPC frame with flag {flag} and encoding {encoding:?}")),
    }
}

#[derive(Default)]
struct Store {
    spans: Vec<SeenSpan>,
    logs: Vec<SeenLog>,
    requests: Vec<SeenRequest>,
    faults: Vec<String>,
}

impl Store {
    fn take(&mut self, arrival: &Arrival) -> Response {
        let grpc = arrival.header("content-type").starts_with("application/grpc");
        let batch = Batch::read(arrival, grpc);
        self.faults.extend(batch.as_ref().err().cloned());
        let understood = batch.is_ok();
        let batch = batch.unwrap_or_default();
        let text =
            |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap_or("?").into());
        self.requests.push(SeenRequest {
            path: arrival.parts.uri.path().to_owned(),
            headers: arrival.parts.headers.iter().map(text).collect(),
            bytes: arrival.body.len(),
            gzip: if grpc { arrival.body.first() == Some(&1) } else { arrival.header("content-encoding") == "gzip" },
            grpc,
            http2: arrival.parts.version == Version::HTTP_2,
            client_certificate: arrival.client_certificate,
            spans: batch.spans.len(),
            logs: batch.logs.len(),
        });
        let misunderstood = || (!understood).then(|| StatusCode::BAD_REQUEST.into_response());
        if let Some(refusal) = arrival.refusal().or_else(misunderstood) {
            // UNAVAILABLE is to be retried, INVALID_ARGUMENT is not.
            let status =
                [(header::CONTENT_TYPE, "application/grpc"), (GRPC_STATUS, if understood { "14" } else { "3" })];
            return if grpc { status.into_response() } else { refusal };
        }
        if arrival.kept() {
            self.spans.extend(batch.spans);
            self.logs.extend(batch.logs);
        }
        // The response message is empty: over HTTP no byte, over gRPC a frame around none.
        if grpc {
            let status = async { Some(Ok(HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]))) };
            let body = Body::new(Full::new(Bytes::from_static(&[0; 5])).with_trailers(status));
            ([(header::CONTENT_TYPE, "application/grpc")], body).into_response()
        } else {
            ([(header::CONTENT_TYPE, "application/x-protobuf")], Bytes::new()).into_response()
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub tls: Option<Tls>,
}

/// A server certificate from a CA that exists for this collector only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tls {
    /// Demands a client certificate of the same CA.
    pub client_ca: bool,
}

/// Paths of PEM files, which live as long as the collector.
pub struct Certificates {
    pub ca: String,
    pub client_certificate: String,
    pub client_key: String,
    _directory: tempfile::TempDir,
}

fn certify(tls: Tls) -> (ServerConfig, Certificates) {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let leaf = |names: &[&str]| {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        leaf.distinguished_name.push(DnType::CommonName, names[0]);
        (leaf.signed_by(&key, &issuer).unwrap(), key)
    };
    let (server, server_key) = leaf(&["localhost", "127.0.0.1"]);
    let (client, client_key) = leaf(&["client"]);
    let directory = tempfile::tempdir().unwrap();
    let files = [("ca.pem", issuer.pem()), ("client.pem", client.pem()), ("client.key", client_key.serialize_pem())];
    let [ca, client_certificate, client_key] = files.map(|(name, pem)| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    });
    let _already_installed = aws_lc_rs::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let demanding = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let verifier = if tls.client_ca { demanding } else { WebPkiClientVerifier::no_client_auth() };
    let key = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let builder = ServerConfig::builder().with_client_cert_verifier(verifier);
    let mut config = builder.with_single_cert(vec![server.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (config, Certificates { ca, client_certificate, client_key, _directory: directory })
}

/// A collector on a port of its own.
pub struct Collector {
    pub endpoint: String,
    port: Port,
    store: Arc<Mutex<Store>>,
    certificates: Option<Certificates>,
}

impl Deref for Collector {
    type Target = Port;

    fn deref(&self) -> &Port {
        &self.port
    }
}

impl Collector {
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let store: Arc<Mutex<Store>> = Arc::default();
        let kept = Arc::clone(&store);
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let (config, certificates) = options.tls.map(certify).unzip();
        let port = Port::start(config, move |arrival| kept.lock().take(&arrival));
        Self { endpoint: format!("{scheme}://{}", port.address), port, store, certificates }
    }

    /// Of a collector with TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("a collector with TLS")
    }

    /// The spans of a trace so far.
    pub fn trace(&self, trace_id: &str) -> Vec<SeenSpan> {
        self.store.lock().spans.iter().filter(|seen| seen.trace_id() == trace_id).cloned().collect()
    }

    pub fn all(&self) -> Vec<SeenSpan> {
        self.store.lock().spans.clone()
    }

    pub fn spans_received(&self) -> usize {
        self.store.lock().spans.len()
    }

    pub fn logs(&self) -> Vec<SeenLog> {
        self.store.lock().logs.clone()
    }

    /// What arrived, accepted or not.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.store.lock().requests.clone()
    }

    /// What a real collector would not have understood.
    pub fn faults(&self) -> Vec<String> {
        self.store.lock().faults.clone()
    }
}
