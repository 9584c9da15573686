//! The wire: exporters of `opentelemetry-otlp` over HTTP or gRPC, with gzip, headers, and TLS by the
//! system's authorities and a private one. Everything is given explicitly; what is left to the crate
//! it would read from the environment by rules of its own.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_otlp::{Compression, Protocol, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    logs::{LogBatch, LogExporter as _},
    trace::SpanExporter as _,
};
use tonic::{
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::settings::{Destination, Transport};

/// A new connection takes this long at most; an export as long as its timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The builders of both signals have the same methods and no trait in common.
macro_rules! exporter {
    ($exporter:ty, $to:ident) => {{
        let built = match $to.transport {
            Transport::Http => {
                let builder = <$exporter>::builder().with_http().with_http_client(client($to)?);
                let builder = builder.with_protocol(Protocol::HttpBinary).with_endpoint(&$to.url);
                let builder = builder.with_timeout($to.timeout).with_headers($to.headers.iter().cloned().collect());
                if $to.gzip { builder.with_compression(Compression::Gzip).build() } else { builder.build() }
            }
            Transport::Grpc => {
                let builder = <$exporter>::builder().with_tonic().with_channel(channel($to)?);
                let builder = builder.with_metadata(metadata($to)?).with_timeout($to.timeout);
                if $to.gzip { builder.with_compression(Compression::Gzip).build() } else { builder.build() }
            }
        };
        built.map_err(|error| format!("OTEL_EXPORTER_OTLP_*: {error}"))
    }};
}

/// # Errors
/// Why there can be no exporter, in words. Call it inside the runtime that will export.
pub fn spans(to: &Destination) -> Result<opentelemetry_otlp::SpanExporter, String> {
    exporter!(opentelemetry_otlp::SpanExporter, to)
}

/// # Errors
/// Why there can be no exporter, in words. Call it inside the runtime that will export.
pub fn logs(to: &Destination) -> Result<opentelemetry_otlp::LogExporter, String> {
    exporter!(opentelemetry_otlp::LogExporter, to)
}

/// Exports nothing, all the way there and back.
///
/// # Errors
/// What went wrong, in the exporter's words. The same holds for logs.
pub async fn try_spans(to: &Destination) -> Result<(), String> {
    spans(to)?.export(Vec::new()).await.map_err(|error| error.to_string())
}

/// # Errors
/// As of `try_spans`.
pub async fn try_logs(to: &Destination) -> Result<(), String> {
    logs(to)?.export(LogBatch::new(&[])).await.map_err(|error| error.to_string())
}

fn metadata(to: &Destination) -> Result<MetadataMap, String> {
    let mut metadata = MetadataMap::new();
    for (name, value) in &to.headers {
        let unusable = || format!("OTEL_EXPORTER_OTLP_HEADERS: {name} can't be sent over gRPC");
        let key = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| unusable())?;
        metadata.insert(key, MetadataValue::try_from(value.as_str()).map_err(|_| unusable())?);
    }
    Ok(metadata)
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display()))
}

fn client(to: &Destination) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .timeout(to.timeout)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = &to.certificate {
        let certificates = reqwest::Certificate::from_pem_bundle(&read(path)?)
            .map_err(|error| format!("OTEL_EXPORTER_OTLP_CERTIFICATE: {}: {error}", path.display()))?;
        builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    if let Some((certificate, key)) = &to.client {
        let pem = [read(certificate)?, read(key)?].concat();
        let identity = reqwest::Identity::from_pem(&pem)
            .map_err(|error| format!("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: {}: {error}", certificate.display()))?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| format!("the OTLP client can't be built: {error}"))
}

fn channel(to: &Destination) -> Result<Channel, String> {
    let unusable = |error: tonic::transport::Error| format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}");
    let mut endpoint =
        Endpoint::from_shared(to.url.clone()).map_err(unusable)?.timeout(to.timeout).connect_timeout(CONNECT_TIMEOUT);
    if to.url.starts_with("https://") {
        // tonic trusts nobody unless told (opentelemetry-rust#2008).
        let mut tls = ClientTlsConfig::new().with_enabled_roots();
        if let Some(path) = &to.certificate {
            tls = tls.ca_certificate(Certificate::from_pem(read(path)?));
        }
        if let Some((certificate, key)) = &to.client {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        endpoint = endpoint.tls_config(tls).map_err(unusable)?;
    }
    // Not `connect_lazy`: its timeout ends with TCP, and a peer that is silent in the TLS handshake would
    // hold the channel for ever.
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    Ok(endpoint.connect_with_connector_lazy(tcp))
}
