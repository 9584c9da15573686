//! The deadline of a request, and its shelter: the work runs in a task of its own, so that a client
//! that hangs up can't cut it in the middle of a transaction (trap 1), and a panic ends only it.
//! Before it stands what is refused at the door: addresses without end, no or two hosts, and all of the API before
//! the database is known to be safe.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{Version, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use opentelemetry::trace::FutureExt as _;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    HttpConfig,
    late::{LateFaults, Parcel},
    overload::{Gate, Place},
};
use crate::platform::{
    error::{Error, Kind},
    lifecycle::Health,
    telemetry::context,
};

/// Where the work of requests runs; shutdown waits for it. Cheap to clone.
#[derive(Clone)]
pub struct Shelter {
    limit: Duration,
    body_timeout: Duration,
    body_limit: usize,
    tasks: TaskTracker,
    gate: Gate,
}

/// Longest address, in bytes.
const LONGEST_URI: usize = 8 << 10;

/// What reading the body of a request may cost.
#[derive(Clone)]
pub struct BodyBudget {
    /// By when all of it must be there.
    pub until: Instant,
    /// In bytes.
    pub limit: usize,
    pub gate: Gate,
}

impl Shelter {
    pub fn new(http: &HttpConfig, gate: &Gate) -> Self {
        Self {
            limit: http.request_timeout,
            body_timeout: http.body_timeout,
            body_limit: http.body_limit.0,
            tasks: TaskTracker::new(),
            gate: gate.clone(),
        }
    }

    /// Waits until all work has ended, that of clients who left included.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Runs the rest of the stack in a task, for at most the deadline.
pub async fn deadline(State(shelter): State<Shelter>, mut request: Request, next: Next) -> Response {
    let now = Instant::now();
    let deadline = now + shelter.limit;
    let (until, limit, gate) = (now + shelter.body_timeout, shelter.body_limit, shelter.gate.clone());
    request.extensions_mut().insert(BodyBudget { until, limit, gate });
    // Held by the work, not by who waits for it: a client that leaves makes no room.
    let place = request.extensions_mut().remove::<Arc<Place>>();
    let (mut parcel, _waiting) = Parcel::new(request.extensions().get::<LateFaults>().cloned());
    let work = next.run(request);
    let work = async move {
        let _place = place;
        parcel.response = Some(work.await);
        parcel
    }
    .with_current_context();
    let task = match context::current() {
        Some(request) => shelter.tasks.spawn(context::scope(request, work)),
        None => shelter.tasks.spawn(work),
    };
    match tokio::time::timeout_at(deadline, task).await {
        Ok(Ok(mut parcel)) => parcel.response.take().expect("a task that ends has an answer"),
        // The panic hook has logged it, where it happened. Nobody aborts these tasks.
        Ok(Err(_)) => Error::new(Kind::Internal, "panic", "The service failed to handle the request.").into_response(),
        // The task goes on to its own limits (statement_timeout of the role, this deadline for the body):
        // cutting it here would leave its transaction open.
        Err(_) => Error::deadline_exceeded().into_response(),
    }
}

/// Refuses what nobody should route by, and the API until the start is over: with an unsafe role every answer could
/// be another tenant's.
pub async fn acceptable(State((health, shelter)): State<(Health, Shelter)>, request: Request, next: Next) -> Response {
    let uri = request.uri();
    if uri.path_and_query().is_some_and(|text| text.as_str().len() > LONGEST_URI) {
        return Error::new(Kind::UriTooLong, "uri_too_long", "The address is longer than this service reads.")
            .into_response();
    }
    // RFC 9112 §3.2; hyper leaves it to us. With two hosts, what stands in front may have routed by the other.
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Error::new(Kind::Malformed, "invalid_host", "Send one Host header.").into_response();
    }
    if health.started() || !uri.path().starts_with("/v1/") {
        return next.run(request).await;
    }
    shelter.gate.count("not_ready");
    Error::unavailable("not_ready", "The service is starting. Try again shortly.").into_response()
}
