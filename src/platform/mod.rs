//! The half that stays: what every service needs and none wants to write again. It knows no
//! business word and names nothing above it.

pub mod admin;
pub mod breaker;
pub mod cache;
pub mod config;
pub mod db;
pub mod error;
pub mod faults;
pub mod heartbeat;
pub mod http;
pub mod idempotency;
pub mod jitter;
pub mod jobs;
pub mod lifecycle;
pub mod outbound;
pub mod resources;
pub mod tally;
pub mod telemetry;
pub mod tenancy;
