//! Payments: the one thing here that is not ours. [`Gateway`] is the example's one trait over the
//! outside; `provider` speaks to the real one (in development, `keel payment-sandbox`).

mod provider;

use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use provider::{PaymentsConfig, Provider};

use crate::{
    labels,
    platform::telemetry::metrics::{Counter, Registry},
};

/// A charge to make. Its order is its idempotency key: the provider makes one charge for it,
/// however often it is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    pub order_id: Uuid,
    pub amount_minor: i64,
    pub currency: String,
    pub payment_method: String,
}

/// What the provider says of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Succeeded,
    Declined,
}

/// What the provider says of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refund {
    Made,
    /// It will not: a person has to look.
    Refused,
}

/// The provider gave no usable answer: the charge may or may not have been made.
#[derive(Debug, thiserror::Error)]
#[error("the payment provider gave no usable answer: {0}")]
pub struct Unknown(pub String);

/// A payment provider.
pub trait Gateway: Send + Sync {
    /// Charges, once for each order.
    fn charge<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Result<Outcome, Unknown>>;

    /// What became of the charge of an order; `None` when the provider never made one.
    fn find(&self, order_id: Uuid) -> BoxFuture<'_, Result<Option<Outcome>, Unknown>>;

    /// Gives the money of an order back, once.
    fn refund(&self, order_id: Uuid) -> BoxFuture<'_, Result<Refund, Unknown>>;
}

labels! {
    pub struct Paid {
        outcome: &'static str = "_OTHER",
        reason: &'static str = "_OTHER",
    }
}

/// `shop_payments_total`, with the series that alerts watch at 0 from the start.
pub fn metric(registry: &Registry) -> Counter<Paid> {
    let payments: Counter<Paid> = registry.counter("shop_payments_total", "Charges, by outcome.", 16);
    for (outcome, reason) in [("succeeded", ""), ("declined", "card_declined"), ("unknown", "provider")] {
        payments.with(&Paid { outcome, reason });
    }
    payments
}
