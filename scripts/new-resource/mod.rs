//! Widgets of a tenant: created, read, listed, changed and deleted; never shown to another tenant.

mod http;
mod metrics;
mod model;
mod store;

pub use http::router;
pub use metrics::WidgetMetrics;
