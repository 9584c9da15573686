//! Sentry, by DSN only: one event for each fault, scrubbed like every other sink. Here its settings and its
//! series, which every build has; what reports is `client`, and `without` in builds without the feature `sentry`.

#[cfg(feature = "sentry")]
mod client;
#[cfg(not(feature = "sentry"))]
#[path = "without.rs"]
mod client;

pub use client::Sentry;

use super::metrics::Registry;
use crate::{
    labels,
    platform::config::{Faults, Secret},
    section,
};

section! {
    /// Error reporting (cargo feature `sentry`). Without a DSN there is none.
    pub struct SentryConfig in "sentry" {
        /// Where events go: the project's DSN.
        pub dsn: Option<Secret>,
    }
}

impl SentryConfig {
    pub fn check(&self, faults: &mut Faults) {
        if let Some(Err(fault)) = self.dsn.as_ref().map(client::server) {
            faults.add(fault);
        }
    }

    /// The server that events go to, without key and project.
    pub fn server(&self) -> Option<String> {
        client::server(self.dsn.as_ref()?).ok()
    }
}

labels! {
    pub struct OutcomeLabel { outcome: &'static str = "_OTHER" }
}

/// What may become of an event.
const OUTCOMES: [&str; 5] = ["sent", "failed", "rate_limited", "queue_full", "shutdown"];

/// Registers `sentry_events_total`.
pub(super) fn register(sentry: Option<Sentry>, registry: &Registry) {
    registry.counter_fn("sentry_events_total", "Events for Sentry, by what became of them.", move || {
        let counts = sentry.as_ref().map_or([0; 5], Sentry::outcomes);
        OUTCOMES.into_iter().zip(counts).map(|(outcome, count)| (OutcomeLabel { outcome }, count as f64)).collect()
    });
}
