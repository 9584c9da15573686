//! Row 5: Redis gone, silent, slow, emptied, full of nonsense, out of memory, a replica, loading. It holds copies:
//! no request may fail or be answered wrongly for it.

mod answers;
mod limit;
mod server;
mod socket;
mod values;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use redis::IntoConnectionInfo as _;

use super::Row;
use crate::support::{
    TestApp,
    app::Different,
    client::Tenant,
    eventually,
    harness::{Load, Report, Target, Until, get, load::Running},
    things,
};

/// Requests a second: few, so that only the fault makes them slow.
const RATE: f64 = 100.0;

/// An application with one thing, which is read through the cache.
struct World {
    app: TestApp,
    tenant: Tenant,
    path: String,
    wrong: Arc<AtomicU64>,
}

/// Where a Redis URL leads.
async fn address(url: &str) -> SocketAddr {
    let info = url.into_connection_info().unwrap();
    let redis::ConnectionAddr::Tcp(host, port) = info.addr() else { panic!("not TCP") };
    tokio::net::lookup_host((host.as_str(), *port)).await.unwrap().find(SocketAddr::is_ipv4).unwrap()
}

/// `url` with another host and port.
fn through(url: &str, address: SocketAddr) -> String {
    let (user, rest) = url.rsplit_once('@').unwrap_or(("redis:/", url.trim_start_matches("redis://")));
    let database = rest.split_once('/').map_or("", |(_, database)| database);
    format!("{user}{}{address}/{database}", if user.contains("://") { "@" } else { "/" })
}

impl World {
    async fn start(redis_url: &str, full: bool) -> Self {
        Self::with(redis_url, full, &[]).await
    }

    async fn with(redis_url: &str, full: bool, more: &[(&str, &str)]) -> Self {
        let mut settings = BTreeMap::from([
            ("REDIS_URL".to_owned(), redis_url.to_owned()),
            // As in production; the suite has others.
            ("APP__REDIS__OPERATION_TIMEOUT".to_owned(), "50ms".to_owned()),
            ("APP__LIFECYCLE__CHECK_INTERVAL".to_owned(), "1s".to_owned()),
        ]);
        if !full {
            // Among other tests it may wait for a connection to Postgres without any fault.
            settings.insert("APP__DATABASE__ACQUIRE_TIMEOUT".to_owned(), "4s".to_owned());
        }
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let app = TestApp::unready(Different { settings, things: Some(things::FRESH), ..Default::default() }).await;
        app.ready().await;
        let tenant = app.tenant("acme").await;
        let (path, _) = things::make(&app, &tenant, "oak").await;
        Self { app, tenant, path, wrong: Arc::default() }
    }

    /// Reads of the thing; an answer with another body is counted as wrong.
    async fn load(&self) -> Running {
        let expected = self.app.get(&self.path, &self.tenant.key).await;
        expected.ok(200);
        let wrong = Arc::clone(&self.wrong);
        let target = Target::new(self.app.running.public, get(&self.path, &self.tenant.key, "localhost"));
        let load = Load::new(target).connections(16).rate(RATE).inspect(move |seen| {
            let is_wrong = seen.body != expected.text.as_bytes();
            wrong.fetch_add(u64::from(is_wrong), Relaxed);
        });
        load.start(Until::Cancelled(tokio_util::sync::CancellationToken::new()))
    }

    /// Waits until Redis is in use again.
    async fn in_use(&self, since: Instant) -> Duration {
        let hits = || self.app.metric("cache_requests_total", &["outcome=\"hit\""]);
        let before = hits().await;
        eventually("Redis in use again", || async {
            let ready = self.app.admin.get("/health/ready", "").await.json()["status"] == "ready";
            (ready && hits().await > before).then(|| since.elapsed())
        })
        .await
    }

    async fn stop(self) {
        self.app.stop().await;
    }
}

/// When a fault began and ended, and how long after its end Redis was in use again.
struct Course {
    began: Instant,
    ended: Instant,
    back: Duration,
}

impl World {
    /// What became of the requests of `load`, which is at an end with this.
    async fn row(&self, number: &'static str, fault: &str, full: bool, calm: Instant, load: Running, course: Course) {
        let report: Report = load.stop().await;
        let Course { began, ended, back } = course;
        let p99 = |from: Instant, to: Instant| report.p_within(from, to, 0.99, |_| true).unwrap_or_default();
        let base = p99(calm, began);
        let second = began + Duration::from_secs(1);
        let (first, then) = (p99(began, second), p99(second + Duration::from_millis(100), ended.max(second)));
        let wrong = self.wrong.swap(0, Relaxed);
        let answered = report.failed() == 0
            && report.ok() == report.total()
            && wrong == 0
            && (report.unsent * 100 <= report.total() || !full);
        let most_back = Duration::from_secs(if full { 3 } else { 10 });
        let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
        let more = |p99: Duration| millis(p99) - millis(base);
        let row = Row {
            number,
            fault: fault.to_owned(),
            expected: "0 failures; p99 + ≤ 60 ms in the first second, then + ≤ 1 ms; back ≤ 3 s".to_owned(),
            seen: format!(
                "{} of {} × 2xx {:?} {:?}, {wrong} wrong; p99 {:.1} ms, {:+.1} ms, then {:+.1} ms",
                report.ok(),
                report.total(),
                report.answers,
                report.failures,
                millis(base),
                more(first),
                more(then)
            ),
            recovery: format!("{:.2} s", back.as_secs_f64()),
            held: answered && back <= most_back && more(first) <= 60.0 && more(then) <= 1.0,
        };
        assert!(answered && back <= most_back, "{row:?}");
        // The times are the machine's too.
        row.record(false);
    }
}

/// How long it is calm before a fault, and how long that lasts.
fn times(full: bool) -> (Duration, Duration) {
    let seconds = if full { (5, 10) } else { (1, 2) };
    (Duration::from_secs(seconds.0), Duration::from_secs(seconds.1))
}
