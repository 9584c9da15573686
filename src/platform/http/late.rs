//! Faults that nobody is there to be told of: the client has left, or got its 504, and the work in its
//! shelter fails later. They are logged, counted and reported like any other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use axum::response::Response;
use opentelemetry::Context;

use super::{
    observe::{Shared, Unhandled},
    problem::Failed,
};
use crate::platform::telemetry::context::{self, RequestContext};

/// Tells of late faults; travels in the extensions of the request.
#[derive(Clone)]
pub(super) struct LateFaults(pub Arc<Shared>);

impl LateFaults {
    fn count(&self, kind: &'static str) {
        self.0.metrics.unhandled.with(&Unhandled { kind }).inc();
    }

    fn tell(&self, status: u16, failed: &Failed) {
        if status == 500 {
            self.count("error");
        }
        let sentry = self.0.telemetry.sentry.as_ref().filter(|_| failed.is_fault);
        let sentry_event_id = sentry.and_then(|sentry| sentry.error(failed.code, &failed.chain));
        let (error_code, error) = (failed.code, failed.chain.as_str());
        tracing::error!(status, error_code, error, sentry_event_id, "request_failed");
    }
}

/// An answer on its way from the shelter to whoever waits for it.
pub(super) struct Parcel {
    pub response: Option<Response>,
    late: Option<LateFaults>,
    request: Option<Arc<RequestContext>>,
    span: Context,
    gone: Arc<AtomicBool>,
}

/// Whoever waits; dropped when it does so no longer.
pub(super) struct Waiting(Arc<AtomicBool>);

impl Parcel {
    pub fn new(late: Option<LateFaults>) -> (Self, Waiting) {
        let gone = Arc::new(AtomicBool::new(false));
        let (request, span) = (context::current(), Context::current());
        (Self { response: None, late, request, span, gone: Arc::clone(&gone) }, Waiting(gone))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let (Some(late), Some(request)) = (&self.late, self.request.take()) else { return };
        match &self.response {
            // Its line and its event come from the hook.
            None if std::thread::panicking() && self.gone.load(Relaxed) => late.count("panic"),
            None => {}
            Some(response) => {
                let Some(failed) = response.extensions().get::<Failed>() else { return };
                let status = response.status().as_u16();
                if status >= 500 {
                    let _inside = self.span.clone().attach();
                    context::enter(request, || late.tell(status, failed));
                }
            }
        }
    }
}
