//! The tenant label: the tenants that ask most get a value of their own, the rest share `other`, so
//! that tenants can't multiply series. A place changes hands only when the newcomer asks twice as much,
//! once in ten minutes: a label that comes and goes is worse than none.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};

use super::Registry;
use crate::platform::tenancy::TenantId;

/// Tenants with a label of their own.
const OWN_LABELS: usize = 50;
/// Tenants without one that are counted, to find the next ones.
const WATCHED: usize = 1_000;
const WINDOW: Duration = Duration::from_secs(600);
/// How much more a newcomer must ask than who has the place.
const MUST_EXCEED: u64 = 2;

/// Label values for tenants. Cheap to clone; all metrics of an application share one.
#[derive(Clone)]
pub struct TenantLabels(Arc<Inner>);

struct Inner {
    known: RwLock<HashMap<TenantId, Own>>,
    watched: Mutex<Watched>,
    other: Arc<str>,
    overflow: prometheus::IntCounter,
    registry: Registry,
}

struct Own {
    label: Arc<str>,
    /// In this window.
    samples: AtomicU64,
}

struct Watched {
    samples: HashMap<TenantId, u64>,
    since: Instant,
}

impl TenantLabels {
    pub fn new(registry: &Registry) -> Self {
        let overflow = registry.counter("tenant_label_overflow_total", "Samples counted under tenant=\"other\".", 1);
        let watched = Watched { samples: HashMap::new(), since: Instant::now() };
        Self(Arc::new(Inner {
            known: RwLock::default(),
            watched: Mutex::new(watched),
            other: "other".into(),
            overflow: overflow.with(&()),
            registry: registry.clone(),
        }))
    }

    pub fn of(&self, tenant: TenantId) -> Arc<str> {
        self.of_at(tenant, Instant::now())
    }

    fn of_at(&self, tenant: TenantId, now: Instant) -> Arc<str> {
        if let Some(own) = self.0.known.read().get(&tenant) {
            own.samples.fetch_add(1, Relaxed);
            return Arc::clone(&own.label);
        }
        let mut known = self.0.known.write();
        if known.len() < OWN_LABELS {
            let new = || Own { label: tenant.to_string().into(), samples: AtomicU64::new(1) };
            return Arc::clone(&known.entry(tenant).or_insert_with(new).label);
        }
        drop(known);
        self.watch(tenant, now);
        self.0.overflow.inc();
        Arc::clone(&self.0.other)
    }

    fn watch(&self, tenant: TenantId, now: Instant) {
        let mut watched = self.0.watched.lock();
        if now.duration_since(watched.since) >= WINDOW {
            let samples = std::mem::take(&mut watched.samples);
            watched.since = now;
            drop(watched);
            self.hand_over(samples);
            return;
        }
        if watched.samples.len() >= WATCHED && !watched.samples.contains_key(&tenant) {
            // Who asked once only makes room: a flood of strangers must not hide who asks much.
            watched.samples.retain(|_, samples| {
                *samples -= 1;
                *samples > 0
            });
        }
        if watched.samples.len() < WATCHED {
            *watched.samples.entry(tenant).or_default() += 1;
        }
    }

    /// The end of a window: places go to who asked more, with the series of who had them.
    fn hand_over(&self, samples: HashMap<TenantId, u64>) {
        let mut newcomers: Vec<(TenantId, u64)> = samples.into_iter().collect();
        newcomers.sort_by_key(|(_, samples)| std::cmp::Reverse(*samples));
        let mut known = self.0.known.write();
        let mut places: Vec<(TenantId, u64)> =
            known.iter().map(|(tenant, own)| (*tenant, own.samples.swap(0, Relaxed))).collect();
        places.sort_by_key(|(_, samples)| *samples);
        let mut gone: Vec<Arc<str>> = Vec::new();
        for ((newcomer, asked), (holder, had)) in newcomers.into_iter().zip(places) {
            if asked <= had * MUST_EXCEED {
                break;
            }
            gone.extend(known.remove(&holder).map(|own| own.label));
            known.insert(newcomer, Own { label: newcomer.to_string().into(), samples: AtomicU64::new(0) });
        }
        drop(known);
        // Outside the lock that every request takes.
        if !gone.is_empty() {
            self.0.registry.forget("tenant", &gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{labels, platform::telemetry::metrics::Counter};

    labels! {
        pub struct ByTenant { tenant: Arc<str> = "_OTHER".into() }
    }

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

    #[test]
    fn a_place_goes_to_who_asks_more_after_its_time_and_takes_the_series_along() {
        let registry = Registry::default();
        let labels = TenantLabels::new(&registry);
        let counter: Counter<ByTenant> = registry.counter("used_total", "Used.", 100);
        let start = Instant::now();
        let first: Vec<TenantId> = (0..OWN_LABELS).map(|_| TenantId::new()).collect();
        for tenant in &first {
            (0..10).for_each(|_| counter.with(&ByTenant { tenant: labels.of_at(*tenant, start) }).inc());
        }
        let (busy, rival) = (TenantId::new(), TenantId::new());
        (0..100).for_each(|_| assert_eq!(&*labels.of_at(busy, start), "other"));
        (0..15).for_each(|_| assert_eq!(&*labels.of_at(rival, start + WINDOW / 2), "other"));
        assert_eq!(&*labels.of_at(rival, start + WINDOW), "other", "the sample that ends the window");
        assert_eq!(*labels.of_at(busy, start + WINDOW), *busy.to_string());
        assert_eq!(&*labels.of_at(rival, start + WINDOW), "other", "half as much again is not enough");
        let text = registry.text();
        let kept = first.iter().filter(|tenant| text.contains(&tenant.to_string())).count();
        assert_eq!(kept, OWN_LABELS - 1, "one gave its place up, and its series went with it");
    }
}
