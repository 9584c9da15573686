//! How many jobs of each tenant run in this process, so that none takes all places.

use std::sync::Arc;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::platform::tally::{Counted, Tally};

/// Jobs of one queue that run here, by tenant.
#[derive(Clone, Default)]
pub(super) struct Running {
    counts: Tally<Uuid>,
    ended: Arc<Notify>,
}

impl Running {
    pub fn counts(&self) -> Vec<(Uuid, usize)> {
        self.counts.counts()
    }

    /// Ends when a job does, at once when one has since the last call.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// The job runs until dropped.
    pub fn begin(&self, tenant: Uuid) -> Job {
        Job { counted: self.counts.begin(tenant, usize::MAX), ended: Arc::clone(&self.ended) }
    }
}

pub(super) struct Job {
    counted: Option<Counted<Uuid>>,
    ended: Arc<Notify>,
}

impl Drop for Job {
    fn drop(&mut self) {
        // Whoever is told of the end must find it counted.
        self.counted = None;
        self.ended.notify_one();
    }
}
