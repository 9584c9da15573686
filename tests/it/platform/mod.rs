//! The half that stays.

mod api_keys;
mod bad_input;
mod cache;
mod configuration;
mod documents;
mod errors;
mod jobs;
mod lifecycle;
mod otlp;
mod safety;
mod signals;
mod tenancy;
