//! The level of the logs, changed while the service runs: for a while, then it goes back by itself,
//! because nobody remembers at the end of an incident.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Serialize;
use tracing_subscriber::EnvFilter;

type Apply = Arc<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Changes the filter of the log layer. Cheap to clone.
#[derive(Clone)]
pub struct LogLevel {
    configured: Arc<str>,
    apply: Apply,
    changed: Arc<Mutex<Option<Change>>>,
}

struct Change {
    filter: String,
    until: Instant,
}

/// What applies now.
#[derive(Debug, Serialize)]
pub struct Current {
    pub filter: String,
    pub configured: String,
    /// Whole seconds until the configured filter comes back, if another one applies.
    pub reverts_in_seconds: Option<u64>,
}

impl LogLevel {
    pub fn new(configured: &str, apply: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { configured: configured.into(), apply: Arc::new(apply), changed: Arc::default() }
    }

    pub fn current(&self) -> Current {
        let changed = self.changed.lock();
        Current {
            filter: changed.as_ref().map_or_else(|| self.configured.to_string(), |change| change.filter.clone()),
            configured: self.configured.to_string(),
            reverts_in_seconds: changed
                .as_ref()
                .map(|change| change.until.saturating_duration_since(Instant::now()).as_secs()),
        }
    }

    /// Applies `filter` for `ttl`. Waits for nothing: call [`LogLevel::revert`] when the time is over.
    ///
    /// # Errors
    /// What is wrong with the filter.
    pub fn set(&self, filter: &str, ttl: Duration) -> Result<(), String> {
        let parsed = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
        let from = self.current().filter;
        // Before it applies: the new filter may be one that hides this line.
        tracing::warn!(from, to = filter, ttl_seconds = ttl.as_secs(), "log_level_changed");
        // Held over both: what applies and what is said to apply are one.
        let mut changed = self.changed.lock();
        (self.apply)(parsed)?;
        *changed = Some(Change { filter: filter.to_owned(), until: Instant::now() + ttl });
        Ok(())
    }

    /// Back to the configured filter, unless a later change still has time.
    pub fn revert(&self) {
        let mut changed = self.changed.lock();
        if changed.as_ref().is_none_or(|change| change.until > Instant::now()) {
            return;
        }
        *changed = None;
        let parsed = EnvFilter::new(&*self.configured);
        match (self.apply)(parsed) {
            Ok(()) => tracing::warn!(to = &*self.configured, "log_level_reverted"),
            Err(error) => tracing::error!(error, "log_level_not_reverted"),
        }
    }
}
