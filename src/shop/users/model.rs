//! A user and what its fields may be. Pure.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::platform::error::{Result, Validation, text};

/// A person of one shop.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct User {
    pub id: Uuid,
    pub email: String,
    pub name: String,
    pub source: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Checked values of a user that is not stored yet.
#[derive(Clone, Debug)]
pub struct NewUser {
    pub email: String,
    pub name: String,
    pub source: String,
}

impl NewUser {
    /// # Errors
    /// `Invalid` with every field that breaks a rule.
    pub fn parse(given_email: &str, name: &str, source: &str) -> Result<Self> {
        let mut checks = Validation::default();
        let email = checks.parsed("email", email(given_email));
        let name = checks.parsed("name", text(name, 200));
        let source = checks.parsed("source", text(source, 50));
        checks.finish()?;
        let (Some(email), Some(name), Some(source)) = (email, name, source) else {
            unreachable!("finish reports rejected fields")
        };
        Ok(Self { email, name, source })
    }
}

/// Lower case, because people type addresses in any; only the shape is checked, delivery proves the rest.
fn email(value: &str) -> Result<String, &'static str> {
    let value = text(value, 254)?.to_lowercase();
    let shaped = value.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && domain.contains('.')
            && !domain.starts_with('.')
            && !domain.ends_with('.')
            && !domain.contains('@')
    });
    if shaped && !value.contains(char::is_whitespace) { Ok(value) } else { Err("is not an e-mail address") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_in_lower_case() {
        assert_eq!(NewUser::parse(" Ada@Example.COM ", "Ada", "web").unwrap().email, "ada@example.com");
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let error = NewUser::parse("nobody", "", &"x".repeat(51)).unwrap_err();
        let fields: Vec<_> = error.fields.iter().map(|field| &*field.field).collect();
        assert_eq!(fields, ["email", "name", "source"]);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "@example.com",
            "ada@",
            "ada@example",
            "ada@.com",
            "a da@example.com",
            "a@b@example.com",
            "ada\u{0}@example.com",
        ] {
            assert!(email(bad).is_err(), "{bad:?}");
        }
    }
}
