//! What a shop sells: created, read through the cache, patched and deleted.

mod http;
mod model;
mod store;

pub use http::router;
