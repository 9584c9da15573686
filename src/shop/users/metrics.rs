//! What a user means to the business, counted after its commit.

use std::sync::Arc;

use crate::{
    labels,
    platform::{
        telemetry::metrics::{Counter, Registry, tenants::TenantLabels},
        tenancy::{TenantId, activity::Activity},
    },
};

labels! {
    pub struct SignedUp {
        tenant: Arc<str> = "_OTHER".into(),
        source: Arc<str> = "_OTHER".into(),
    }
}

#[derive(Clone)]
pub struct UserMetrics {
    signups: Counter<SignedUp>,
    tenants: TenantLabels,
}

impl UserMetrics {
    pub fn new(registry: &Registry, tenants: &TenantLabels, activity: &Activity) -> Self {
        let activity = activity.clone();
        registry.gauge_fn(
            "shop_active_users",
            "Distinct principals of the last 15 minutes, in this process.",
            move || vec![((), activity.count() as f64)],
        );
        let signups = registry.counter("shop_user_signups_total", "Users created, by where they came from.", 200);
        Self { signups, tenants: tenants.clone() }
    }

    pub fn signed_up(&self, tenant: TenantId, source: &str) {
        self.signups.with(&SignedUp { tenant: self.tenants.of(tenant), source: source.into() }).inc();
    }
}
