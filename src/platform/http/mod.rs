//! The public HTTP edge. Requests pass `server` (sockets), `layers` (the ordered list), `observe`
//! (span, metrics, canonical line), `limits` (deadline, panics), then extractors and handlers.

pub mod auth;
pub mod docs;
mod exchange;
pub mod extract;
mod late;
pub mod layers;
pub mod limits;
pub mod observe;
pub mod pagination;
pub mod problem;
pub mod rate_limit;
pub mod server;
mod span;

use std::{net::SocketAddr, time::Duration};

use crate::{
    platform::{
        config::{ByteSize, Faults},
        telemetry::propagation::TrustTraceContext,
    },
    section,
};

section! {
    /// The public listener.
    pub struct HttpConfig in "http" {
        /// Address to listen on; port 0 takes a free one.
        pub bind: SocketAddr,
        /// Connections held at once; the next one waits in the kernel's queue.
        pub max_connections: usize => 1..=100_000,
        /// Longest time from a request's first byte to the end of its head, and a connection's idle time.
        pub head_timeout: Duration => Duration::from_secs(1)..=Duration::from_secs(600),
        /// Longest time for a whole request; after it the answer is 504.
        pub request_timeout: Duration => Duration::from_millis(100)..=Duration::from_secs(300),
        /// Largest request body.
        pub body_limit: ByteSize => ByteSize(1024)..=ByteSize(64 << 20),
        /// Origins that browsers may call from; none by default, `*` for any.
        pub cors_origins: Vec<String>,
        /// What an inbound `traceparent` may do: continue the caller's trace, link to it, or nothing.
        pub trust_trace_context: TrustTraceContext,
        /// Keys of inbound baggage that go on to other services of ours; none by default.
        pub baggage_keys: Vec<String>,
        /// SQL statements of one request beyond which `query_budget_exceeded` is logged: an N+1 usually.
        pub query_budget: u32 => 1..=10_000,
        /// Other budgets, by route: `POST /v1/orders=40`.
        pub query_budgets: Vec<String>,
        /// Whether answers say in `Server-Timing` where the time went; for development.
        pub server_timing: bool,
    }
}

impl HttpConfig {
    pub fn check(&self, faults: &mut Faults) {
        for budget in &self.query_budgets {
            if observe::budget(budget).is_none() {
                faults.add(format!("http.query_budgets: expected METHOD /route=number, got \"{budget}\""));
            }
        }
        for origin in self.cors_origins.iter().filter(|origin| *origin != "*") {
            if !(origin.starts_with("http://") || origin.starts_with("https://"))
                || origin.parse::<axum::http::HeaderValue>().is_err()
            {
                faults.add(format!(
                    "http.cors_origins: expected an origin such as https://app.example.com, got \"{origin}\""
                ));
            }
        }
    }
}
