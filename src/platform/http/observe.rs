//! The one layer that observes a request: its metrics and the service around the router. What is
//! known of one request, from its ids to its canonical line, is `exchange`.

use std::{
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use axum::{extract::Request, response::Response};
use opentelemetry::trace::FutureExt as _;
use tower::{Layer, Service};

use super::{HttpConfig, exchange::Exchange, forwarded::Proxies, late::LateFaults, overload::Gate};
use crate::{
    labels,
    platform::telemetry::{
        Telemetry, context,
        metrics::{Counter, Gauge, HTTP_SECONDS, Histogram, Registry, tenants::TenantLabels},
        off,
        propagation::TrustTraceContext,
    },
};

labels! {
    pub struct Answered {
        http_request_method: &'static str = "_OTHER",
        http_route: &'static str = "_OTHER",
        http_response_status_code: u16 = 0,
        error_type: &'static str = "",
    }
}
labels! {
    /// How much of the API each tenant uses.
    pub struct Used {
        tenant: Arc<str> = "_OTHER".into(),
        http_route: &'static str = "_OTHER",
    }
}
labels! {
    pub struct Routed { http_route: &'static str = "_OTHER" }
}
labels! {
    pub struct Unhandled { kind: &'static str = "_OTHER" }
}

pub(super) struct HttpMetrics {
    pub duration: Histogram<Answered>,
    pub active: prometheus::Gauge,
    pub unhandled: Counter<Unhandled>,
    pub used: Counter<Used>,
    pub queries: Histogram<Routed>,
}

/// Statements of one request; most have three, an N+1 has dozens.
const QUERIES: &[f64] = &[0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// What of the configuration the observing layer minds.
pub(super) struct Settings {
    pub trust: TrustTraceContext,
    pub proxies: Proxies,
    pub request_timeout: Duration,
    pub baggage_keys: Vec<String>,
    pub server_timing: bool,
    query_budget: u32,
    query_budgets: Vec<(String, u32)>,
}

impl Settings {
    fn of(http: &HttpConfig) -> Self {
        Self {
            trust: http.trust_trace_context,
            // What can't be read was refused at the start.
            proxies: http.proxies(),
            request_timeout: http.request_timeout,
            baggage_keys: http.baggage_keys.clone(),
            server_timing: http.server_timing,
            query_budget: http.query_budget,
            query_budgets: http.query_budgets.iter().filter_map(|text| budget(text)).collect(),
        }
    }

    pub fn query_budget(&self, method: &str, route: &str) -> u32 {
        let is_it = |place: &str| place.split_once(' ').is_some_and(|(m, r)| m == method && r == route);
        self.query_budgets.iter().find(|(place, _)| is_it(place)).map_or(self.query_budget, |(_, budget)| *budget)
    }
}

/// `POST /v1/orders=40`.
pub(super) fn budget(text: &str) -> Option<(String, u32)> {
    let (place, number) = text.rsplit_once('=')?;
    let (method, route) = place.split_once(' ')?;
    let known = method.bytes().all(|byte| byte.is_ascii_uppercase()) && !method.is_empty() && route.starts_with('/');
    known.then_some((place.to_owned(), number.trim().parse().ok()?))
}

/// Observes every request of the router it wraps.
#[derive(Clone)]
pub struct Observe(Arc<Shared>);

pub(super) struct Shared {
    pub metrics: HttpMetrics,
    pub telemetry: Telemetry,
    pub tenants: TenantLabels,
    pub settings: Settings,
    pub gate: Gate,
    /// Until the first request of the process is done.
    pub cold: AtomicBool,
}

impl Observe {
    pub fn new(
        telemetry: &Telemetry,
        registry: &Registry,
        tenants: &TenantLabels,
        http: &HttpConfig,
        gate: &Gate,
    ) -> Self {
        let active: Gauge = registry.gauge("http_server_active_requests", "Requests being handled now.", 1);
        let unhandled: Counter<Unhandled> =
            registry.counter("unhandled_errors_total", "Failures no handler expected: errors (500) and panics.", 4);
        for kind in ["error", "panic"] {
            unhandled.with(&Unhandled { kind });
        }
        let metrics = HttpMetrics {
            duration: registry.histogram(
                "http_server_request_duration_seconds",
                "Duration of HTTP server requests.",
                HTTP_SECONDS,
                1_000,
            ),
            active: active.with(&()),
            unhandled,
            used: registry.counter("api_requests_total", "Requests of authenticated callers, by tenant.", 1_000),
            queries: registry.histogram("db_queries_per_request", "SQL statements of one request.", QUERIES, 100),
        };
        let (telemetry, tenants) = (telemetry.clone(), tenants.clone());
        Self(Arc::new(Shared {
            metrics,
            telemetry,
            tenants,
            settings: Settings::of(http),
            gate: gate.clone(),
            cold: AtomicBool::new(true),
        }))
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, shared: Arc::clone(&self.0) }
    }
}

/// [`Observe`] around a service.
#[derive(Clone)]
pub struct Observed<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request> for Observed<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if off::all() {
            return Box::pin(self.inner.call(request));
        }
        // Probes are let in whatever there is to do.
        if request.uri().path().starts_with("/health/") {
            return Box::pin(self.observed(request));
        }
        if let Some(place) = self.shared.gate.try_enter() {
            request.extensions_mut().insert(Arc::new(place));
            return Box::pin(self.observed(request));
        }
        let mut waiting = Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) };
        Box::pin(async move {
            let Some(place) = waiting.shared.gate.enter().await else {
                return Ok(Exchange::refuse(&waiting.shared, &request));
            };
            request.extensions_mut().insert(Arc::new(place));
            waiting.observed(request).await
        })
    }
}

impl<S> Observed<S>
where
    S: Service<Request, Response = Response>,
{
    fn observed(&mut self, mut request: Request) -> impl Future<Output = Result<Response, S::Error>> + use<S> {
        let exchange = Exchange::start(&self.shared, &request);
        request.extensions_mut().insert(LateFaults(Arc::clone(&self.shared)));
        let (context, span) = (Arc::clone(&exchange.context), exchange.span.clone());
        let work = context::scope(context, self.inner.call(request)).with_context(span);
        async move {
            // Dropped before `respond` = the client is gone.
            let exchange = exchange;
            let response = work.await?;
            Ok(exchange.respond(response))
        }
    }
}
