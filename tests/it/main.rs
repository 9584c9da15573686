//! The integration suite: one binary, real Postgres and Redis (`make test` starts both), a fresh
//! database a test. `support` is the harness; the rest follows the rooms of `src`.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests call the service from outside and stop at the first surprise"
)]

mod chaos;
mod dashboards;
mod drills;
mod fuzz;
mod harness;
mod platform;
mod repo;
mod security;
mod shop;
mod support;
