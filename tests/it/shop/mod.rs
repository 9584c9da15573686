//! The example.

mod crashes;
mod orders;
mod products;
mod users;
mod walk;
mod webhooks;
