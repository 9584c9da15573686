//! What the logs and traces can hold: every event with its fields and every kind of span. Printed by
//! `keel catalogue` and into docs/telemetry.md; a test compares it with the code.

use serde::Serialize;

/// One event of the logs, found by its `message`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Event {
    pub name: &'static str,
    /// Besides those every line has.
    pub fields: &'static [&'static str],
    pub meaning: &'static str,
}

/// One kind of span.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Span {
    pub name: &'static str,
    pub kind: &'static str,
    pub meaning: &'static str,
}

pub const fn event(name: &'static str, fields: &'static [&'static str], meaning: &'static str) -> Event {
    Event { name, fields, meaning }
}

pub const fn span(name: &'static str, kind: &'static str, meaning: &'static str) -> Span {
    Span { name, kind, meaning }
}

pub const SPANS: &[Span] = &[
    span("{METHOD} {route}", "server", "A request; `{METHOD}` alone when no route matched. None for probes."),
    span("{operation} {collection}", "client", "A SQL statement, by its summary: `SELECT products`."),
    span("{COMMAND}", "client", "A Redis command: `GET`."),
    span("{METHOD} {template}", "client", "A call to another service: `POST /charges`."),
    span("job {kind}", "consumer", "A run of a job: a trace of its own, linked to the request that queued it."),
];

#[rustfmt::skip]
pub const EVENTS: &[Event] = &[
    event("accept_failed", &["error", "failed"], "Connections could not be taken: out of file descriptors, usually."),
    event("api_key_not_renewed", &["error"], "A key of the previous pepper could not be hashed with the current one; tried again at its next look-up."),
    event("cache_invalidation_failed", &["error", "kind"], "Redis kept a value that is out of date until its time is over."),
    event("cache_value_unreadable", &["kind"], "What Redis had was no value of this version; read from Postgres instead."),
    event("circuit_closed", &["dependency"], "A dependency is called again."),
    event("circuit_opened", &["dependency", "failures"], "A dependency failed too often and is left alone for a while."),
    event("config_warning", &["warning"], "A setting that is allowed and probably not meant."),
    event("connection_ended", &["error"], "A client broke off or talked nonsense (debug)."),
    event("cpu_profile_abandoned", &[], "Whoever asked for a CPU profile hung up."),
    event("cpu_profile_taken", &["samples", "seconds"], "A CPU profile was taken through the admin port."),
    event("database_not_usable", &["code", "detail", "severity"], "The start waits: Postgres is away, unsafe or not migrated."),
    event("database_pool_replaced", &["at_work", "connections"], "No connection of a pool was answered while a new one was: all were left behind for new ones."),
    event("dependency_available", &["code", "dependency"], "A check succeeded again."),
    event("dependency_unavailable", &["code", "dependency", "detail"], "A check of Postgres or Redis failed."),
    event("heap_profile_taken", &["bytes"], "A heap profile was taken through the admin port."),
    event("idempotency_expiry_failed", &["error"], "Old idempotency keys could not be deleted; tried again in a minute."),
    event("idempotency_keys_expired", &["removed"], "Old idempotency keys were deleted."),
    event("job_completed", &["attempt", "duration_ms", "job_id", "outcome"], "A run of a job ended well, or put it off."),
    event("job_failed", &["attempt", "duration_ms", "error", "job_id", "outcome", "sentry_event_id"], "A run failed: a warning while it is tried again, an error when it is given up."),
    event("job_settle_failed", &["error", "job_id"], "What became of a job could not be written down; tried again."),
    event("jobs_backlog_unknown", &["error"], "The backlog could not be counted (debug)."),
    event("jobs_claim_failed", &["error", "queue"], "No jobs could be claimed."),
    event("log_level_changed", &["from", "to", "ttl_seconds"], "Somebody changed what is logged."),
    event("log_level_not_reverted", &["error"], "The configured level could not be restored."),
    event("log_level_reverted", &["to"], "The configured level is back."),
    event("log_suppressed", &["callsite", "event", "suppressed"], "Lines of one place in the code that were held back in the last second."),
    event("migration_waits", &["error"], "Another migration holds the lock."),
    event("panicked", &["backtrace", "location", "panic", "sentry_event_id"], "A panic, where it happened."),
    event("query_budget_exceeded", &["budget", "db_queries", "db_query_summary", "times"], "A request made more statements than its route may: an N+1, usually; the summary names the loop."),
    event("rate_limit_approached", &["limit", "remaining"], "A tenant has used most of its limit."),
    event("redis_connection_replaced", &[], "Redis was silent on its connection; a new one takes its place."),
    event("request_completed", &["cold_start", "db_ms", "db_pool_wait_ms", "db_queries", "duration_ms", "error_code", "outcome", "redis_ms", "redis_ops", "request_bytes", "response_bytes", "status"], "The canonical line: one a request, with what it cost."),
    event("request_failed", &["error", "error_code", "sentry_event_id", "status"], "A 5xx, once, with the chain of causes."),
    event("requests_shed", &["in_flight", "reason", "requests"], "Requests were refused unread in the last second; said once a second, counted always."),
    event("runtime_recovered", &[], "The main runtime runs what is due again."),
    event("runtime_stalled", &["lag_ms", "severity"], "Workers of the main runtime are stuck: not ready, and after `lifecycle.dead_after` not alive."),
    event("secrets_not_rotated", &["error"], "Secrets were written anew and can't be used; those in use stay."),
    event("secrets_rotated", &["keys"], "Secrets were read anew and are in use; which, not what."),
    event("security_event", &["client_ip", "event"], "Something for who watches over security; also counted."),
    event("service_start_failed", &["error", "severity"], "The start is given up."),
    event("service_started", &["database_ms", "listen_ms", "total_ms"], "Traffic is let in; how long each phase took."),
    event("service_starting", &["admin", "public", "workers"], "Both listeners are open."),
    event("shutdown_completed", &["admin_stopped", "connections_cut"], "All is closed; telemetry is flushed next."),
    event("shutdown_drain_overrun", &["connections_cut"], "Requests outlived the drain and were cut."),
    event("shutdown_forced", &["signal"], "A second signal ended the drain."),
    event("shutdown_requested", &["signal"], "A signal asked for the end."),
    event("shutdown_started", &["drain_delay_ms"], "Not ready any more, still serving."),
    event("shutdown_telemetry_incomplete", &["records_lost", "spans_lost", "waited_ms"], "A receiver did not take the rest in time."),
    event("shutdown_work_cut", &[], "Work of clients that left, or jobs, outlived the drain."),
    event("slow_acquire", &["connections", "duration_ms", "idle", "succeeded"], "A long wait for a connection of the pool: the pool is short, not the query slow."),
    event("slow_query", &["db_query_summary", "db_query_text", "duration_ms", "rows"], "A statement over `database.slow_query`, parameters not shown."),
    event("telemetry_export_failed", &["error", "lost", "signal"], "A batch of a signal could not be exported; said once a minute, counted always."),
    event("telemetry_flush_failed", &[], "A flush did not end in time (tests)."),
];
