//! The doors through which text leaves the process. Each redacts what passes, and counts what it
//! found: a rising `redactions_total` is a secret that somebody began to log.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    metrics::Registry,
    redact::{MASK, is_secret_key, scrub},
};
use crate::labels;

/// Where text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Log lines, on standard output and over OTLP.
    Log,
    Span,
    Sentry,
    /// Bodies of failed requests.
    Problem,
    /// What the admin listener and the command line show.
    Debug,
}

const NAMES: [&str; 5] = ["log", "span", "sentry", "problem", "debug"];
static COUNTS: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

labels! {
    pub struct SinkLabel { sink: &'static str = "_OTHER" }
}

impl Sink {
    /// The text without secrets; borrowed when there is none.
    pub fn text(self, text: &str) -> Cow<'_, str> {
        let clean = scrub(text);
        if matches!(clean, Cow::Owned(_)) {
            self.count();
        }
        clean
    }

    /// The text under a key: masked whole when the key says so. Owned when anything was hidden.
    pub fn field<'t>(self, key: &str, text: &'t str) -> Cow<'t, str> {
        if is_secret_key(key) {
            self.count();
            return Cow::Owned(MASK.to_owned());
        }
        self.text(text)
    }

    fn count(self) {
        COUNTS[self as usize].fetch_add(1, Relaxed);
    }
}

/// Registers `redactions_total`.
pub fn register(registry: &Registry) {
    registry.counter_fn("redactions_total", "Texts that held a secret and lost it, by where they went.", || {
        NAMES.iter().zip(&COUNTS).map(|(sink, count)| (SinkLabel { sink }, count.load(Relaxed) as f64)).collect()
    });
}
