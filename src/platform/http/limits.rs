//! The deadline of a request, and its shelter: the work runs in a task of its own, so that a client
//! that hangs up can't cut it in the middle of a transaction (trap 1), and a panic ends only it.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use opentelemetry::trace::FutureExt as _;

use crate::platform::{
    error::{Error, Kind},
    telemetry::context,
};

/// Runs the rest of the stack in a task, for at most the deadline.
pub async fn deadline(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let work = next.run(request).with_current_context();
    let task = match context::current() {
        Some(request) => spawn(context::scope(request, work)),
        None => spawn(work),
    };
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(response)) => response,
        Ok(Err(stopped)) => {
            // The panic hook has logged it, where it happened.
            Error::new(Kind::Internal, "panic", "The service failed to handle the request.")
                .caused_by(stopped)
                .into_response()
        }
        // The task goes on to its own, shorter limits: cutting it here would leave the transaction open.
        Err(_) => Error::new(Kind::Timeout, "deadline_exceeded", "The request took longer than the service allows.")
            .into_response(),
    }
}

#[expect(clippy::disallowed_methods, reason = "the task takes the trace and the request with it")]
fn spawn(work: impl Future<Output = Response> + Send + 'static) -> tokio::task::JoinHandle<Response> {
    tokio::spawn(work)
}
