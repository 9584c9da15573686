//! The harness: services from the environment, an application of its own for each test, and sinks
//! for what it emits.

pub mod app;
pub mod client;
pub mod collector;
pub mod harness;
pub mod process;
pub mod sentry_server;
pub mod services;
pub mod shop;
pub mod sinks;
pub mod stack;
pub mod things;

use std::time::{Duration, Instant};

pub use app::TestApp;
pub use client::Answer;

/// Polls until `look` finds something; panics with `what` after thirty seconds.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
