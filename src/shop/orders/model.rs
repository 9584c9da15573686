//! An order, its states and its sum. Pure.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::platform::error::{Error, Kind, Result, Validation, text};

pub const MAX_LINES: usize = 100;
pub const MAX_QUANTITY: i64 = 1_000_000;

/// Where an order is.
///
/// ```text
/// placed ──┬─► paid ──────────────┬─► cancelled
///          ├─► payment_pending ─► paid
///          │          └─────────► payment_declined
///          └─► payment_declined
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Stock is reserved; the charge is being made.
    Placed,
    /// The provider gave no answer; a job will ask.
    PaymentPending,
    Paid,
    PaymentDeclined,
    Cancelled,
}

/// What happens to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Charged,
    Declined,
    Unanswered,
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 5] = [Self::Placed, Self::PaymentPending, Self::Paid, Self::PaymentDeclined, Self::Cancelled];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::PaymentPending => "payment_pending",
            Self::Paid => "paid",
            Self::PaymentDeclined => "payment_declined",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// The next state, or `None` where the event changes nothing.
    pub const fn after(self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::Placed | Self::PaymentPending, Event::Charged) => Some(Self::Paid),
            (Self::Placed | Self::PaymentPending, Event::Declined) => Some(Self::PaymentDeclined),
            (Self::Placed, Event::Unanswered) => Some(Self::PaymentPending),
            (Self::Paid, Event::Cancelled) => Some(Self::Cancelled),
            _ => None,
        }
    }

    /// Whether the provider has had its last word.
    pub const fn is_settled(self) -> bool {
        !matches!(self, Self::Placed | Self::PaymentPending)
    }

    /// Whether the reserved stock goes back on the shelf.
    pub const fn releases_stock(self) -> bool {
        matches!(self, Self::PaymentDeclined | Self::Cancelled)
    }
}

/// One product of an order, at the price of its day.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Line {
    pub product_id: Uuid,
    pub quantity: i32,
    pub price_minor: i64,
}

/// An order with its lines.
#[derive(Clone, Debug)]
pub struct Order {
    pub id: Uuid,
    pub status: Status,
    pub payment_method: String,
    pub total_minor: i64,
    pub currency: String,
    pub idempotency_key: String,
    pub lines: Vec<Line>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A checked request for an order.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// By product, so that two orders lock their products in the same sequence.
    pub lines: Vec<(Uuid, i32)>,
    /// Their products as the client listed them, to name a line by its place.
    pub listed: Vec<Uuid>,
    pub payment_method: String,
}

impl NewOrder {
    /// # Errors
    /// `Invalid` with every field that breaks a rule.
    pub fn parse(lines: &[(Uuid, i64)], payment_method: &str) -> Result<Self> {
        let mut checks = Validation::default();
        if lines.is_empty() || lines.len() > MAX_LINES {
            checks.reject("lines", "must have 1 to 100 entries");
        }
        let mut seen = BTreeSet::new();
        let mut parsed = Vec::with_capacity(lines.len());
        for (at, (product, quantity)) in lines.iter().enumerate() {
            if !seen.insert(*product) {
                checks.reject(format!("lines[{at}].product_id"), "is in the order twice; add the quantities");
            }
            match i32::try_from(*quantity) {
                Ok(number) if (1..=MAX_QUANTITY).contains(quantity) => parsed.push((*product, number)),
                _ => checks.reject(format!("lines[{at}].quantity"), "must be between 1 and 1000000"),
            }
        }
        let payment_method = checks.parsed("payment_method", text(payment_method, 100));
        checks.finish()?;
        parsed.sort_unstable_by_key(|(product, _)| *product);
        let listed = lines.iter().map(|(product, _)| *product).collect();
        Ok(Self { lines: parsed, listed, payment_method: payment_method.unwrap_or_default() })
    }
}

/// A product as an order sees it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Offer {
    pub id: Uuid,
    pub price_minor: i64,
    pub currency: String,
    pub stock: i32,
}

/// The lines with their prices, their exact sum and its currency.
///
/// # Errors
/// `Invalid` for an unknown product, mixed currencies or a sum past `i64`; `Conflict` when there is
/// not enough of a product.
pub fn price(wanted: &[(Uuid, i32)], listed: &[Uuid], offers: &[Offer]) -> Result<(Vec<Line>, i64, String)> {
    let mut checks = Validation::default();
    let mut lines = Vec::with_capacity(wanted.len());
    let mut total: Option<i64> = Some(0);
    let mut short = None;
    for (product, quantity) in wanted {
        let Some(offer) = offers.iter().find(|offer| offer.id == *product) else {
            let at = listed.iter().position(|listed| listed == product).unwrap_or_default();
            checks.reject(format!("lines[{at}].product_id"), "there is no such product");
            continue;
        };
        if offer.stock < *quantity {
            short = Some(*product);
        }
        let sum = offer.price_minor.checked_mul(i64::from(*quantity));
        total = total.zip(sum).and_then(|(total, sum)| total.checked_add(sum));
        lines.push(Line { product_id: *product, quantity: *quantity, price_minor: offer.price_minor });
    }
    let currency = offers.first().map(|offer| offer.currency.clone()).unwrap_or_default();
    if offers.iter().any(|offer| offer.currency != currency) {
        checks.reject("lines", "all products of an order must have one currency");
    }
    if total.is_none() {
        checks.reject("lines", "the total is too large");
    }
    checks.finish()?;
    if let Some(product) = short {
        return Err(Error::new(
            Kind::Conflict,
            "insufficient_stock",
            format!("There is not enough of product {product}."),
        ));
    }
    Ok((lines, total.unwrap_or_default(), currency))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_allows_these_steps_and_no_other() {
        use Event::{Cancelled, Charged, Declined, Unanswered};
        let allowed = [
            (Status::Placed, Charged, Status::Paid),
            (Status::Placed, Declined, Status::PaymentDeclined),
            (Status::Placed, Unanswered, Status::PaymentPending),
            (Status::PaymentPending, Charged, Status::Paid),
            (Status::PaymentPending, Declined, Status::PaymentDeclined),
            (Status::Paid, Cancelled, Status::Cancelled),
        ];
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
            for event in [Charged, Declined, Unanswered, Cancelled] {
                let expected =
                    allowed.iter().find(|(from, on, _)| (*from, *on) == (status, event)).map(|(_, _, to)| *to);
                assert_eq!(status.after(event), expected, "{status:?} on {event:?}");
            }
        }
    }

    fn offer(id: u128, price_minor: i64, currency: &str, stock: i32) -> Offer {
        Offer { id: Uuid::from_u128(id), price_minor, currency: currency.to_owned(), stock }
    }

    #[test]
    fn sums_are_exact_and_an_overflow_is_refused() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let offers = [offer(1, 1999, "EUR", 10), offer(2, 1, "EUR", 10)];
        let (lines, total, currency) = price(&[(one, 3), (two, 10)], &[one, two], &offers).unwrap();
        assert_eq!((lines.len(), total, currency.as_str()), (2, 6007, "EUR"));
        let huge = [offer(1, i64::MAX / 2, "EUR", 10)];
        assert_eq!(price(&[(one, 3)], &[one], &huge).unwrap_err().kind, Kind::Invalid);
        assert_eq!(price(&[(one, 2)], &[one], &huge).unwrap().1, i64::MAX / 2 * 2);
        let sum = [offer(1, i64::MAX / 2, "EUR", 10), offer(2, i64::MAX / 2, "EUR", 10)];
        assert_eq!(price(&[(one, 2), (two, 2)], &[one, two], &sum).unwrap_err().kind, Kind::Invalid);
    }

    #[test]
    fn an_order_has_one_currency_known_products_and_enough_of_each() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mixed = [offer(1, 1, "EUR", 1), offer(2, 1, "USD", 1)];
        assert_eq!(price(&[(one, 1), (two, 1)], &[one, two], &mixed).unwrap_err().kind, Kind::Invalid);
        assert_eq!(price(&[(two, 1)], &[two], &mixed[..1]).unwrap_err().fields[0].field, "lines[0].product_id");
        assert_eq!(price(&[(one, 2)], &[one], &mixed[..1]).unwrap_err().code, "insufficient_stock");
    }

    #[test]
    fn bad_lines_are_all_named() {
        let one = Uuid::from_u128(1);
        let error = NewOrder::parse(&[(one, 0), (one, 1), (Uuid::nil(), MAX_QUANTITY + 1)], "").unwrap_err();
        let fields: Vec<_> = error.fields.iter().map(|field| &*field.field).collect();
        assert_eq!(fields, ["lines[0].quantity", "lines[1].product_id", "lines[2].quantity", "payment_method"]);
        assert!(NewOrder::parse(&[], "tok_ok").is_err());
        let sorted = NewOrder::parse(&[(one, 1), (Uuid::nil(), 2)], "tok_ok").unwrap();
        assert_eq!(sorted.lines[0].0, Uuid::nil());
    }
}
