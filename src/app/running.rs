//! A serving application: how it becomes ready, what ends it, and its drain.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::platform::{http::server, lifecycle};

/// What jobs and left work get at least, when requests have used up the drain.
const LAST_WORK: Duration = Duration::from_secs(1);

pub(super) async fn become_ready(
    app: Arc<App>,
    booted: Instant,
    failed: Arc<Failed>,
    stop: CancellationToken,
    claims: CancellationToken,
) {
    let started = Instant::now();
    let waited = tokio::select! {
        waited = lifecycle::wait_for_database(&app.db, &app.health, app.config.database.startup_timeout) => waited,
        () = stop.cancelled() => return,
    };
    if let Err(why) = waited {
        tracing::error!(severity = "critical", error = why, "service_start_failed");
        failed.because(why);
        return;
    }
    if app.config.jobs.enabled {
        app.worker.start(&claims);
        lifecycle::spawn(Arc::clone(&app).maintain(stop.clone()));
    }
    app.boot.record("database", started.elapsed());
    app.boot.record("total", booted.elapsed());
    tracing::info!(
        listen_ms = app.boot.millis("listen"),
        database_ms = app.boot.millis("database"),
        total_ms = app.boot.millis("total"),
        "service_started"
    );
}

/// Why the service can't go on, once it can't.
#[derive(Default)]
pub(super) struct Failed {
    why: Mutex<Option<String>>,
    token: CancellationToken,
}

impl Failed {
    fn because(&self, why: String) {
        *self.why.lock() = Some(why);
        self.token.cancel();
    }
}

/// A serving application.
pub struct Running {
    pub app: Arc<App>,
    pub public: SocketAddr,
    /// None when it is off.
    pub admin: Option<SocketAddr>,
    pub(super) stop: server::Stop,
    pub(super) admin_stop: server::Stop,
    pub(super) serving: JoinHandle<usize>,
    pub(super) admin_thread: Option<std::thread::JoinHandle<()>>,
    pub(super) checks: CancellationToken,
    /// Ends the claiming of jobs.
    pub(super) claims: CancellationToken,
    pub(super) failed: Arc<Failed>,
}

impl Running {
    /// Ends when the service can't go on, and says why.
    pub async fn failed(&self) -> String {
        self.failed.token.cancelled().await;
        self.failed.why.lock().clone().unwrap_or_default()
    }

    /// Not ready → drain delay → stop accepting → finish in flight → close. Returns whether all of
    /// it fit the deadline. Telemetry is flushed by the caller, last.
    pub async fn shutdown(mut self) -> bool {
        let config = &self.app.config.lifecycle;
        tracing::info!(drain_delay_ms = config.drain_delay.as_millis() as u64, "shutdown_started");
        self.app.health.drain();
        // Answers say so from now on, and clients that keep connections go elsewhere by themselves.
        self.stop.lame.cancel();
        tokio::time::sleep(config.drain_delay).await;
        let deadline = Instant::now() + config.drain_timeout;
        self.claims.cancel();
        self.stop.drain.cancel();
        let drained = tokio::time::timeout(config.drain_timeout, &mut self.serving).await;
        let mut cut = 0;
        if drained.is_err() {
            self.stop.kill.cancel();
            cut = (&mut self.serving).await.unwrap_or_default();
            tracing::warn!(connections_cut = cut, "shutdown_drain_overrun");
        }
        self.checks.cancel();
        // Work of clients that left, and jobs that run: they share what is left of the deadline. Workers
        // claim no more, and a job that is cut runs again elsewhere.
        let left = deadline.saturating_duration_since(Instant::now()).max(LAST_WORK);
        let work = async { tokio::join!(self.app.shelter.drained(), self.app.worker.drain()) };
        let finished = tokio::time::timeout(left, work).await.is_ok();
        if !finished {
            tracing::warn!("shutdown_work_cut");
        }
        // What still holds a connection now is past every deadline.
        let _closed_or_not = tokio::time::timeout(Duration::from_secs(1), self.app.db.close()).await;
        self.admin_stop.drain.cancel();
        self.admin_stop.kill.cancel();
        let admin = self.admin_thread;
        // A profile that is being drawn may take its time; the exit does not wait for it.
        let joined = tokio::task::spawn_blocking(move || admin.is_none_or(|admin| admin.join().is_ok()));
        let joined = tokio::time::timeout(LAST_WORK, joined).await.is_ok_and(|joined| joined.unwrap_or(false));
        tracing::info!(connections_cut = cut, admin_stopped = joined, "shutdown_completed");
        drained.is_ok() && finished
    }
}
