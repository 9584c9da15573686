//! The example.

mod products;
mod users;
mod walk;
