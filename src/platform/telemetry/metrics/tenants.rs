//! The tenant label: the first tenants seen get a value of their own, the rest share `other`, so
//! that tenants can't multiply series.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use super::Registry;
use crate::platform::tenancy::TenantId;

/// Tenants with a label of their own.
const OWN_LABELS: usize = 50;

/// Label values for tenants. Cheap to clone; all metrics of an application share one.
#[derive(Clone)]
pub struct TenantLabels(Arc<Inner>);

struct Inner {
    known: RwLock<HashMap<TenantId, Arc<str>>>,
    other: Arc<str>,
    overflow: prometheus::IntCounter,
}

impl TenantLabels {
    pub fn new(registry: &Registry) -> Self {
        let overflow = registry.counter("tenant_label_overflow_total", "Samples counted under tenant=\"other\".", 1);
        Self(Arc::new(Inner { known: RwLock::default(), other: "other".into(), overflow: overflow.with(&()) }))
    }

    pub fn of(&self, tenant: TenantId) -> Arc<str> {
        if let Some(label) = self.0.known.read().get(&tenant) {
            return Arc::clone(label);
        }
        let mut known = self.0.known.write();
        if known.len() < OWN_LABELS {
            return Arc::clone(known.entry(tenant).or_insert_with(|| tenant.to_string().into()));
        }
        drop(known);
        self.0.overflow.inc();
        Arc::clone(&self.0.other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_tenants_shares_one_label() {
        let labels = TenantLabels::new(&Registry::default());
        let first = TenantId::new();
        let own = labels.of(first);
        assert_eq!(*own, *first.to_string());
        for _ in 0..1_000 {
            labels.of(TenantId::new());
        }
        assert_eq!(&*labels.of(TenantId::new()), "other");
        assert_eq!(labels.of(first), own);
        assert_eq!(labels.0.overflow.get(), 1_001 - (OWN_LABELS as u64 - 1));
    }
}
