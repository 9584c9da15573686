//! Whose turn it is: one profile at a time.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::platform::error::{Error, Kind, Result};

/// When the running profile is due. One for the process, because its signal handler is.
static DUE: Mutex<Option<Instant>> = Mutex::new(None);

/// The right to take a profile, until dropped.
pub struct Turn(());

impl Turn {
    /// # Errors
    /// [`Kind::Conflict`] while somebody else has it.
    pub fn take(length: Duration) -> Result<Self> {
        let mut due = DUE.lock();
        if let Some(due) = *due {
            let left = due.saturating_duration_since(Instant::now()).as_secs() + 1;
            let why = format!("A profile is running already; try again in {left} s.");
            return Err(Error::new(Kind::Conflict, "profile_running", why).after(Duration::from_secs(left)));
        }
        *due = Some(Instant::now() + length);
        Ok(Self(()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *DUE.lock() = None;
    }
}
