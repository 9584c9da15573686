//! From sqlx's errors to ours. What the server says stays in the source: it may quote values.

use std::{fmt, time::Duration};

use crate::platform::{
    error::{Error, Kind},
    telemetry::context,
};

/// An sqlx error without the server's `detail`, which quotes values (`Key (email)=(…)`).
#[derive(Debug)]
struct Quiet(String);

impl fmt::Display for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Quiet {}

fn quiet(error: &sqlx::Error) -> Quiet {
    match error.as_database_error() {
        Some(server) => Quiet(format!(
            "postgres {}: {}{}",
            server.code().unwrap_or_default(),
            server.message(),
            server.constraint().map(|name| format!(" ({name})")).unwrap_or_default()
        )),
        None => Quiet(error.to_string()),
    }
}

/// The code of a transaction that met another one: it may be run again.
pub const CONFLICT: &str = "database_conflict";

/// Whether the connection is no longer good for anything, and nobody knows whether the statement was run.
pub fn is_lost(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    // Ended by an administrator, a crash, a shutdown.
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_))
        || matches!(&*code, "57P01" | "57P02" | "57P03")
}

/// The server did not answer in time; ours, so that the request ends before its deadline.
pub fn silent() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"))
}

/// With less than this left of a request its deadline has passed, but for the way back.
const SHORT: Duration = Duration::from_millis(100);

const UNREACHABLE: &str = "The database can't be reached. Try again shortly.";

/// The general mapping: what a store did not expect.
pub fn from_sqlx(error: &sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
    let over = context::time_left().is_some_and(|left| left < SHORT);
    let mapped = match (error, code.as_str()) {
        // Cut off because nothing was left of the request, not because the database is slow or busy.
        (sqlx::Error::PoolTimedOut | sqlx::Error::Io(_), _) | (_, "57014") if over => Error::deadline_exceeded(),
        (sqlx::Error::PoolTimedOut, _) => {
            Error::unavailable("database_pool_timeout", "The database is busy. Try again shortly.")
        }
        (sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::Protocol(_), _)
        | (_, "57P01" | "57P02" | "57P03" | "08006" | "08001" | "53300") => {
            Error::unavailable("database_unavailable", UNREACHABLE)
        }
        (_, "57014") => Error::unavailable("database_timeout", "The database took too long. Try again shortly."),
        (_, "55P03") => {
            Error::unavailable("database_busy", "The data is locked by another request. Try again shortly.")
        }
        (_, "40001" | "40P01") => Error::unavailable(CONFLICT, "The request met another one. Try again."),
        (_, "25006") => {
            Error::unavailable("database_read_only", "The database takes no writes now. Try again shortly.")
        }
        _ => Error::new(Kind::Internal, "database_error", "The service failed to handle the request."),
    };
    mapped.caused_by(quiet(error))
}

/// No connection: whatever the reason (refused, no such database, wrong password), the caller
/// can only try again.
pub fn unreachable(error: &sqlx::Error) -> Error {
    match error {
        sqlx::Error::PoolTimedOut => from_sqlx(error),
        _ => Error::unavailable("database_unavailable", UNREACHABLE).caused_by(quiet(error)),
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        from_sqlx(&error)
    }
}

/// Lets a store name what a violated constraint means.
pub trait OnConstraint<T> {
    /// Maps a violation of the constraint `name`; any other error goes the general way.
    ///
    /// # Errors
    /// What `meaning` returns, or the general mapping.
    fn on_constraint(self, name: &str, meaning: impl FnOnce() -> Error) -> Result<T, Error>;
}

impl<T> OnConstraint<T> for Result<T, sqlx::Error> {
    fn on_constraint(self, name: &str, meaning: impl FnOnce() -> Error) -> Result<T, Error> {
        self.map_err(|error| {
            let violated = error.as_database_error().is_some_and(|error| error.constraint() == Some(name));
            if violated { meaning().caused_by(quiet(&error)) } else { from_sqlx(&error) }
        })
    }
}
