//! The wire: exporters of `opentelemetry-otlp` over HTTP, or gRPC (`grpc`), with gzip, headers, and TLS by the
//! system's authorities and a private one. Everything is given explicitly; what is left to the crate
//! it would read from the environment by rules of its own.

use std::time::Duration;

use opentelemetry_otlp::{
    Compression, LogExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::{
    logs::{LogBatch, LogExporter as _},
    trace::SpanExporter as _,
};

use super::{
    grpc,
    settings::{Destination, Transport},
};

/// A new connection takes this long at most; an export as long as its timeout.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The builders of both signals have the same methods and no trait in common.
macro_rules! http {
    ($exporter:ty, $to:ident) => {{
        let builder = <$exporter>::builder().with_http().with_http_client(client($to)?);
        let builder = builder.with_protocol(Protocol::HttpBinary).with_endpoint(&$to.url);
        let builder = builder.with_timeout($to.timeout).with_headers($to.headers.iter().cloned().collect());
        let built = if $to.gzip { builder.with_compression(Compression::Gzip).build() } else { builder.build() };
        built.map_err(|error| format!("OTEL_EXPORTER_OTLP_*: {error}"))
    }};
}

/// # Errors
/// Why there can be no exporter, in words. Call it inside the runtime that will export.
pub fn spans(to: &Destination) -> Result<SpanExporter, String> {
    match to.transport {
        Transport::Http => http!(SpanExporter, to),
        Transport::Grpc => grpc::spans(to),
    }
}

/// # Errors
/// Why there can be no exporter, in words. Call it inside the runtime that will export.
pub fn logs(to: &Destination) -> Result<LogExporter, String> {
    match to.transport {
        Transport::Http => http!(LogExporter, to),
        Transport::Grpc => grpc::logs(to),
    }
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

pub(super) fn read(path: &std::path::Path) -> Result<Vec<u8>, String> {
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
