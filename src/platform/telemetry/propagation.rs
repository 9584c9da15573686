//! Trace context in (W3C `traceparent` and `tracestate`) and out (`traceparent`).

use axum::http::HeaderMap;
use opentelemetry::{
    Context,
    propagation::TextMapPropagator as _,
    trace::{SpanContext, TraceContextExt as _},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::choice;

choice! {
    /// What an inbound `traceparent` may do.
    pub enum TrustTraceContext {
        /// The caller's trace goes on here.
        Continue = "continue",
        /// A trace of its own, linked to the caller's.
        Link = "link",
        Ignore = "ignore",
    }
}

/// The remote context of the caller, if it sent a valid one.
pub fn extract(headers: &HeaderMap) -> Option<Context> {
    // Two different parents are no parent (W3C Trace Context §3.2: the header must not be repeated).
    if headers.get_all("traceparent").iter().count() != 1 {
        return None;
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
    context.span().span_context().is_valid().then_some(context)
}

/// The span that a stored `traceparent` names.
pub fn parse(traceparent: &str) -> Option<SpanContext> {
    let carrier = std::collections::HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

/// `traceparent` of the current span: 55 characters, or `None` outside any trace.
pub fn traceparent() -> Option<String> {
    Context::map_current(|context| {
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| format!("00-{}-{}-{:02x}", ids.trace_id(), ids.span_id(), ids.trace_flags().to_u8()))
    })
}
