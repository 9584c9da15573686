//! The clock of one connection: what it waits for and since when. The IO wrapper and the requests tell
//! it what happens; the connection asks it when its patience ends. One task uses it at a time: the
//! atomics are there only because tasks move between threads.

use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::counts::Closed;

/// At the drain, half a head has so long to become a request,
const QUIET: Duration = Duration::from_millis(500);
/// and a first byte so long to come: of clients that connected just before.
const HUSH: Duration = Duration::from_millis(100);
/// A stalled write is tried again so often before it counts as stalled to the end.
const PROBES: u32 = 4;

/// How long a connection may wait, for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub head: Duration,
    pub idle: Duration,
    pub write: Duration,
}

/// What is due on a connection when its time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Probe,
    Close(Closed),
}

/// No byte has ever come: not yet a client.
const SILENT: u8 = 0;
/// Between two requests.
const IDLE: u8 = 1;
/// Part of a head has come.
const HEAD: u8 = 2;

pub(super) struct Watch {
    born: Instant,
    /// Requests at work, from their head to the last byte of their answer; the phase matters without any.
    requests: AtomicUsize,
    phase: AtomicU8,
    /// When the phase began, like all times here in nanoseconds of the connection's life.
    since: AtomicU64,
    /// Whether hyper may hold bytes of a next head that came while a request was at work.
    ahead: AtomicBool,
    /// Since when the client takes nothing of what is to be written; 0 when it does.
    stalled: AtomicU64,
    probed: AtomicU64,
    probe: AtomicBool,
}

impl Watch {
    pub fn new() -> Self {
        Self {
            born: Instant::now(),
            requests: AtomicUsize::new(0),
            phase: AtomicU8::new(SILENT),
            since: AtomicU64::new(0),
            ahead: AtomicBool::new(false),
            stalled: AtomicU64::new(0),
            probed: AtomicU64::new(0),
            probe: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    pub fn is_busy(&self) -> bool {
        self.requests.load(Relaxed) > 0
    }

    pub fn is_silent(&self) -> bool {
        !self.is_busy() && self.phase.load(Relaxed) == SILENT
    }

    pub fn begin(&self) {
        self.requests.fetch_add(1, Relaxed);
        self.ahead.store(true, Relaxed);
    }

    pub fn end(&self) {
        if self.requests.fetch_sub(1, Relaxed) == 1 {
            // What is in hyper's buffer counts from now on: the client could not know when its turn comes.
            self.phase.store(if self.ahead.load(Relaxed) { HEAD } else { IDLE }, Relaxed);
            self.since.store(self.now(), Relaxed);
        }
    }

    pub fn received(&self) {
        if self.is_busy() {
            self.ahead.store(true, Relaxed);
        } else if self.phase.load(Relaxed) != HEAD {
            self.phase.store(HEAD, Relaxed);
            self.since.store(self.now(), Relaxed);
        }
    }

    /// Nothing more to read. During a request hyper reads only when its buffer is empty, so there is no next head.
    pub fn drained(&self) {
        if self.is_busy() {
            self.ahead.store(false, Relaxed);
        }
    }

    pub fn stalled(&self) {
        if self.stalled.load(Relaxed) == 0 {
            let now = self.now();
            self.stalled.store(now, Relaxed);
            self.probed.store(now, Relaxed);
        }
    }

    pub fn progressed(&self) {
        if self.stalled.load(Relaxed) != 0 {
            self.stalled.store(0, Relaxed);
            // The tail of an answer was on its way; only now the client is to go on.
            self.since.store(self.now(), Relaxed);
        }
    }

    /// The next write goes to the kernel even though the runtime thinks that it has no room.
    pub fn ask_probe(&self) {
        self.probed.store(self.now(), Relaxed);
        self.probe.store(true, Relaxed);
    }

    pub fn take_probe(&self) -> bool {
        self.probe.load(Relaxed) && self.probe.swap(false, Relaxed)
    }

    /// What comes next if nothing happens, and when.
    pub fn due(&self, patience: &Patience, drained: Option<Instant>) -> Option<(Instant, Due)> {
        let stalled = self.stalled.load(Relaxed);
        if stalled != 0 {
            let end = self.at(stalled) + patience.write;
            let probed = self.at(self.probed.load(Relaxed));
            if probed >= end {
                return Some((end, Due::Close(Closed::WriteTimeout)));
            }
            return Some((end.min(probed + patience.write / PROBES), Due::Probe));
        }
        if self.is_busy() {
            return None;
        }
        let since = self.at(self.since.load(Relaxed));
        let (end, closed, quiet) = match self.phase.load(Relaxed) {
            SILENT => (since + patience.idle.min(patience.head), Closed::IdleTimeout, HUSH),
            IDLE => (since + patience.idle, Closed::IdleTimeout, QUIET),
            _ => (since + patience.head, Closed::HeadTimeout, QUIET),
        };
        let quiet = drained.map(|drained| drained.max(since) + quiet);
        Some(match quiet {
            Some(quiet) if quiet < end => (quiet, Due::Close(Closed::Drain)),
            _ => (end, Due::Close(closed)),
        })
    }

    fn at(&self, nanos: u64) -> Instant {
        self.born + Duration::from_nanos(nanos)
    }
}
