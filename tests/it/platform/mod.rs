//! The half that stays.

mod admission;
mod api_keys;
mod bad_input;
mod bleed;
mod cache;
mod canaries;
mod cardinality;
mod configuration;
mod database_signals;
mod debugging;
mod doctor;
mod documents;
mod errors;
mod jobs;
mod lifecycle;
mod one_id;
mod otel_variables;
mod otlp;
mod quota;
mod rotation;
mod safety;
mod sentry;
mod server_loop;
mod signals;
mod stall;
mod tenancy;
