//! A product, its price and what its fields may be. Pure.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::platform::error::{Result, Validation, text};

/// Largest price and stock: far from any overflow, and exact in JavaScript's numbers.
pub const MAX_AMOUNT_MINOR: i64 = 999_999_999_999;
pub const MAX_STOCK: i32 = 1_000_000_000;

/// Currencies a shop can use (ISO 4217).
const CURRENCIES: &[&str] =
    &["AUD", "CAD", "CHF", "CZK", "DKK", "EUR", "GBP", "JPY", "NOK", "NZD", "PLN", "SEK", "USD"];

/// Something a shop sells.
#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow)]
pub struct Product {
    pub id: Uuid,
    pub sku: String,
    pub name: String,
    pub description: Option<String>,
    pub price_minor: i64,
    pub currency: String,
    pub stock: i32,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Checked values of a product that is not stored yet.
#[derive(Clone, Debug)]
pub struct NewProduct {
    pub sku: String,
    pub name: String,
    pub description: Option<String>,
    pub price_minor: i64,
    pub currency: String,
    pub stock: i32,
}

impl NewProduct {
    /// # Errors
    /// `Invalid` with every field that breaks a rule.
    pub fn parse(
        sku: &str,
        name: &str,
        description: Option<&str>,
        (amount, currency): (i64, String),
        stock: i64,
    ) -> Result<Self> {
        let mut checks = Validation::default();
        let sku = checks.parsed("sku", valid_sku(sku));
        let name = checks.parsed("name", valid_name(name));
        let description = description.and_then(|value| checks.parsed("description", valid_description(value)));
        let price_minor = checks.parsed("price.amount_minor", valid_amount(amount));
        let currency = checks.parsed("price.currency", known_currency(currency));
        let stock = checks.parsed("stock", valid_stock(stock));
        checks.finish()?;
        let (Some(sku), Some(name), Some(price_minor), Some(currency), Some(stock)) =
            (sku, name, price_minor, currency, stock)
        else {
            unreachable!("finish reports rejected fields")
        };
        Ok(Self { sku, name, description, price_minor, currency, stock })
    }
}

/// What a client wants changed; `None` means "not given".
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub sku: Option<String>,
    pub name: Option<String>,
    /// `Some(None)` takes the description away.
    pub description: Option<Option<String>>,
    pub price: Option<(i64, String)>,
    pub stock: Option<i64>,
}

/// Checked values to write; `None` leaves a column as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub sku: Option<String>,
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub price_minor: Option<i64>,
    pub currency: Option<String>,
    pub stock: Option<i32>,
}

impl Changes {
    /// # Errors
    /// `Invalid` with every field that breaks a rule.
    pub fn parse(given: Given) -> Result<Self> {
        let mut checks = Validation::default();
        let sku = given.sku.and_then(|value| checks.parsed("sku", valid_sku(&value)));
        let name = given.name.and_then(|value| checks.parsed("name", valid_name(&value)));
        let description = given.description.and_then(|value| match value {
            None => Some(None),
            Some(value) => checks.parsed("description", valid_description(&value)).map(Some),
        });
        let (amount, currency) = given.price.unzip();
        let price_minor = amount.and_then(|value| checks.parsed("price.amount_minor", valid_amount(value)));
        let currency = currency.and_then(|value| checks.parsed("price.currency", known_currency(value)));
        let stock = given.stock.and_then(|value| checks.parsed("stock", valid_stock(value)));
        checks.finish()?;
        Ok(Self { sku, name, description, price_minor, currency, stock })
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn valid_sku(value: &str) -> Result<String, &'static str> {
    let value = text(value, 64)?;
    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if plain { Ok(value) } else { Err("may hold letters, digits, '-', '_' and '.' only") }
}

fn valid_name(value: &str) -> Result<String, &'static str> {
    text(value, 200)
}

fn valid_description(value: &str) -> Result<String, &'static str> {
    text(value, 2_000)
}

fn valid_amount(value: i64) -> Result<i64, &'static str> {
    if (0..=MAX_AMOUNT_MINOR).contains(&value) { Ok(value) } else { Err("must be between 0 and 999999999999") }
}

fn known_currency(value: String) -> Result<String, &'static str> {
    if CURRENCIES.contains(&value.as_str()) {
        Ok(value)
    } else {
        Err("is not a currency this shop knows (ISO 4217, upper case)")
    }
}

fn valid_stock(value: i64) -> Result<i32, &'static str> {
    i32::try_from(value).ok().filter(|stock| (0..=MAX_STOCK).contains(stock)).ok_or("must be between 0 and 1000000000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_given_changes_nothing() {
        assert!(Changes::parse(Given::default()).unwrap().is_empty());
    }

    #[test]
    fn a_null_description_is_a_change() {
        let changes = Changes::parse(Given { description: Some(None), ..Given::default() }).unwrap();
        assert!(!changes.is_empty());
        assert_eq!(changes.description, Some(None));
    }

    #[test]
    fn every_fault_is_named_by_its_path() {
        let every = ["sku", "name", "description", "price.amount_minor", "price.currency", "stock"];
        let long = "x".repeat(2_001);
        let error = NewProduct::parse("a b", " ", Some(&long), (-1, "eur".to_owned()), 1 << 40).unwrap_err();
        let fields: Vec<_> = error.fields.iter().map(|field| &*field.field).collect();
        assert_eq!(fields, every);
        let given = Given {
            sku: Some("a b".to_owned()),
            name: Some(" ".to_owned()),
            description: Some(Some(long)),
            price: Some((-1, "eur".to_owned())),
            stock: Some(1 << 40),
        };
        let error = Changes::parse(given).unwrap_err();
        let fields: Vec<_> = error.fields.iter().map(|field| &*field.field).collect();
        assert_eq!(fields, every);
    }

    #[test]
    fn amounts_end_where_they_are_no_longer_exact_everywhere() {
        assert_eq!(valid_amount(MAX_AMOUNT_MINOR), Ok(MAX_AMOUNT_MINOR));
        assert!(valid_amount(MAX_AMOUNT_MINOR + 1).is_err());
        const { assert!(MAX_AMOUNT_MINOR < 1 << 53) };
    }
}
