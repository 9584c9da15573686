//! A production service: `platform` is the half that stays, `shop` the example to replace.
//!
//! ```text
//! main ── cli ── app ──┬── shop ──┐      domain: users, products, orders, payments
//!          │           └──────────┴── platform: config, telemetry, http, admin, db, cache, outbound,
//!        config                               jobs, idempotency, lifecycle, tenancy, faults
//! ```
//!
//! Direction: `main → cli → app → shop → platform`; inside a resource `http → service → store → model`.
//! `platform` names nothing above it. tests/it/repo checks this on every run.

pub mod app;
pub mod cli;
pub mod config;
pub mod platform;
pub mod shop;
