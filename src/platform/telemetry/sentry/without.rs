//! Without the feature `sentry`: a DSN is a fault, and of what would report there can be no value.

use std::time::Duration;

use backtrace::Backtrace;

use super::SentryConfig;
use crate::platform::config::{Environment, Secret};

/// # Errors
/// Always: what to build.
pub fn server(_: &Secret) -> Result<String, String> {
    Err("sentry.dsn: set, but this binary was built without the feature `sentry`".to_owned())
}

/// What no build without the feature has.
#[derive(Clone)]
pub enum Sentry {}

impl Sentry {
    /// # Errors
    /// A DSN.
    pub fn start(config: &SentryConfig, _: Environment) -> Result<Option<Self>, String> {
        config.dsn.as_ref().map_or(Ok(None), |dsn| server(dsn).map(|_| None))
    }

    pub fn error(&self, _: &str, _: &str) -> Option<String> {
        match *self {}
    }

    pub fn panic(&self, _: &str, _: Backtrace) -> Option<String> {
        match *self {}
    }

    pub fn flush(&self, _: Duration) -> bool {
        match *self {}
    }

    pub fn close(&self, _: Duration) -> bool {
        match *self {}
    }

    pub fn outcomes(&self) -> [u64; 5] {
        match *self {}
    }
}
