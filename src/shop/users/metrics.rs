//! What a user means to the business, counted after its commit.

use std::sync::Arc;

use crate::{
    labels,
    platform::{
        telemetry::metrics::{Counter, tenants::TenantLabels},
        tenancy::TenantId,
    },
    shop::Platform,
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
    pub fn new(platform: &Platform<'_>) -> Self {
        let activity = platform.activity.clone();
        platform.registry.gauge_fn(
            "shop_active_users",
            "Distinct principals of the last 15 minutes, in this process.",
            move || vec![((), activity.count() as f64)],
        );
        let signups =
            platform.registry.counter("shop_user_signups_total", "Users created, by where they came from.", 200);
        Self { signups, tenants: platform.tenants.clone() }
    }

    pub fn signed_up(&self, tenant: TenantId, source: &str) {
        self.signups.with(&SignedUp { tenant: self.tenants.of(tenant), source: source.into() }).inc();
    }
}
