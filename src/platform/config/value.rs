//! What one setting may be: units, lists, addresses, secrets. Each error says what was expected.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use config::{Value, ValueKind};
use secrecy::{ExposeSecret as _, SecretString};

/// A type a key can have.
pub trait Setting: Sized {
    /// For the reference: `duration`, `size`, `list`…
    const KIND: &'static str;
    const SECRET: bool = false;

    /// # Errors
    /// What was expected, without the value.
    fn parse(value: &Value) -> Result<Self, String>;

    fn show(&self) -> String;

    fn within(&self, _range: &RangeInclusive<Self>) -> bool {
        true
    }
}

/// A raw value as `config show` and faults print it.
pub fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => quoted(text),
        ValueKind::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// A string as TOML writes it (1.0, "Basic strings"): what it holds ends neither the string nor the line.
fn quoted(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

fn text(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.trim().to_owned()),
        ValueKind::I64(number) => Some(number.to_string()),
        ValueKind::Boolean(flag) => Some(flag.to_string()),
        ValueKind::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

macro_rules! integer {
    ($($type:ty),*) => { $(
        impl Setting for $type {
            const KIND: &'static str = "integer";

            fn parse(value: &Value) -> Result<Self, String> {
                text(value)
                    .and_then(|text| text.replace('_', "").parse().ok())
                    .ok_or_else(|| format!("expected an integer from {} to {}", Self::MIN, Self::MAX))
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn within(&self, range: &RangeInclusive<Self>) -> bool {
                range.contains(self)
            }
        }
    )* };
}
integer!(u16, u32, u64, usize);

impl Setting for bool {
    const KIND: &'static str = "boolean";

    fn parse(value: &Value) -> Result<Self, String> {
        match text(value).as_deref() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err("expected true or false".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    const KIND: &'static str = "string";

    fn parse(value: &Value) -> Result<Self, String> {
        text(value).ok_or_else(|| "expected a string".to_owned())
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl Setting for SocketAddr {
    const KIND: &'static str = "address";

    fn parse(value: &Value) -> Result<Self, String> {
        text(value)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| "expected an address and a port such as 127.0.0.1:8080 or [::]:8080".to_owned())
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// Splits `250ms` into its digits and its unit.
fn quantity(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

/// Reads `500ms`, `5s`, `15m`, `1h`.
///
/// # Errors
/// What was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration with its unit (ms, s, m, h) such as \"500ms\" or \"5s\"".to_owned();
    let (number, unit) = quantity(text).ok_or_else(expected)?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    millis.map(Duration::from_millis).ok_or_else(expected)
}

impl Setting for Duration {
    const KIND: &'static str = "duration";

    fn parse(value: &Value) -> Result<Self, String> {
        duration(&text(value).unwrap_or_default())
    }

    fn show(&self) -> String {
        match self.as_millis() {
            ms if ms % 1_000 != 0 => format!("\"{ms}ms\""),
            ms => format!("\"{}s\"", ms / 1_000),
        }
    }

    fn within(&self, range: &RangeInclusive<Self>) -> bool {
        range.contains(self)
    }
}

/// A number of bytes, written with a unit (`KiB`, `MiB`).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct ByteSize(pub usize);

impl Setting for ByteSize {
    const KIND: &'static str = "size";

    fn parse(value: &Value) -> Result<Self, String> {
        let expected = || "expected a size with its unit (B, KiB, MiB) such as \"1MiB\"".to_owned();
        let text = text(value).ok_or_else(expected)?;
        let (number, unit) = quantity(&text).ok_or_else(expected)?;
        let scale: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => return Err(expected()),
        };
        number.checked_mul(scale).and_then(|bytes| usize::try_from(bytes).ok()).map(Self).ok_or_else(expected)
    }

    fn show(&self) -> String {
        format!("\"{}B\"", self.0)
    }

    fn within(&self, range: &RangeInclusive<Self>) -> bool {
        range.contains(self)
    }
}

/// A TOML list, or one string with commas: the form an environment variable can take.
impl Setting for Vec<String> {
    const KIND: &'static str = "list";

    fn parse(value: &Value) -> Result<Self, String> {
        let expected = || "expected a list of strings or one string with commas".to_owned();
        match &value.kind {
            ValueKind::Array(items) => items.iter().map(|item| text(item).ok_or_else(expected)).collect(),
            _ => {
                let text = text(value).ok_or_else(expected)?;
                Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
            }
        }
    }

    fn show(&self) -> String {
        format!("[{}]", self.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
    }
}

/// An empty string means "not set".
impl<T: Setting> Setting for Option<T> {
    const KIND: &'static str = T::KIND;
    const SECRET: bool = T::SECRET;

    fn parse(value: &Value) -> Result<Self, String> {
        match text(value).as_deref() {
            Some("") => Ok(None),
            _ => T::parse(value).map(Some),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "\"\"".to_owned(), T::show)
    }
}

/// A value that no log, error or `Debug` shows.
#[derive(Clone, Debug)]
pub struct Secret(SecretString);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(value.into())
    }

    /// The plain value: only for the library call that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl Setting for Secret {
    const KIND: &'static str = "secret";
    const SECRET: bool = true;

    fn parse(value: &Value) -> Result<Self, String> {
        match &value.kind {
            ValueKind::String(text) => Ok(Self::new(text.clone())),
            _ => Err("expected a quoted string".to_owned()),
        }
    }

    fn show(&self) -> String {
        "[REDACTED]".to_owned()
    }
}

/// Declares an enum whose variants are written in lower case.
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* pub enum $name:ident { $( $(#[doc = $doc:literal])* $variant:ident = $text:literal ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[doc = $doc])* $variant ),* }

        impl $name {
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text ),* }
            }
        }

        impl $crate::platform::config::Setting for $name {
            const KIND: &'static str = concat!("one of", $(" ", $text),*);

            fn parse(value: &::config::Value) -> Result<Self, String> {
                match &value.kind {
                    $( ::config::ValueKind::String(text) if text.trim() == $text => Ok(Self::$variant), )*
                    _ => Err(concat!("expected one of", $(" ", $text),*).to_owned()),
                }
            }

            fn show(&self) -> String {
                format!("\"{}\"", self.as_str())
            }
        }
    };
}
