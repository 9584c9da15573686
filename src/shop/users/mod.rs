//! People of a shop: created and read; never shown to another tenant.

mod http;
mod metrics;
mod model;
mod store;

pub use http::router;
pub use metrics::UserMetrics;
