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
    places: Arc<Semaphore>,
    place: Option<OwnedSemaphorePermit>,
}

impl Shares {
    /// `most` is how many connections one tenant may have; at least one.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most: most.max(1), tenants: Mutex::default() }))
    }

    /// Enters a request of a tenant, which then takes a place.
    pub fn enter(&self, tenant: TenantId) -> Share {
        let mut tenants = self.0.tenants.lock();
        let new = || Held { places: Arc::new(Semaphore::new(self.0.most)), users: 0 };
        let held = tenants.entry(tenant).or_insert_with(new);
        held.users += 1;
        Share { shares: self.clone(), tenant, places: Arc::clone(&held.places), place: None }
    }
}

impl Share {
    /// Takes a place if there is one; whether it has.
    pub fn try_take(&mut self) -> bool {
        self.place = Arc::clone(&self.places).try_acquire_owned().ok();
        self.place.is_some()
    }

    /// Takes a place within `limit`; whether it has. Not so when the tenant's own requests have all of its part.
    pub async fn take(&mut self, limit: Duration) -> bool {
        let place = tokio::time::timeout(limit, Arc::clone(&self.places).acquire_owned()).await;
        self.place = place.ok().and_then(Result::ok);
        self.place.is_some()
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
        let [mut first, mut second, mut third, mut other] = [a, a, a, b].map(|tenant| shares.enter(tenant));
        assert!(first.try_take() && second.try_take() && !third.try_take());
        assert!(!third.take(Duration::from_millis(10)).await);
        assert!(other.try_take(), "another tenant has its own");
        drop(first);
        assert!(third.take(Duration::from_secs(30)).await);
        drop((second, third, other));
        assert!(shares.0.tenants.lock().is_empty(), "who has none is forgotten");
    }
}
