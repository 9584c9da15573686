//! What an order looks like from outside, and the answer to placing one, which is kept for replay.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::model::{Line, Order, Status};
use crate::{
    platform::{
        error::{Error, Kind},
        http::problem,
        idempotency::Answer,
    },
    shop::Money,
};

/// An order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderBody {
    id: Uuid,
    /// `placed`, `payment_pending`, `paid`, `payment_declined` or `cancelled`.
    #[schema(value_type = String, example = "paid")]
    status: &'static str,
    total: Money,
    lines: Vec<LineBody>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// A line of an order, at the price of its day.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineBody {
    product_id: Uuid,
    quantity: i32,
    price: Money,
}

impl From<&Order> for OrderBody {
    fn from(order: &Order) -> Self {
        let money = |amount_minor| Money { amount_minor, currency: order.currency.clone() };
        let line = |line: &Line| LineBody {
            product_id: line.product_id,
            quantity: line.quantity,
            price: money(line.price_minor),
        };
        Self {
            id: order.id,
            status: order.status.as_str(),
            total: money(order.total_minor),
            lines: order.lines.iter().map(line).collect(),
            created_at: order.created_at,
            updated_at: order.updated_at,
        }
    }
}

fn declined() -> Error {
    Error::new(Kind::PaymentRequired, "payment_declined", "The payment was declined.")
}

/// 201 for a paid order, 202 while its payment is unknown, 402 for a declined one.
///
/// # Errors
/// When the order can't be written as JSON.
pub fn answer(order: &Order) -> Result<Answer, Error> {
    let status = match order.status {
        Status::PaymentDeclined => {
            let (status, body) = problem::render(&declined());
            return Ok(Answer { status: status.as_u16(), body });
        }
        Status::Placed | Status::PaymentPending => 202,
        Status::Paid | Status::Cancelled => 201,
    };
    let body = serde_json::to_string(&OrderBody::from(order)).map_err(Error::internal)?;
    Ok(Answer { status, body })
}
