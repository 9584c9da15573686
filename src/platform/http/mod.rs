//! The public HTTP edge. Requests pass `server` (sockets), `layers` (the ordered list), `observe`
//! (span, metrics, canonical line) and `overload` (what is taken on at once), `limits` (deadline, panics),
//! then extractors and handlers.

pub mod auth;
pub mod base_path;
pub mod docs;
mod exchange;
pub mod extract;
pub mod forwarded;
mod gcra;
mod late;
pub mod layers;
pub mod limits;
pub mod observe;
pub mod overload;
pub mod pagination;
pub mod problem;
pub mod rate_limit;
pub mod server;
mod span;

use std::{net::SocketAddr, time::Duration};

pub use exchange::accepted_id;

use crate::{
    platform::{
        config::{ByteSize, Environment, Faults, Setting as _},
        telemetry::propagation::TrustTraceContext,
    },
    section,
};

section! {
    /// The public listener.
    pub struct HttpConfig in "http" {
        /// Address to listen on; port 0 takes a free one.
        pub bind: SocketAddr,
        /// Path below which all is served, for a host that serves others too: `/billing`. What comes without it is answered too, for proxies that take it off.
        pub base_path: String,
        /// Connections held at once; the next one waits in the kernel's queue.
        pub max_connections: usize => 1..=100_000,
        /// Connections of one peer address; 0 for no limit. Peers in `trusted_proxies` have none.
        pub max_connections_per_peer: usize => 0..=100_000,
        /// Addresses or networks of the proxies in front, whose `X-Forwarded-For` is believed.
        pub trusted_proxies: Vec<String>,
        /// How long a connection may wait for its next request.
        pub idle_timeout: Duration => Duration::from_millis(100)..=Duration::from_secs(3_600),
        /// Longest time from a request's first byte to the end of its head; and for a new connection to say anything.
        pub head_timeout: Duration => Duration::from_millis(100)..=Duration::from_secs(600),
        /// Longest time for a body to arrive; after it the answer is 408.
        pub body_timeout: Duration => Duration::from_millis(100)..=Duration::from_secs(300),
        /// A client that takes nothing of its answer for this time is cut off.
        pub write_timeout: Duration => Duration::from_millis(100)..=Duration::from_secs(600),
        /// Longest time for a whole request; after it the answer is 504.
        pub request_timeout: Duration => Duration::from_millis(100)..=Duration::from_secs(300),
        /// Largest request body.
        pub body_limit: ByteSize => ByteSize(1024)..=ByteSize(64 << 20),
        /// Memory for all bodies that are being read.
        pub body_memory: ByteSize => ByteSize(1024)..=ByteSize(4 << 30),
        /// Requests handled at once; what is more waits for `queue_timeout`, then gets 503.
        pub max_concurrent_requests: usize => 1..=100_000,
        /// How long a request waits for its turn.
        pub queue_timeout: Duration => Duration::ZERO..=Duration::from_secs(5),
        /// Percentage of `max_concurrent_requests` that one tenant may have once half of them are taken.
        pub tenant_share: usize => 1..=100,
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
    /// What the listener is told; never more connections than there are file descriptors for.
    pub fn limits(&self, counts: &std::sync::Arc<server::Counts>) -> server::Limits {
        server::Limits {
            max_connections: server::descriptors(self.max_connections),
            max_per_peer: self.max_connections_per_peer,
            trusted: self.proxies(),
            head_timeout: self.head_timeout,
            idle_timeout: self.idle_timeout,
            write_timeout: self.write_timeout,
            counts: std::sync::Arc::clone(counts),
        }
    }

    /// Those that `check` has accepted.
    pub fn proxies(&self) -> forwarded::Proxies {
        forwarded::Proxies::parse(&self.trusted_proxies).unwrap_or_default()
    }

    pub fn check(&self, environment: Environment, faults: &mut Faults) {
        if let Err(fault) = forwarded::Proxies::parse(&self.trusted_proxies) {
            faults.add(format!("http.trusted_proxies: {fault}"));
        }
        if !base_path::is_valid(&self.base_path) {
            faults.add(format!(
                "http.base_path: expected nothing or a path such as /billing, of letters, digits and -_. and without a \
                 slash at the end, got \"{}\"",
                self.base_path
            ));
        }
        if self.body_timeout >= self.request_timeout {
            faults.add(format!(
                "http.body_timeout: {} must be shorter than http.request_timeout, {}",
                self.body_timeout.show(),
                self.request_timeout.show()
            ));
        }
        if self.body_memory.0 < self.body_limit.0 {
            faults.add("http.body_memory: must be at least http.body_limit, or no body of that size is ever read");
        }
        if environment == Environment::Production {
            if self.cors_origins.iter().any(|origin| origin == "*") {
                faults.add("http.cors_origins: \"*\" lets every site call with a user's key; name the origins");
            }
            if self.server_timing {
                faults.add("http.server_timing: tells strangers where the time goes; for development only");
            }
        }
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
