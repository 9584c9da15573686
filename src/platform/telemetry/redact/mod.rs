//! What must not leave the process: by the name it stands under (`key`; in text `pair`, `extent` and
//! `harmless`), by its form (`token`, `number`, `address`), and the process's own secrets wherever they
//! turn up (`own`). `value` puts them together. The last line of defence, not the first: secrets are
//! types (`config::Secret`), and spans and events list their fields.

mod address;
mod extent;
mod harmless;
pub mod key;
mod number;
mod own;
mod pair;
mod text;
mod token;
pub mod value;
#[cfg(test)]
mod vectors;
mod view;

pub use key::is_secret_key;
pub use own::protect;
pub use value::scrub;

/// What stands in a secret's place.
pub const MASK: &str = "[REDACTED]";
