//! Whether the machine kept up: a drill among real clocks proves nothing while the processor is somebody else's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const BEAT: Duration = Duration::from_millis(20);
/// The service calls a server silent after 400 ms, and has four more things to do until then than to wake up.
const STOOD_STILL: Duration = Duration::from_millis(150);

/// The longest wait for the processor since it was asked last.
pub struct Machine(Arc<AtomicU64>);

impl Machine {
    /// Looks on until dropped.
    pub fn watch() -> Self {
        let worst = Arc::new(AtomicU64::new(0));
        let seen = Arc::downgrade(&worst);
        std::thread::spawn(move || {
            loop {
                let slept = Instant::now();
                std::thread::sleep(BEAT);
                let late = u64::try_from((slept.elapsed() - BEAT).as_millis()).unwrap_or(u64::MAX);
                let Some(worst) = seen.upgrade() else { return };
                worst.fetch_max(late, Relaxed);
            }
        });
        Self(worst)
    }

    /// How long it stood still, if it did.
    pub fn stood_still(&self) -> Option<Duration> {
        let worst = Duration::from_millis(self.0.swap(0, Relaxed));
        (worst >= STOOD_STILL).then_some(worst)
    }
}
