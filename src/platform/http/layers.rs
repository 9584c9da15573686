//! THE list of layers of the public port, outermost first, with the reason for each place.
//!
//! 0. `base_path` — the path below which all is served is no part of any route.
//! 1. `NormalizePath` — a trailing slash is no other resource; must see the path before routing does.
//! 2. `Observe` — outside everything that can answer, so that every answer is counted; inside the
//!    router, because only there the route template is known. It asks the gate of `overload` first: what
//!    is refused there costs no span and no line.
//! 3. CORS — answers preflights itself; they are observed but need no caller.
//! 4. Compression — outside the deadline: it works while the body is sent.
//! 5. `acceptable` — no address without end, one host, and nothing of the API before the database is known to be safe.
//! 6. `deadline` — the task, the time limit and the panic boundary of the request.
//! 7. Body limit, directory of API keys, limits of tenants — what extractors find.

use std::{convert::Infallible, future::ready, sync::Arc};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderName, HeaderValue, Method},
    middleware,
    response::Response,
};
use tower::{Layer as _, Service, ServiceExt as _};
use tower_http::{
    compression::CompressionLayer,
    cors::{AllowOrigin, CorsLayer},
    normalize_path::NormalizePathLayer,
};

use super::{
    HttpConfig,
    auth::Admission,
    base_path,
    limits::{self, Shelter},
    observe::Observe,
};
use crate::platform::{
    error::{Error, Kind},
    lifecycle::Health,
};

/// What a listener serves.
pub trait Served:
    Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}
impl<S> Served for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// Wraps the routes of the public port.
pub fn apply(
    routes: Router,
    config: &HttpConfig,
    observe: Observe,
    admission: Admission,
    health: Health,
    shelter: Shelter,
) -> impl Served {
    let mut router = routes
        .fallback(async || Error::not_found("route_not_found", "There is no such route."))
        .method_not_allowed_fallback(async || {
            Error::new(Kind::MethodNotAllowed, "method_not_allowed", "This route does not take that method.")
        })
        .layer(Extension(admission))
        .layer(DefaultBodyLimit::max(config.body_limit.0))
        .layer(middleware::from_fn_with_state(shelter.clone(), limits::deadline))
        .layer(middleware::from_fn_with_state((health, shelter), limits::acceptable))
        .layer(CompressionLayer::new());
    if !config.cors_origins.is_empty() {
        router = router.layer(cors(&config.cors_origins));
    }
    let base: Arc<str> = config.base_path.as_str().into();
    if !base.is_empty() {
        let base = Arc::clone(&base);
        router = router.layer(middleware::map_response(move |response| ready(base_path::locate(response, &base))));
    }
    let normal = NormalizePathLayer::trim_trailing_slash().layer(router.layer(observe));
    normal.map_request(move |request| base_path::strip(request, &base))
}

/// What a browser may send and see besides the plain headers.
const ALLOWED: [&str; 8] = [
    "authorization",
    "content-type",
    "idempotency-key",
    "x-request-id",
    "x-correlation-id",
    "traceparent",
    "tracestate",
    "baggage",
];
const EXPOSED: [&str; 11] = [
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-request-id",
    "x-correlation-id",
    "x-trace-id",
    "location",
    "retry-after",
    "idempotent-replayed",
    "x-sentry-event-id",
    "server-timing",
];

fn cors(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(ALLOWED.map(HeaderName::from_static))
        .expose_headers(EXPOSED.map(HeaderName::from_static))
}
