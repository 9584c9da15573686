//! What happened to the connections of a listener, in numbers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{labels, platform::telemetry::metrics::Registry};

/// Counts of one listener.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections held now.
    pub open: AtomicU64,
    pub peer_limit: AtomicU64,
    pub head_timeout: AtomicU64,
    pub idle_timeout: AtomicU64,
    pub write_timeout: AtomicU64,
    pub drain: AtomicU64,
    pub killed: AtomicU64,
}

/// Why the server, not the client, closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    PeerLimit,
    HeadTimeout,
    IdleTimeout,
    WriteTimeout,
    Drain,
    Killed,
}

labels! {
    pub struct ReasonLabel { reason: &'static str = "_OTHER" }
}

impl Counts {
    /// Registers what a public listener counts.
    pub fn register(counts: &Arc<Self>, registry: &Registry) {
        let read = Arc::clone(counts);
        registry.gauge_fn("listener_open_connections", "Connections held by the public listener.", move || {
            vec![((), read.open.load(Relaxed) as f64)]
        });
        let read = Arc::clone(counts);
        let help = "Connections that the server closed and not the client, by reason.";
        registry.counter_fn("listener_connections_closed_total", help, move || {
            read.closed().map(|(reason, count)| (ReasonLabel { reason }, count as f64)).to_vec()
        });
    }

    /// Connections that the server closed so far, by the reason as a label.
    pub fn closed(&self) -> [(&'static str, u64); 6] {
        [
            ("peer_limit", self.peer_limit.load(Relaxed)),
            ("head_timeout", self.head_timeout.load(Relaxed)),
            ("idle_timeout", self.idle_timeout.load(Relaxed)),
            ("write_timeout", self.write_timeout.load(Relaxed)),
            ("drain", self.drain.load(Relaxed)),
            ("killed", self.killed.load(Relaxed)),
        ]
    }

    pub(super) fn count(&self, closed: Closed) {
        let counter = match closed {
            Closed::PeerLimit => &self.peer_limit,
            Closed::HeadTimeout => &self.head_timeout,
            Closed::IdleTimeout => &self.idle_timeout,
            Closed::WriteTimeout => &self.write_timeout,
            Closed::Drain => &self.drain,
            Closed::Killed => &self.killed,
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// Counts as an open connection until dropped.
pub(super) struct Open(Arc<Counts>);

impl Open {
    pub fn new(counts: &Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Relaxed);
        Self(Arc::clone(counts))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
