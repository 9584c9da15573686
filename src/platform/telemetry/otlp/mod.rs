//! OpenTelemetry export: what `OTEL_*` says (`settings`, documented in `variables`), the bounded
//! queue with its own thread (`batch`), and the wire (`transport`). The SDK's batch processors are
//! bounded in number only and keep their losses to themselves (trap 10 of the design).

pub mod batch;
#[cfg(feature = "otlp-grpc")]
mod grpc;
#[cfg(not(feature = "otlp-grpc"))]
#[path = "grpc_without.rs"]
mod grpc;
pub mod settings;
pub mod transport;
pub mod variables;

pub use batch::{Batcher, Counts};
pub use settings::Settings;
