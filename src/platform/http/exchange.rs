//! One request, from its ids to its canonical line: server span, RED metrics and log in one drop
//! guard, so that a panic, a timeout and a vanished client (499) are counted too.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use opentelemetry::{
    Context, KeyValue,
    trace::{Status, TraceContextExt as _},
};
use opentelemetry_semantic_conventions::attribute as semconv;
use uuid::Uuid;

use super::{
    observe::{Answered, Routed, Shared, Unhandled, Used},
    problem::Failed,
    span::{self, Route},
};
use crate::platform::telemetry::{
    context::{self, RequestContext},
    off,
    sink::Sink,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// What the handler waits for gets this share of the deadline; the rest is for the answer: it says what was
/// waited for in vain, where a bare 504 would not.
const SHARE_OF_HANDLER: f64 = 0.9;

/// Longest path in spans and lines, in bytes.
const MAX_PATH: usize = 1024;
/// The client was gone before the answer was (nginx's number; no status is sent).
const CLIENT_GONE: u16 = 499;

/// An id of the caller's, if it can be taken over: 1 to 64 of `[A-Za-z0-9._-]`.
pub fn accepted_id(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    // It goes into every line and header: a key or a card number is no id.
    let harmless = || matches!(Sink::Log.text(value), Cow::Borrowed(_));
    (plain && (1..=64).contains(&value.len()) && harmless()).then(|| value.to_owned())
}

/// The request's id and its correlation id: the caller's, or ours.
fn ids(headers: &HeaderMap) -> (String, String) {
    let request_id = accepted_id(headers, "x-request-id").unwrap_or_else(|| Uuid::now_v7().to_string());
    let correlation_id = accepted_id(headers, "x-correlation-id").unwrap_or_else(|| request_id.clone());
    (request_id, correlation_id)
}

fn client(shared: &Shared, request: &Request) -> Option<IpAddr> {
    let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
    Some(shared.settings.proxies.client(peer.ip(), request.headers()))
}

/// A request under way. Dropping it records what is known by then.
pub(super) struct Exchange {
    shared: Arc<Shared>,
    pub context: Arc<RequestContext>,
    /// With the server span; empty for probes.
    pub span: Context,
    /// Probes are counted, not logged and not traced.
    quiet: bool,
    request_bytes: u64,
    response_bytes: u64,
    status: u16,
    failed: Option<Failed>,
}

impl Exchange {
    pub fn start(shared: &Arc<Shared>, request: &Request) -> Self {
        let headers = request.headers();
        let route = Route::of(request);
        let (request_id, correlation_id) = ids(headers);
        let quiet = route.template.starts_with("/health/");
        // Searched once, here, for all who show it; and before the cut, which could leave half a key.
        let mut path = Sink::Log.text(request.uri().path()).into_owned();
        path.truncate(path.floor_char_boundary(MAX_PATH));
        let mut context = RequestContext::new(request_id, correlation_id, route.method, route.template, path);
        context.client = client(shared, request);
        context.deadline = Some(context.started + shared.settings.request_timeout.mul_f64(SHARE_OF_HANDLER));
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        shared.metrics.active.inc();
        let span = if quiet { Context::new() } else { span::start(shared, request, route, &context) };
        context.span = span.span().span_context().clone();
        Self {
            span,
            shared: Arc::clone(shared),
            context: if quiet { Arc::new(context) } else { context.begin() },
            quiet,
            request_bytes: length.unwrap_or(0),
            response_bytes: 0,
            status: CLIENT_GONE,
            failed: None,
        }
    }

    /// The answer to a request that is not taken on: counted, with its ids, and nothing else.
    pub fn refuse(shared: &Arc<Shared>, request: &Request) -> Response {
        let route = Route::of(request);
        let (request_id, correlation_id) = ids(request.headers());
        let context = RequestContext::new(request_id, correlation_id, route.method, route.template, String::new());
        shared.metrics.active.inc();
        let refused = Self {
            span: span::untold(shared, request),
            shared: Arc::clone(shared),
            context: Arc::new(context),
            quiet: true,
            request_bytes: 0,
            response_bytes: 0,
            status: CLIENT_GONE,
            failed: None,
        };
        let error = shared.gate.refuse("concurrency");
        let _inside = refused.span.clone().attach();
        let response = context::enter(Arc::clone(&refused.context), || error.into_response());
        refused.respond(response)
    }

    /// Adds the ids and ties the end of the exchange to the end of the body.
    pub fn respond(mut self, mut response: Response) -> Response {
        self.status = response.status().as_u16();
        self.failed = response.extensions_mut().remove::<Failed>();
        self.report();
        let headers = response.headers_mut();
        if let Some(event) = self.context.sentry_event() {
            headers.insert("x-sentry-event-id", HeaderValue::from_str(event).expect("hexadecimal"));
        }
        let id = |text: &str| HeaderValue::from_str(text).expect("ids are plain ASCII");
        let request_id = id(&self.context.request_id);
        let same = self.context.correlation_id == self.context.request_id;
        let correlation_id = if same { request_id.clone() } else { id(&self.context.correlation_id) };
        headers.insert(REQUEST_ID, request_id);
        headers.insert(CORRELATION_ID, correlation_id);
        if let Some(quota) = self.context.quota() {
            headers.insert(LIMIT, HeaderValue::from(quota.limit));
            headers.insert(REMAINING, HeaderValue::from(quota.remaining));
            headers.insert(RESET, HeaderValue::from(quota.reset.as_secs_f64().ceil() as u64));
        }
        if self.shared.settings.server_timing {
            headers.insert("server-timing", span::server_timing(&self.context));
        }
        let ids = self.span.span().span_context().clone();
        if ids.is_valid() {
            let trace_id = HeaderValue::from_str(&ids.trace_id().to_string()).expect("hexadecimal");
            headers.insert(TRACE_ID, trace_id);
        }
        response.map(|body| Body::new(ObservedBody { body, exchange: self, complete: false }))
    }

    /// Tells Sentry of a fault of ours, once: a panic its hook has told of, and a dependency that is away
    /// is no fault of the code (there are alerts for it).
    fn report(&self) {
        let (Some(sentry), Some(failed)) = (&self.shared.telemetry.sentry, &self.failed) else { return };
        if !failed.is_fault || self.context.sentry_event().is_some() {
            return;
        }
        let _inside = self.span.clone().attach();
        context::enter(Arc::clone(&self.context), || sentry.error(failed.code, &failed.chain));
    }

    fn record(&self) {
        let took = self.context.started.elapsed();
        let server_error = self.status >= 500;
        let code = self.failed.as_ref().map_or("", |failed| failed.code);
        let error_type = if server_error && code.is_empty() {
            "internal"
        } else if server_error {
            code
        } else {
            ""
        };
        self.shared.metrics.active.dec();
        if !off::metrics() {
            self.count(took, code, error_type);
        }
        if self.quiet {
            return;
        }
        let span = self.span.span();
        span.set_attribute(KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(self.status)));
        if server_error {
            span.set_attribute(KeyValue::new(semconv::ERROR_TYPE, error_type));
            span.set_status(Status::error(""));
        }
        let _inside = self.span.clone().attach();
        context::enter(Arc::clone(&self.context), || self.log(took.as_secs_f64() * 1_000.0, server_error, code));
        span.end();
    }

    fn count(&self, took: Duration, code: &str, error_type: &'static str) {
        let (metrics, context) = (&self.shared.metrics, &self.context);
        let labels = Answered {
            http_request_method: context.method,
            http_route: context.route,
            http_response_status_code: self.status,
            error_type,
        };
        metrics.duration.with(&labels).observe_in(took.as_secs_f64(), self.span.span().span_context());
        if let Some((tenant, _)) = context.caller() {
            metrics.used.with(&Used { tenant: self.shared.tenants.of(*tenant), http_route: context.route }).inc();
        }
        if self.status == 500 {
            let kind = if code == "panic" { "panic" } else { "error" };
            metrics.unhandled.with(&Unhandled { kind }).inc();
        }
        if !self.quiet {
            let queries = context.cost.db_queries() as f64;
            metrics.queries.with(&Routed { http_route: context.route }).observe(queries);
        }
    }

    /// Many statements in one request are one statement in a loop, usually.
    fn check_budget(&self) {
        let queries = self.context.cost.db_queries();
        let budget = self.shared.settings.query_budget(self.context.method, self.context.route);
        if queries > u64::from(budget) {
            let (db_query_summary, times) = self.context.cost.most_repeated().unwrap_or_default();
            tracing::warn!(db_queries = queries, budget, db_query_summary, times, "query_budget_exceeded");
        }
    }

    fn log(&self, duration_ms: f64, server_error: bool, error_code: &str) {
        // A panic has its own line, from the hook.
        if server_error && error_code != "panic" {
            let error = self.failed.as_ref().map_or("", |failed| failed.chain.as_str());
            let sentry_event_id = self.context.sentry_event();
            tracing::error!(status = self.status, error_code, error, sentry_event_id, "request_failed");
        }
        self.check_budget();
        let outcome = match self.status {
            CLIENT_GONE => "cancelled",
            500.. => "server_error",
            400.. => "client_error",
            _ => "success",
        };
        let cost = &self.context.cost;
        tracing::info!(
            status = self.status,
            outcome,
            duration_ms,
            db_queries = cost.db_queries(),
            db_ms = cost.db_ms(),
            db_pool_wait_ms = cost.db_pool_wait_ms(),
            redis_ops = cost.redis_ops(),
            redis_ms = cost.redis_ms(),
            request_bytes = self.request_bytes,
            response_bytes = self.response_bytes,
            error_code = (!error_code.is_empty()).then_some(error_code),
            cold_start = self.shared.cold.swap(false, Relaxed).then_some(true),
            "request_completed"
        );
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // A panic outside the shelter (a layer, a body) is ours, not the client's leaving.
        if std::thread::panicking() {
            self.status = 500;
            self.failed = Some(Failed { code: "panic", is_fault: true, chain: String::new() });
        }
        self.record();
    }
}

/// Ends the exchange with the body: counts its bytes, and knows whether all of it was taken.
struct ObservedBody {
    body: Body,
    exchange: Exchange,
    complete: bool,
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => this.exchange.response_bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => {}
            None => this.complete = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ObservedBody {
    fn drop(&mut self) {
        // An answer without a body (HEAD, 204) is never polled.
        if !self.complete && !self.body.is_end_stream() && self.exchange.context.method != "HEAD" {
            self.exchange.status = CLIENT_GONE;
        }
    }
}
