//! The one layer that observes a request: its metrics and the service around the router. What is
//! known of one request, from its ids to its canonical line, is `exchange`.

use std::{
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::{Context as TaskContext, Poll},
};

use axum::{extract::Request, response::Response};
use opentelemetry::trace::FutureExt as _;
use tower::{Layer, Service};

use super::exchange::Exchange;
use crate::{
    labels,
    platform::telemetry::{
        Telemetry, context,
        metrics::{Counter, Gauge, HTTP_SECONDS, Histogram, Registry, tenants::TenantLabels},
        propagation::TrustTraceContext,
    },
};

labels! {
    pub struct Answered {
        http_request_method: &'static str = "_OTHER",
        http_route: Arc<str> = "_OTHER".into(),
        http_response_status_code: u16 = 0,
        error_type: &'static str = "",
    }
}
labels! {
    /// How much of the API each tenant uses.
    pub struct Used {
        tenant: Arc<str> = "_OTHER".into(),
        http_route: Arc<str> = "_OTHER".into(),
    }
}
labels! {
    pub struct Unhandled { kind: &'static str = "_OTHER" }
}

pub(super) struct HttpMetrics {
    pub duration: Histogram<Answered>,
    pub active: prometheus::Gauge,
    pub unhandled: Counter<Unhandled>,
    pub used: Counter<Used>,
}

/// Observes every request of the router it wraps.
#[derive(Clone)]
pub struct Observe(Arc<Shared>);

pub(super) struct Shared {
    pub metrics: HttpMetrics,
    pub telemetry: Telemetry,
    pub tenants: TenantLabels,
    pub trust: TrustTraceContext,
    /// Until the first request of the process is done.
    pub cold: AtomicBool,
}

impl Observe {
    pub fn new(telemetry: &Telemetry, registry: &Registry, tenants: &TenantLabels, trust: TrustTraceContext) -> Self {
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
        };
        let (telemetry, tenants) = (telemetry.clone(), tenants.clone());
        Self(Arc::new(Shared { metrics, telemetry, tenants, trust, cold: AtomicBool::new(true) }))
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
    S: Service<Request, Response = Response> + Send,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let exchange = Exchange::start(&self.shared, &request);
        let (context, span) = (Arc::clone(&exchange.context), exchange.span.clone());
        let work = context::scope(context, self.inner.call(request)).with_context(span);
        Box::pin(async move {
            // Dropped before `respond` = the client is gone.
            let exchange = exchange;
            let response = work.await?;
            Ok(exchange.respond(response))
        })
    }
}
