//! Metrics: typed families (`family`), the registry and its catalogue (`registry`), the format with
//! exemplars (`openmetrics`), the tenant label (`tenants`), the process
//! and runtime collectors (`process`). Families are declared beside what they measure.

pub mod family;
pub mod openmetrics;
pub mod process;
pub mod registry;
pub mod tenants;

pub use family::{Counter, Gauge, Histogram, Labels, TracedHistogram};
pub use registry::{Definition, Registry};

/// Bounds the OpenTelemetry HTTP conventions advise, in seconds.
pub const HTTP_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Bounds the OpenTelemetry database conventions advise, in seconds.
pub const DB_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Declares a label set: a struct whose fields are the label names.
#[macro_export]
macro_rules! labels {
    ($(#[$meta:meta])* pub struct $name:ident { $( $label:ident: $type:ty = $overflow:expr ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name { $( pub $label: $type ),* }

        impl $crate::platform::telemetry::metrics::Labels for $name {
            const NAMES: &'static [&'static str] = &[$( stringify!($label) ),*];

            fn values(&self) -> Vec<String> {
                vec![$( self.$label.to_string() ),*]
            }

            fn overflow() -> Self {
                Self { $( $label: $overflow ),* }
            }
        }
    };
}
