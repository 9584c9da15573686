//! The half that stays.

mod api_keys;
mod bad_input;
mod cache;
mod configuration;
mod documents;
mod errors;
mod lifecycle;
mod safety;
mod signals;
mod tenancy;
