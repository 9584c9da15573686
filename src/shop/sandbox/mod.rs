//! The payment provider of development and tests, as a process of its own (`keel payment-sandbox`):
//! it joins traces, keeps its charges while the service restarts, and receives webhooks to look at.

mod http;

use std::net::SocketAddr;

pub use http::router;

use crate::section;

section! {
    /// The payment sandbox; development only.
    pub struct SandboxConfig in "shop.sandbox" {
        /// Address of the sandbox; port 0 takes a free one.
        pub bind: SocketAddr,
    }
}
