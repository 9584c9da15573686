//! The example.

mod crashes;
mod orders;
mod products;
mod propagation;
mod users;
mod walk;
mod webhooks;
