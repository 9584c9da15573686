//! The deadline of a request, and its shelter: the work runs in a task of its own, so that a client
//! that hangs up can't cut it in the middle of a transaction (trap 1), and a panic ends only it.
//! Before the database is known to be safe, nothing of the API is answered at all.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use opentelemetry::trace::FutureExt as _;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::late::{LateFaults, Parcel};
use crate::{
    labels,
    platform::{
        error::{Error, Kind},
        lifecycle::Health,
        telemetry::{
            context,
            metrics::{Counter, Registry},
        },
    },
};

/// Where the work of requests runs; shutdown waits for it. Cheap to clone.
#[derive(Clone)]
pub struct Shelter {
    limit: Duration,
    tasks: TaskTracker,
    shed: Counter<Shed>,
}

labels! {
    pub struct Shed { reason: &'static str = "_OTHER" }
}

/// When the request must be answered; extractors that wait for the client mind it.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);

impl Shelter {
    pub fn new(limit: Duration, registry: &Registry) -> Self {
        let shed: Counter<Shed> =
            registry.counter("http_server_requests_shed_total", "Requests refused unread, by reason.", 8);
        shed.with(&Shed { reason: "not_ready" });
        Self { limit, tasks: TaskTracker::new(), shed }
    }

    /// Waits until all work has ended, that of clients who left included.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Runs the rest of the stack in a task, for at most the deadline.
pub async fn deadline(State(shelter): State<Shelter>, mut request: Request, next: Next) -> Response {
    let deadline = Instant::now() + shelter.limit;
    request.extensions_mut().insert(Deadline(deadline));
    let (mut parcel, _waiting) = Parcel::new(request.extensions().get::<LateFaults>().cloned());
    let work = next.run(request);
    let work = async move {
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
        Err(_) => Error::new(Kind::Timeout, "deadline_exceeded", "The request took longer than the service allows.")
            .into_response(),
    }
}

/// Refuses the API until the start is over: with an unsafe role every answer could be another tenant's.
pub async fn started(State((health, shelter)): State<(Health, Shelter)>, request: Request, next: Next) -> Response {
    if health.started() || !request.uri().path().starts_with("/v1/") {
        return next.run(request).await;
    }
    shelter.shed.with(&Shed { reason: "not_ready" }).inc();
    Error::unavailable("not_ready", "The service is starting. Try again shortly.").into_response()
}
