//! Orders: placed in one transaction that reserves the stock, charged outside any, settled in a
//! second one. Whatever happens in between, a job asks the provider and settles.

mod answer;
mod http;
mod jobs;
mod metrics;
mod model;
mod service;
mod store;
mod webhook;

pub use http::router;
pub use jobs::{ConfirmOrder, RefundOrder, SettleOrder};
pub use metrics::OrderMetrics;
