//! Metrics of statements and of the pool.

use std::time::Duration;

use super::pool::Pool;
use crate::{
    labels,
    platform::telemetry::metrics::{Counter, DB_SECONDS, Gauge, Histogram, Registry, TracedHistogram},
};

labels! {
    /// A kind of statement, and why it failed if it did.
    pub struct Operation {
        db_system_name: &'static str = "_OTHER",
        db_query_summary: &'static str = "_OTHER",
        error_type: &'static str = "_OTHER",
    }
}
labels! {
    pub struct Summary { db_query_summary: &'static str = "_OTHER" }
}
labels! {
    pub struct Retried { outcome: &'static str = "_OTHER" }
}
labels! {
    pub struct State { state: &'static str = "_OTHER" }
}

/// What statements and the wait for a connection cost.
pub struct DbMetrics {
    pub operations: Histogram<Operation>,
    pub slow: Counter<Summary>,
    pub pending: prometheus::Gauge,
    pub timeouts: prometheus::IntCounter,
    pub replaced: prometheus::IntCounter,
    pub retries: Counter<Retried>,
    pub wait: TracedHistogram,
}

impl DbMetrics {
    pub fn new(registry: &Registry, operations: Histogram<Operation>) -> Self {
        let pending: Gauge = registry.gauge(
            "db_client_connection_pending_requests",
            "Requests that wait for a connection of the pool.",
            1,
        );
        let timeouts: Counter = registry.counter(
            "db_client_connection_timeouts_total",
            "Waits for a connection that ended without one.",
            1,
        );
        let wait: Histogram = registry.histogram(
            "db_client_connection_wait_time_seconds",
            "Time to get a connection of the pool.",
            DB_SECONDS,
            1,
        );
        let replaced: Counter = registry.counter(
            "database_pool_replacements_total",
            "Pools left behind because none of their connections was answered while a new one was.",
            1,
        );
        let retries: Counter<Retried> = registry.counter(
            "database_transaction_retries_total",
            "Transactions run again after a serialization failure or a deadlock, by what came of it.",
            4,
        );
        for outcome in ["success", "failure"] {
            retries.with(&Retried { outcome });
        }
        Self {
            operations,
            slow: registry.counter("db_slow_queries_total", "Statements slower than database.slow_query.", 200),
            pending: pending.with(&()),
            timeouts: timeouts.with(&()),
            replaced: replaced.with(&()),
            retries,
            wait: wait.with(&()),
        }
    }

    pub fn waited(&self, took: Duration) {
        self.wait.observe(took.as_secs_f64());
    }
}

/// The one family for both databases: `db_system_name` tells them apart. Declared once, by the
/// composition root, and handed to both.
pub fn operations(registry: &Registry) -> Histogram<Operation> {
    registry.histogram(
        "db_client_operation_duration_seconds",
        "Duration of database client operations.",
        DB_SECONDS,
        400,
    )
}

/// Registers gauges read from the pool at scrape time.
pub(super) fn observe_pool(registry: &Registry, pool: &Pool) {
    let read = pool.clone();
    registry.gauge_fn("db_client_connection_count", "Connections of the runtime pool, by state.", move || {
        let idle = read.idle() as f64;
        let used = (f64::from(read.size()) - idle).max(0.0);
        vec![(State { state: "idle" }, idle), (State { state: "used" }, used)]
    });
    let max = f64::from(pool.max());
    registry
        .gauge_fn("db_client_connection_max", "Most connections the runtime pool may hold.", move || vec![((), max)]);
}
