//! Panics, wherever they happen: one JSON line each instead of text on standard error, in the context it happened
//! in, a Sentry event, and a count. Told from a thread of their own, because a panic inside the hook would end the
//! process, and what tells may be what is broken.

use std::{
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use opentelemetry::Context;

use super::{context, metrics::Registry, sentry::Sentry};

/// Name of the threads that tell of a panic.
const TELLER: &str = "panic-teller";
/// Longest wait until it is told: what holds it up may hold a lock that the panicking thread has.
const PATIENCE: Duration = Duration::from_secs(1);

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Installs the hook; once.
pub(super) fn install(sentry: Option<Sentry>) {
    std::panic::set_hook(Box::new(move |info| {
        COUNT.fetch_add(1, Relaxed);
        let text = info.payload_as_str().unwrap_or("a payload that is not text").to_owned();
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        if std::thread::current().name() == Some(TELLER) {
            eprintln!("a panic could not be told of: {location}");
            return;
        }
        let backtrace = std::backtrace::Backtrace::capture();
        let frames = sentry.is_some().then(backtrace::Backtrace::new_unresolved);
        let (request, span, sentry) = (context::current(), Context::current(), sentry.clone());
        let (told, done) = mpsc::channel();
        let tell = move || {
            let _inside = span.attach();
            let tell = || {
                let report = sentry.as_ref().zip(frames);
                let sentry_event_id = report.and_then(|(sentry, frames)| sentry.panic(&text, frames));
                tracing::error!(panic = text, location, backtrace = %backtrace, sentry_event_id, "panicked");
            };
            match request {
                Some(request) => context::enter(request, tell),
                None => tell(),
            }
            let _nobody_waits = told.send(());
        };
        apart(tell);
        let _too_late_or_broken = done.recv_timeout(PATIENCE);
    }));
}

/// Runs `tell` on a thread whose own panic harms nobody. Without threads left it is dropped, and nobody waits.
fn apart(tell: impl FnOnce() + Send + 'static) {
    let _counted_all_the_same = std::thread::Builder::new().name(TELLER.to_owned()).spawn(tell);
}

/// Registers `panics_total`.
pub(super) fn register(registry: &Registry) {
    registry.counter_fn("panics_total", "Panics anywhere in the process; each one was survived.", || {
        vec![((), COUNT.load(Relaxed) as f64)]
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_of_a_panic_may_panic_itself() {
        let (told, done) = mpsc::channel::<()>();
        apart(move || {
            let _held = told;
            panic!("the teller is broken");
        });
        // The other end is gone with the thread; this one goes on.
        assert_eq!(done.recv_timeout(Duration::from_secs(30)), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
