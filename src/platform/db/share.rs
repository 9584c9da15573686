//! A tenant's part of the connections: whose statements are slow, or wait for a lock, must not leave the others
//! without any.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::platform::tenancy::TenantId;

/// Counts connections by tenant. Cheap to clone.
#[derive(Clone)]
pub struct Shares(Arc<Inner>);

struct Inner {
    most: usize,
    tenants: Mutex<HashMap<TenantId, Held>>,
}

/// Who of a tenant holds a connection or waits for one.
struct Held {
    places: Arc<Semaphore>,
    users: usize,
}

/// A place among a tenant's connections, or the wait for it, until dropped.
pub struct Share {
    shares: Shares,
    tenant: TenantId,
    place: Option<OwnedSemaphorePermit>,
}

impl Shares {
    /// `most` is how many connections one tenant may have; at least one.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most: most.max(1), tenants: Mutex::default() }))
    }

    /// A place, within `limit`; `None` when the tenant's own requests have all of its part for so long.
    pub async fn take(&self, tenant: TenantId, limit: Duration) -> Option<Share> {
        let places = {
            let mut tenants = self.0.tenants.lock();
            let new = || Held { places: Arc::new(Semaphore::new(self.0.most)), users: 0 };
            let held = tenants.entry(tenant).or_insert_with(new);
            held.users += 1;
            Arc::clone(&held.places)
        };
        // Counts from here, so that a wait that is given up is taken back.
        let mut share = Share { shares: self.clone(), tenant, place: None };
        let place = match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => tokio::time::timeout(limit, places.acquire_owned()).await.ok()?.ok()?,
        };
        share.place = Some(place);
        Some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.place = None;
        let mut tenants = self.shares.0.tenants.lock();
        if let Some(held) = tenants.get_mut(&self.tenant) {
            held.users -= 1;
            if held.users == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tenant_has_its_part_and_the_next_one_its_own() {
        let (shares, a, b) = (Shares::new(2), TenantId::new(), TenantId::new());
        let soon = Duration::from_millis(10);
        let (first, second) = (shares.take(a, soon).await.unwrap(), shares.take(a, soon).await.unwrap());
        assert!(shares.take(a, soon).await.is_none());
        let other = shares.take(b, soon).await.unwrap();
        drop(first);
        let third = shares.take(a, soon).await.unwrap();
        drop((second, third, other));
        assert!(shares.0.tenants.lock().is_empty(), "who has none is forgotten");
    }
}
