//! What an order means to the business, counted after its commit.

use std::sync::Arc;

use super::model::Order;
use crate::{
    labels,
    platform::{
        telemetry::metrics::{Counter, tenants::TenantLabels},
        tenancy::TenantId,
    },
    shop::{
        Platform,
        payments::{self, Paid},
    },
};

labels! {
    pub struct Placed {
        tenant: Arc<str> = "_OTHER".into(),
        outcome: &'static str = "_OTHER",
    }
}
labels! {
    pub struct Revenue {
        tenant: Arc<str> = "_OTHER".into(),
        currency: Arc<str> = "_OTHER".into(),
    }
}

#[derive(Clone)]
pub struct OrderMetrics {
    orders: Counter<Placed>,
    revenue: Counter<Revenue>,
    payments: Counter<Paid>,
    tenants: TenantLabels,
}

impl OrderMetrics {
    pub fn new(platform: &Platform<'_>) -> Self {
        Self {
            orders: platform.registry.counter(
                "shop_orders_total",
                "Orders, by what became of them; a cancelled one was paid before.",
                400,
            ),
            revenue: platform.registry.counter(
                "shop_revenue_minor_units_total",
                "Money taken, in minor units of its currency.",
                400,
            ),
            payments: payments::metric(platform.registry),
            tenants: platform.tenants.clone(),
        }
    }

    /// A request for an order that did not become one, or an order that was settled.
    pub fn order(&self, tenant: TenantId, outcome: &'static str) {
        self.orders.with(&Placed { tenant: self.tenants.of(tenant), outcome }).inc();
    }

    /// An order whose payment is settled.
    pub fn paid(&self, tenant: TenantId, order: &Order) {
        self.order(tenant, "paid");
        let labels = Revenue { tenant: self.tenants.of(tenant), currency: order.currency.as_str().into() };
        self.revenue.with(&labels).inc_by(order.total_minor.unsigned_abs());
    }

    pub fn payment(&self, outcome: &'static str, reason: &'static str) {
        self.payments.with(&Paid { outcome, reason }).inc();
    }
}
