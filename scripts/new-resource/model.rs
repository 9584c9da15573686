//! A widget and what its fields may be. Pure.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::platform::error::{Result, Validation, text};

/// A widget of one tenant.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Widget {
    pub id: Uuid,
    pub number: String,
    pub name: String,
    pub note: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Checked values of a widget that is not stored yet.
#[derive(Clone, Debug)]
pub struct NewWidget {
    pub number: String,
    pub name: String,
    pub note: Option<String>,
}

impl NewWidget {
    /// # Errors
    /// `Invalid` with every field that breaks a rule.
    pub fn parse(number: &str, name: &str, note: Option<&str>) -> Result<Self> {
        let mut checks = Validation::default();
        let number = checks.parsed("number", valid_number(number));
        let name = checks.parsed("name", valid_name(name));
        let note = note.and_then(|value| checks.parsed("note", valid_note(value)));
        checks.finish()?;
        let (Some(number), Some(name)) = (number, name) else { unreachable!("finish reports rejected fields") };
        Ok(Self { number, name, note })
    }
}

/// What a client wants changed; `None` means "not given".
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub number: Option<String>,
    pub name: Option<String>,
    /// `Some(None)` takes the note away.
    pub note: Option<Option<String>>,
}

/// Checked values to write; `None` leaves a column as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub number: Option<String>,
    pub name: Option<String>,
    pub note: Option<Option<String>>,
}

impl Changes {
    /// # Errors
    /// `Invalid` with every field that breaks a rule.
    pub fn parse(given: Given) -> Result<Self> {
        let mut checks = Validation::default();
        let number = given.number.and_then(|value| checks.parsed("number", valid_number(&value)));
        let name = given.name.and_then(|value| checks.parsed("name", valid_name(&value)));
        let note = given.note.and_then(|value| match value {
            None => Some(None),
            Some(value) => checks.parsed("note", valid_note(&value)).map(Some),
        });
        checks.finish()?;
        Ok(Self { number, name, note })
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn valid_number(value: &str) -> Result<String, &'static str> {
    let value = text(value, 64)?;
    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if plain { Ok(value) } else { Err("may hold letters, digits, '-', '_' and '.' only") }
}

fn valid_name(value: &str) -> Result<String, &'static str> {
    text(value, 200)
}

fn valid_note(value: &str) -> Result<String, &'static str> {
    text(value, 2_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_given_changes_nothing_and_a_null_note_is_a_change() {
        assert!(Changes::parse(Given::default()).unwrap().is_empty());
        let changes = Changes::parse(Given { note: Some(None), ..Given::default() }).unwrap();
        assert_eq!(changes, Changes { note: Some(None), ..Changes::default() });
        assert!(!changes.is_empty());
    }

    #[test]
    fn every_fault_is_named_by_its_field() {
        let (number, name, note) = ("1 / 2", " ", "x".repeat(2_001));
        let create = NewWidget::parse(number, name, Some(&note)).unwrap_err();
        let given =
            Given { number: Some(number.to_owned()), name: Some(name.to_owned()), note: Some(Some(note)) };
        let change = Changes::parse(given).unwrap_err();
        for error in [create, change] {
            let fields: Vec<_> = error.fields.iter().map(|field| &*field.field).collect();
            assert_eq!(fields, ["number", "name", "note"]);
        }
    }
}
