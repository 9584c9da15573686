//! Without the feature `otlp-grpc`: asking for gRPC is a fault of the settings, and nothing comes this far.

use opentelemetry_otlp::{LogExporter, SpanExporter};

use super::settings::Destination;

const WHY: &str = "grpc, but this binary was built without the feature `otlp-grpc`; use http/protobuf";

/// What is wrong with asking for gRPC, in this build.
pub const MISSING: Option<&str> = Some(WHY);

/// # Errors
/// Always.
pub fn spans(_: &Destination) -> Result<SpanExporter, String> {
    Err(WHY.to_owned())
}

/// # Errors
/// Always.
pub fn logs(_: &Destination) -> Result<LogExporter, String> {
    Err(WHY.to_owned())
}
