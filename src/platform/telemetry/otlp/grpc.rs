//! With the feature `otlp-grpc`: the exporters over gRPC. `grpc_without` is what stands here in other builds.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_otlp::{Compression, LogExporter, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use tonic::{
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{
    settings::Destination,
    transport::{CONNECT_TIMEOUT, read},
};

const KEEPALIVE: Duration = Duration::from_secs(30);

/// What is wrong with asking for gRPC, in this build.
pub const MISSING: Option<&str> = None;

/// The builders of both signals have the same methods and no trait in common.
macro_rules! exporter {
    ($exporter:ty, $to:ident) => {{
        let builder = <$exporter>::builder().with_tonic().with_channel(channel($to)?);
        let builder = builder.with_metadata(metadata($to)?).with_timeout($to.timeout);
        let built = if $to.gzip { builder.with_compression(Compression::Gzip).build() } else { builder.build() };
        built.map_err(|error| format!("OTEL_EXPORTER_OTLP_*: {error}"))
    }};
}

/// # Errors
/// As of `transport::spans`.
pub fn spans(to: &Destination) -> Result<SpanExporter, String> {
    exporter!(SpanExporter, to)
}

/// # Errors
/// As of `transport::spans`.
pub fn logs(to: &Destination) -> Result<LogExporter, String> {
    exporter!(LogExporter, to)
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
