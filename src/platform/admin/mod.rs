//! The second listener: health, metrics, version, log level, requests under way, profiles. Never public. It runs on a thread and runtime of
//! its own, so that it answers while the main runtime is busy or stuck.

mod debug;
mod level;
mod requests;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use parking_lot::RwLock;
use serde_json::json;
use tokio::net::TcpListener;
use tower_http::compression::CompressionLayer;

use super::{
    config::Secret,
    error::Error,
    heartbeat,
    http::{extract::Json, server},
    lifecycle::Health,
    telemetry::{
        build,
        logs::level::LogLevel,
        metrics::{Registry, openmetrics},
    },
};
use crate::section;

section! {
    /// The admin listener.
    pub struct AdminConfig in "admin" {
        /// Serves it; without it there are no metrics, and no probes but the two of the public port.
        pub enabled: bool,
        /// Address to listen on; port 0 takes a free one. Keep it off public networks.
        pub bind: SocketAddr,
        /// Bearer token for what changes state; without one nothing can be changed.
        pub token: Option<Secret>,
        /// Serves `/debug/pprof/…`, profiles of the live process (cargo features `cpu-profile`, `heap-profile`).
        pub profiling: bool,
    }
}

/// Few callers: probes, one or two scrapers, a person.
const MAX_CONNECTIONS: usize = 64;

/// The token for what changes state; clones change together. Cheap to clone.
#[derive(Clone)]
pub struct Token(Arc<RwLock<Option<Secret>>>);

impl Token {
    pub fn new(token: Option<Secret>) -> Self {
        Self(Arc::new(RwLock::new(token)))
    }

    /// Another one from now on.
    pub fn set(&self, token: Option<Secret>) {
        *self.0.write() = token;
    }

    fn get(&self) -> Option<Secret> {
        self.0.read().clone()
    }
}

fn router(health: Health, registry: Registry, level: LogLevel, token: Token, profiling: bool) -> Router {
    let schema = super::db::migrations::MIGRATOR.iter().map(|migration| migration.version).max();
    let version = json!({
        "version": build::VERSION,
        "git_sha": build::GIT_SHA,
        "schema_version": schema,
        "features": build::features(),
    });
    health_routes(health)
        .route("/metrics", get(async move |headers: HeaderMap| scrape(&registry, &headers)))
        .route("/version", get(async move || Json(version)))
        .route("/debug/requests", get(requests::show))
        .merge(if profiling { debug::router() } else { Router::new() })
        .merge(level::router(level, token))
        .layer(CompressionLayer::new())
        .fallback(async || Error::not_found("route_not_found", "There is no such route."))
}

/// OpenMetrics with exemplars for who asks for it, plain text for everybody else.
fn scrape(registry: &Registry, headers: &HeaderMap) -> impl IntoResponse + use<> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if openmetrics::is_preferred(accept) {
        ([(header::CONTENT_TYPE, openmetrics::CONTENT_TYPE)], registry.openmetrics())
    } else {
        ([(header::CONTENT_TYPE, openmetrics::TEXT_CONTENT_TYPE)], registry.text())
    }
}

fn health_routes(health: Health) -> Router {
    let (alive, ready, startup) = (health.clone(), health.clone(), health);
    Router::new()
        .route(
            "/health/live",
            get(async move || {
                let (status, text) = if alive.alive() {
                    (StatusCode::OK, "alive")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "stalled")
                };
                (status, Json(json!({"status": text})))
            }),
        )
        .route(
            "/health/ready",
            get(async move || {
                let readiness = ready.readiness();
                let status = if readiness.takes_traffic() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (status, Json(readiness))
            }),
        )
        .route(
            "/health/startup",
            get(async move || {
                let (status, text) = if startup.started() {
                    (StatusCode::OK, "started")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "starting")
                };
                (status, Json(json!({"status": text})))
            }),
        )
}

/// The two probes that the public port answers too: status only.
pub fn public_probes(health: Health) -> Router {
    Router::new().route("/health/live", get(async || Json(json!({"status": "alive"})))).route(
        "/health/ready",
        get(async move || {
            let readiness = health.readiness();
            let status = if readiness.takes_traffic() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, Json(json!({"status": readiness.status}))).into_response()
        }),
    )
}

/// Serves on a thread of its own until `stop`; join the handle to wait for the end.
///
/// # Errors
/// When the thread or its runtime can't be started.
pub fn spawn(
    listener: std::net::TcpListener,
    health: Health,
    registry: Registry,
    level: LogLevel,
    token: Token,
    profiling: bool,
    stop: server::Stop,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a bound, non-blocking socket");
            let limits = server::Limits { max_connections: MAX_CONNECTIONS, ..server::Limits::default() };
            let watch = heartbeat::watch(health.clone());
            tokio::select! {
                // First the server: its end is what counts.
                biased;
                _cut = server::run(listener, router(health, registry, level, token, profiling), limits, stop) => {}
                () = watch => {}
            }
        });
    })
}
