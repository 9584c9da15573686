//! How many jobs of each tenant run in this process, so that none takes all places.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

/// Jobs of one queue that run here, by tenant.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Inner>);

#[derive(Default)]
struct Inner {
    counts: Mutex<HashMap<Uuid, usize>>,
    ended: Notify,
}

impl Running {
    pub fn counts(&self) -> Vec<(Uuid, usize)> {
        self.0.counts.lock().iter().map(|(tenant, count)| (*tenant, *count)).collect()
    }

    /// Ends when a job does, at once when one has since the last call.
    pub async fn ended(&self) {
        self.0.ended.notified().await;
    }

    pub fn begin(&self, tenant: Uuid) -> Counted {
        *self.0.counts.lock().entry(tenant).or_default() += 1;
        Counted { running: self.clone(), tenant }
    }
}

/// Counts as a running job until dropped.
pub(super) struct Counted {
    running: Running,
    tenant: Uuid,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut running = self.running.0.counts.lock();
        if let Some(count) = running.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.tenant);
            }
        }
        drop(running);
        self.running.0.ended.notify_one();
    }
}
