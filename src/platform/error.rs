//! The one error type. It knows no HTTP: `http::problem` maps a [`Kind`] to a status, once.

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync>;

/// What went wrong, seen from the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request can't be read: syntax, types, unknown fields.
    Malformed,
    /// The request reads well, but its values break a rule.
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    PaymentRequired,
    /// The state of the resource, or its uniqueness, is in the way.
    Conflict,
    TooLarge,
    /// More requests than the tenant may make.
    RateLimited,
    UnsupportedMediaType,
    /// A dependency or this process can't do it now; asking again later may work.
    Unavailable,
    /// The client was too slow to send its request.
    SlowRequest,
    /// The address is longer than the service reads.
    UriTooLong,
    /// The deadline of the request passed.
    Timeout,
    /// A fault of ours.
    Internal,
}

/// One field that breaks a rule, in the caller's own names (`price.currency`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub field: Cow<'static, str>,
    pub message: Cow<'static, str>,
}

/// A failure with a stable code, a text the caller may read, and a source that only logs show.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    /// Stable snake_case name; for failures of ours it is also `error.type`.
    pub code: &'static str,
    pub message: Cow<'static, str>,
    pub fields: Vec<FieldError>,
    pub retry_after: Option<Duration>,
    source: Option<Source>,
}

impl Error {
    pub fn new(kind: Kind, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, code, message: message.into(), fields: Vec::new(), retry_after: None, source: None }
    }

    pub fn internal(source: impl Into<Source>) -> Self {
        Self::new(Kind::Internal, "internal", "The service failed to handle the request.").caused_by(source)
    }

    pub fn unavailable(code: &'static str, message: &'static str) -> Self {
        Self::new(Kind::Unavailable, code, message).after(Duration::from_secs(1))
    }

    pub fn rate_limited(code: &'static str, message: &'static str, wait: Duration) -> Self {
        Self::new(Kind::RateLimited, code, message).after(wait)
    }

    /// The request's time is up.
    pub fn deadline_exceeded() -> Self {
        Self::new(Kind::Timeout, "deadline_exceeded", "The request took longer than the service allows.")
    }

    pub fn not_found(code: &'static str, message: &'static str) -> Self {
        Self::new(Kind::NotFound, code, message)
    }

    /// Tells the caller when to come back.
    #[must_use]
    pub const fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error for another who waited for it; the source becomes its text.
    pub fn copy(&self) -> Self {
        let mut copy = Self::new(self.kind, self.code, self.message.clone());
        copy.fields.clone_from(&self.fields);
        copy.retry_after = self.retry_after;
        copy.caused_by(self.chain())
    }

    /// The causes, outermost first, joined by `: `; for logs only.
    pub fn chain(&self) -> String {
        let mut text = self.code.to_owned();
        let mut next = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Collects the fields that break a rule, so that all of them are reported at once.
#[derive(Debug, Default)]
pub struct Validation(Vec<FieldError>);

impl Validation {
    pub fn reject(&mut self, field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) {
        self.0.push(FieldError { field: field.into(), message: message.into() });
    }

    /// A parsed value, or `None` after noting why not.
    pub fn parsed<T>(&mut self, field: &'static str, value: std::result::Result<T, &'static str>) -> Option<T> {
        value.map_err(|message| self.reject(field, message)).ok()
    }

    /// # Errors
    /// [`Kind::Invalid`] with every rejected field.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut error = Error::new(Kind::Invalid, "validation_failed", "Some fields break a rule.");
        error.fields = self.0;
        Err(error)
    }
}

/// Text of 1 to `max` characters without control characters (Postgres stores no NUL), trimmed.
///
/// # Errors
/// Which rule it breaks.
pub fn text(value: &str, max: usize) -> std::result::Result<String, &'static str> {
    let value = value.trim();
    if value.is_empty() {
        Err("must not be empty")
    } else if value.chars().count() > max {
        Err("is too long")
    } else if value.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        Err("must not contain control characters")
    } else {
        Ok(value.to_owned())
    }
}
