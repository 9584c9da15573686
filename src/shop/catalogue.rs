//! The log events and spans of the example, for the catalogue.

use crate::platform::telemetry::catalogue::{Event, Span, event, span};

pub const SPANS: &[Span] = &[
    span("orders.validate_stock", "internal", "The first transaction of an order: key, stock, order, job."),
    span("orders.charge", "internal", "The call to the payment provider."),
    span("orders.settle", "internal", "The second transaction: state, stock, confirmation, answer."),
];

pub const EVENTS: &[Event] = &[
    event("order_settled", &["order_id", "order_status"], "An order reached a state that its payment decided."),
    event("payment_sandbox_started", &["listen_address"], "The payment sandbox listens."),
    event("payment_unknown", &["error", "order_id"], "The provider gave no usable answer; a job asks again."),
    event("product_created", &["product_id"], "A product was created."),
    event("product_update_noop", &["product_id"], "An update without a change."),
    event(
        "refund_unknown",
        &["error", "order_id"],
        "The provider gave no usable answer to a refund; the job runs again.",
    ),
    event("user_created", &["source", "user_id"], "A user was created."),
];
