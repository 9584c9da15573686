//! What must not leave the process: by the name it stands under (`key`), by its form (`value`), and
//! the process's own secrets wherever they turn up. The last line of defence, not the first: secrets
//! are types (`config::Secret`), and spans and events list their fields.

pub mod key;
pub mod value;

pub use key::is_secret_key;
pub use value::{protect, scrub};

/// What stands in a secret's place.
pub const MASK: &str = "[REDACTED]";
