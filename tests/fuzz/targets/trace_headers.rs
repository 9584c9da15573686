//! Trace context, baggage and ids in headers (`name: value` lines): what is taken over is valid, and goes on as
//! the same.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use keel::platform::{
    http::accepted_id,
    telemetry::{
        propagation::{self, Format, Propagators},
        redact::scrub,
    },
};
use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt as _},
};

const FORMATS: &[&[Format]] = &[
    &[Format::TraceContext, Format::Baggage],
    &[Format::B3],
    &[Format::B3Multi],
    &[Format::Xray],
    &[Format::Baggage, Format::Xray, Format::B3Multi, Format::B3, Format::TraceContext],
];

pub fn run(data: &[u8]) {
    let headers = headers(data);
    for formats in FORMATS {
        let propagators = Propagators::new(formats);
        if let Some(context) = propagators.extract(&headers) {
            goes_on(&propagators, context);
        }
    }
    check_baggage(&headers);
    ["x-request-id", "x-correlation-id"].iter().for_each(|name| check_id(&headers, name));

    let text = String::from_utf8_lossy(data);
    if let Some(span) = propagation::parse(&text) {
        assert!(span.is_valid() && span.is_remote(), "{text:?}");
    }
}

fn headers(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

fn ids(span: &SpanContext) -> (String, String) {
    (span.trace_id().to_string(), span.span_id().to_string())
}

fn goes_on(propagators: &Propagators, context: Context) {
    let span = context.span().span_context().clone();
    assert!(span.is_valid() && span.is_remote(), "{span:?}");
    let state = span.trace_state().header();
    assert_eq!(scrub(&state), state, "no secret goes on in another vendor's state");

    let _inside = context.attach();
    let traceparent = propagation::traceparent().expect("inside a trace");
    assert_eq!(traceparent.len(), 55, "{traceparent}");
    let same = propagation::parse(&traceparent).expect("what is written is read");
    assert_eq!((ids(&same), same.is_sampled()), (ids(&span), span.is_sampled()), "{traceparent}");
    let injected = propagators.inject();
    // Not the flag: `Sampled=?;Sampled=1` is deferred here and, passed on by the X-Ray propagator, sampled there.
    let back = propagators.extract(&injected).unwrap_or_else(|| panic!("{injected:?} holds {span:?}"));
    assert_eq!(ids(back.span().span_context()), ids(&span), "{injected:?}");
}

fn check_baggage(headers: &HeaderMap) {
    let propagators = Propagators::new(&[Format::Baggage]);
    let allowed = ["tenant.tier".to_owned(), "region".to_owned()];
    for entry in propagators.baggage(headers, &allowed) {
        assert!(allowed.iter().any(|key| key == entry.key.as_str()), "{entry:?}");
        assert!(entry.value.as_str().len() <= 256, "{entry:?}");
    }
    assert!(propagators.baggage(headers, &[]).is_empty(), "nothing is allowed unless it is named");
}

fn check_id(headers: &HeaderMap, name: &str) {
    let is_id = |text: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (1..=64).contains(&text.len()) && text.bytes().all(is_part)
    };
    let sent = headers.get(name).and_then(|value| value.to_str().ok());
    let accepted = accepted_id(headers, name);
    let expected = sent.filter(|text| is_id(text) && scrub(text) == *text);
    assert_eq!(accepted.as_deref(), expected, "{name}: {sent:?}");
}
