//! Attribute keys of our own, next to the semantic conventions' (`opentelemetry_semantic_conventions`).
//! `SEARCHABLE` are the ones a trace is meant to be found by; keep it short, backends index it.

pub const TENANT_ID: &str = "tenant.id";
pub const CORRELATION_ID: &str = "correlation_id";
pub const REQUEST_ID: &str = "http.request.header.x-request-id";

pub const SEARCHABLE: &[&str] =
    &[TENANT_ID, CORRELATION_ID, "user.id", "http.route", "http.response.status_code", "error.type"];
