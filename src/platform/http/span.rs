//! The server span of a request, and what is known of its route before it comes: made once for each
//! route and method, so that no request pays for it.

use std::{collections::HashMap, sync::LazyLock};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderValue, Method, header},
};
use opentelemetry::{
    Context, KeyValue,
    baggage::BaggageExt as _,
    trace::{
        Link, Span as _, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState,
        Tracer as _,
    },
};
use opentelemetry_semantic_conventions::attribute as semconv;
use parking_lot::RwLock;

use super::observe::Shared;
use crate::platform::telemetry::{attribute, context::RequestContext, off, propagation::TrustTraceContext, sink::Sink};

/// What nothing matched is one route: a scanner must not make series.
pub const UNMATCHED: &str = "__unmatched__";

/// A route template with a method.
#[derive(Debug)]
pub(super) struct Route {
    pub method: &'static str,
    pub template: &'static str,
    pub span_name: &'static str,
}

/// Templates and methods are both bounded, so what is kept for ever is small.
static ROUTES: LazyLock<RwLock<HashMap<String, ByMethod>>> = LazyLock::new(RwLock::default);
type ByMethod = [Option<&'static Route>; 10];

impl Route {
    pub fn of(request: &Request) -> &'static Self {
        let template = request.extensions().get::<MatchedPath>().map_or(UNMATCHED, MatchedPath::as_str);
        let (place, method) = method_name(request.method());
        if let Some(known) = ROUTES.read().get(template).and_then(|routes| routes[place]) {
            return known;
        }
        let mut routes = ROUTES.write();
        let known = routes.entry(template.to_owned()).or_default();
        known[place].get_or_insert_with(|| {
            let shown = if method == "_OTHER" { "HTTP" } else { method };
            let span_name = if template == UNMATCHED { shown.to_owned() } else { format!("{shown} {template}") };
            Box::leak(Box::new(Self {
                method,
                template: String::leak(template.to_owned()),
                span_name: String::leak(span_name),
            }))
        })
    }
}

fn method_name(method: &Method) -> (usize, &'static str) {
    match *method {
        Method::GET => (0, "GET"),
        Method::POST => (1, "POST"),
        Method::PATCH => (2, "PATCH"),
        Method::PUT => (3, "PUT"),
        Method::DELETE => (4, "DELETE"),
        Method::HEAD => (5, "HEAD"),
        Method::OPTIONS => (6, "OPTIONS"),
        Method::TRACE => (7, "TRACE"),
        Method::CONNECT => (8, "CONNECT"),
        _ => (9, "_OTHER"),
    }
}

/// Starts the server span of a request, as the caller's trace context allows.
pub(super) fn start(shared: &Shared, request: &Request, route: &Route, context: &RequestContext) -> Context {
    if off::spans() {
        return Context::new();
    }
    let remote = shared.telemetry.propagators.extract(request.headers());
    let tracer = &shared.telemetry.tracer;
    let mut builder = tracer.span_builder(route.span_name).with_kind(SpanKind::Server);
    let parent = match (shared.settings.trust, remote) {
        (TrustTraceContext::Continue, Some(remote)) => remote,
        (TrustTraceContext::Link, Some(remote)) => {
            builder = builder.with_links(vec![Link::with_context(remote.span().span_context().clone())]);
            Context::new()
        }
        _ => Context::new(),
    };
    let mut span = builder.start_with_context(tracer, &parent);
    // After the sampler, which asks for none of them: what is not recorded is not built.
    if span.is_recording() {
        span.set_attributes(describe(request, route, context));
    }
    let baggage = shared.telemetry.propagators.baggage(request.headers(), &shared.settings.baggage_keys);
    let parent = if baggage.is_empty() { parent } else { parent.with_baggage(baggage) };
    parent.with_span(span)
}

/// The caller's trace or a new one, without a span: for what is refused before anything is done about it.
pub(super) fn untold(shared: &Shared, request: &Request) -> Context {
    if off::spans() {
        return Context::new();
    }
    if let Some(remote) = shared.telemetry.propagators.extract(request.headers()) {
        return remote;
    }
    let id = uuid::Uuid::new_v4();
    let (trace, span) = (id.as_u128(), id.as_u64_pair().1);
    let (trace, span) = (TraceId::from(trace), SpanId::from(span));
    let known = SpanContext::new(trace, span, TraceFlags::NOT_SAMPLED, false, TraceState::NONE);
    Context::new().with_remote_span_context(known)
}

fn describe(request: &Request, route: &Route, context: &RequestContext) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new(semconv::HTTP_REQUEST_METHOD, context.method),
        KeyValue::new(semconv::URL_PATH, context.path.clone()),
        KeyValue::new(semconv::URL_SCHEME, "http"),
        KeyValue::new(semconv::NETWORK_PROTOCOL_VERSION, "1.1"),
        KeyValue::new(attribute::REQUEST_ID, context.request_id.clone()),
        KeyValue::new(attribute::CORRELATION_ID, context.correlation_id.clone()),
    ];
    if route.template != UNMATCHED {
        attributes.push(KeyValue::new(semconv::HTTP_ROUTE, route.template));
    }
    if context.method == "_OTHER" {
        let given = Sink::Span.text(request.method().as_str()).chars().take(32).collect::<String>();
        attributes.push(KeyValue::new(semconv::HTTP_REQUEST_METHOD_ORIGINAL, given));
    }
    if let Some(client) = context.client {
        attributes.push(KeyValue::new(semconv::CLIENT_ADDRESS, client.to_string()));
    }
    if let Some(agent) = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok()) {
        // Searched before the cut, which could leave half a key.
        let agent = Sink::Span.text(agent).chars().take(256).collect::<String>();
        attributes.push(KeyValue::new(semconv::USER_AGENT_ORIGINAL, agent));
    }
    attributes
}

/// `Server-Timing`: where the time went, for a browser's developer tools.
pub(super) fn server_timing(context: &RequestContext) -> HeaderValue {
    let cost = &context.cost;
    let text = format!(
        "total;dur={:.1}, db;dur={:.1};desc=\"{} queries\", pool;dur={:.1}, redis;dur={:.1}",
        context.started.elapsed().as_secs_f64() * 1_000.0,
        cost.db_ms(),
        cost.db_queries(),
        cost.db_pool_wait_ms(),
        cost.redis_ms(),
    );
    HeaderValue::from_str(&text).expect("numbers and names")
}
