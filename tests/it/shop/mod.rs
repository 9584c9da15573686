//! The example.

pub mod chaos;
mod crashes;
mod deadline;
pub mod orders;
mod platform;
mod products;
mod propagation;
pub mod security;
mod semconv;
mod users;
mod walk;
pub mod webhooks;
