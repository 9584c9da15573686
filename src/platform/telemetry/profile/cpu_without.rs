//! Without the feature `cpu-profile`: the answer of builds without CPU profiles.

use std::{sync::Arc, time::Duration};

use crate::platform::error::{Error, Kind, Result};

/// What no build without the feature has.
pub enum Profile {}

impl Profile {
    /// # Errors
    /// Never: there is none.
    pub fn svg(&self) -> Result<Vec<u8>> {
        match *self {}
    }

    /// # Errors
    /// Never: there is none.
    pub fn pprof(&self) -> Result<Vec<u8>> {
        match *self {}
    }

    pub fn top(&self) -> String {
        match *self {}
    }
}

/// # Errors
/// [`Kind::NotFound`], always: what to build.
pub async fn record(_: Duration) -> Result<Arc<Profile>> {
    Err(Error::new(
        Kind::NotFound,
        "cpu_profile_not_built",
        "This build has no CPU profiles: build it with the feature `cpu-profile`, which is on by default.",
    ))
}

pub fn last() -> Option<Arc<Profile>> {
    None
}
