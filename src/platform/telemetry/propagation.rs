//! Trace context and baggage, in and out, in the formats of `OTEL_PROPAGATORS`.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, KeyValue,
    baggage::BaggageExt as _,
    propagation::TextMapPropagator,
    trace::{SpanContext, TraceContextExt as _, TraceState},
};
use opentelemetry_aws::trace::XrayPropagator;
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_propagator_b3::{B3Encoding, Propagator as B3Propagator};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

use super::sink::Sink;
use crate::choice;

choice! {
    /// What an inbound trace context may do.
    pub enum TrustTraceContext {
        /// The caller's trace goes on here.
        Continue = "continue",
        /// A trace of its own, linked to the caller's.
        Link = "link",
        Ignore = "ignore",
    }
}

/// A way to write the context into headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    TraceContext,
    Baggage,
    B3,
    B3Multi,
    Xray,
}

impl Format {
    /// By their names in `OTEL_PROPAGATORS`.
    pub const ALL: [(&'static str, Self); 5] = [
        ("tracecontext", Self::TraceContext),
        ("baggage", Self::Baggage),
        ("b3", Self::B3),
        ("b3multi", Self::B3Multi),
        ("xray", Self::Xray),
    ];
}

const B3_MULTI: [&str; 4] = ["x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags"];

/// Largest baggage that is read; the rest of the header is not looked at (W3C Baggage §3.3.2 asks
/// for 8,192 bytes at least, but for what is passed on: here few keys are).
const MAX_BAGGAGE: usize = 8_192;
/// Longest value of an entry that goes on.
const MAX_BAGGAGE_VALUE: usize = 256;

/// The formats that are read and written. Cheap to clone.
#[derive(Clone)]
pub struct Propagators {
    traces: Arc<[(Format, Box<dyn TextMapPropagator + Send + Sync>)]>,
    baggage: bool,
}

impl Propagators {
    pub fn new(formats: &[Format]) -> Self {
        let traces = formats.iter().filter_map(|format| {
            let propagator: Box<dyn TextMapPropagator + Send + Sync> = match format {
                Format::Baggage => return None,
                Format::TraceContext => Box::new(TraceContextPropagator::new()),
                Format::B3 => Box::new(B3Propagator::with_encoding(B3Encoding::SingleHeader)),
                Format::B3Multi => Box::new(B3Propagator::with_encoding(B3Encoding::MultipleHeader)),
                Format::Xray => Box::new(XrayPropagator::new()),
            };
            Some((*format, propagator))
        });
        Self { traces: traces.collect(), baggage: formats.contains(&Format::Baggage) }
    }

    /// The remote context of the caller, from the first format that has a valid one.
    pub fn extract(&self, headers: &HeaderMap) -> Option<Context> {
        self.traces.iter().find_map(|(_, propagator)| {
            // Two different parents are no parent (W3C Trace Context §3.2: the header must not be repeated).
            let repeated = |name: &str| headers.get_all(name).iter().nth(1).is_some();
            let mut present = false;
            for name in propagator.fields() {
                if name != "tracestate" && repeated(name) {
                    return None;
                }
                present |= headers.contains_key(name);
            }
            let context =
                present.then(|| propagator.extract_with_context(&Context::new(), &HeaderExtractor(headers)))?;
            let span = context.span().span_context().clone();
            span.is_valid().then(|| if is_clean(&span) { context } else { without_state(&span) })
        })
    }

    /// The entries of the caller's baggage that may go on: the allowed keys, with values of a sane size.
    pub fn baggage(&self, headers: &HeaderMap, allowed: &[String]) -> Vec<KeyValue> {
        if !self.baggage || allowed.is_empty() {
            return Vec::new();
        }
        // The list may come in several headers (W3C Baggage §3.3).
        let parts: Vec<&str> = headers.get_all("baggage").iter().filter_map(|part| part.to_str().ok()).collect();
        let list = parts.join(",");
        if list.is_empty() || list.len() > MAX_BAGGAGE {
            return Vec::new();
        }
        let single: HashMap<String, String> = [("baggage".to_owned(), list)].into();
        let context = BaggagePropagator::new().extract_with_context(&Context::new(), &single);
        let entries = context.baggage().iter().filter(|(key, (value, _))| {
            allowed.iter().any(|allowed| allowed == key.as_str()) && value.as_str().len() <= MAX_BAGGAGE_VALUE
        });
        entries.map(|(key, (value, _))| KeyValue::new(key.clone(), value.clone())).collect()
    }

    /// Headers for a call to a service of ours: the current span in all formats, and the baggage.
    pub fn inject(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        Context::map_current(|context| {
            let mut injector = HeaderInjector(&mut headers);
            for (format, propagator) in &*self.traces {
                propagator.inject_context(context, &mut injector);
                if *format == Format::B3 {
                    // 0.33 writes the headers of the other encoding too (its bit mask takes 0 for any).
                    B3_MULTI.iter().for_each(|name| drop(injector.0.remove(*name)));
                }
            }
            if self.baggage && !context.baggage().is_empty() {
                BaggagePropagator::new().inject_context(context, &mut injector);
            }
        });
        headers
    }
}

/// Other vendors' state is exported and passed on as it came: not with a secret in it.
fn is_clean(span: &SpanContext) -> bool {
    let state = span.trace_state().header();
    state.is_empty() || matches!(Sink::Span.text(&state), Cow::Borrowed(_))
}

fn without_state(span: &SpanContext) -> Context {
    let span =
        SpanContext::new(span.trace_id(), span.span_id(), span.trace_flags(), span.is_remote(), TraceState::NONE);
    Context::new().with_remote_span_context(span)
}

/// `traceparent` alone, for who is not ours: no state of other vendors, no baggage.
pub fn traceparent_header() -> Option<(HeaderName, HeaderValue)> {
    let value = HeaderValue::from_str(&traceparent()?).ok()?;
    Some((HeaderName::from_static("traceparent"), value))
}

/// The span that a stored `traceparent` names.
pub fn parse(traceparent: &str) -> Option<SpanContext> {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

/// As [`traceparent`], of a sampled trace only: another's leads nowhere.
pub fn sampled_traceparent() -> Option<String> {
    Context::map_current(|context| context.span().span_context().is_sampled()).then(traceparent).flatten()
}

/// `traceparent` of the current span: 55 characters, or `None` outside any trace.
pub fn traceparent() -> Option<String> {
    Context::map_current(|context| {
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| format!("00-{}-{}-{:02x}", ids.trace_id(), ids.span_id(), ids.trace_flags().to_u8()))
    })
}
