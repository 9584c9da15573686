//! The example.

mod crashes;
mod deadline;
pub mod orders;
mod products;
mod propagation;
mod semconv;
mod users;
mod walk;
pub mod webhooks;
