//! The example.

mod crashes;
pub mod orders;
mod products;
mod propagation;
mod users;
mod walk;
pub mod webhooks;
