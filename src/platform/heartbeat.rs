//! Whether the main runtime still runs what is due. A task of its own stamps the time, again and again; how old
//! the stamp is, is read from the admin thread, which goes on when every worker is stuck.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{lifecycle, telemetry::metrics::Registry};

const BEAT: Duration = Duration::from_millis(250);

/// The stamp. Cheap to clone; the task ends with the last clone.
#[derive(Clone)]
pub struct Heartbeat {
    born: Instant,
    stamp: Arc<AtomicU64>,
}

impl Heartbeat {
    /// Starts to beat. Call it on the runtime that is watched.
    pub fn start(registry: &Registry) -> Self {
        let heartbeat = Self { born: Instant::now(), stamp: Arc::default() };
        let (born, task) = (heartbeat.born, Arc::downgrade(&heartbeat.stamp));
        lifecycle::spawn(async move {
            while let Some(stamp) = task.upgrade() {
                stamp.store(u64::try_from(born.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
                drop(stamp);
                tokio::time::sleep(BEAT).await;
            }
        });
        let read = heartbeat.clone();
        registry.gauge_fn(
            "runtime_heartbeat_lag_seconds",
            "How late the main runtime is with what is due.",
            move || vec![((), read.lag().as_secs_f64())],
        );
        heartbeat
    }

    /// How late the runtime is.
    pub fn lag(&self) -> Duration {
        let age = self.born.elapsed().saturating_sub(Duration::from_millis(self.stamp.load(Relaxed)));
        age.saturating_sub(BEAT)
    }
}

/// Says when the runtime is stuck, and when no longer; for the admin thread, because nothing of the main
/// runtime could say so.
pub async fn watch(health: lifecycle::Health) {
    let mut stuck = false;
    loop {
        tokio::time::sleep(BEAT).await;
        let (lag, is_stuck) = health.stall();
        if is_stuck && !stuck {
            tracing::error!(severity = "critical", lag_ms = lag.as_secs_f64() * 1_000.0, "runtime_stalled");
        } else if stuck && !is_stuck {
            tracing::warn!("runtime_recovered");
        }
        stuck = is_stuck;
    }
}
