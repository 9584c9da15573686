//! `GET /debug/requests`: what is under way now, oldest first. The first look when nothing answers.

use std::time::Duration;

use serde::Serialize;

use crate::platform::{http::extract::Json, telemetry::context};

/// Rows of one answer; the number of all is in it.
const MOST: usize = 200;

#[derive(Serialize)]
pub struct UnderWay {
    total: usize,
    requests: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    age_ms: u64,
    request_id: String,
    correlation_id: String,
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'static str>,
    method: &'static str,
    route: String,
    path: String,
    tenant_id: Option<String>,
    principal_id: Option<String>,
    db_queries: u64,
    db_ms: f64,
    db_pool_wait_ms: f64,
    redis_ops: u64,
    redis_ms: f64,
}

pub async fn show() -> Json<UnderWay> {
    let mut live = context::live();
    live.sort_by_key(|request| request.started);
    let total = live.len();
    let rows = live.into_iter().take(MOST).map(|request| {
        let (cost, caller) = (&request.cost, request.caller());
        Row {
            age_ms: millis(request.started.elapsed()),
            request_id: request.request_id.clone(),
            correlation_id: request.correlation_id.clone(),
            trace_id: request.span.is_valid().then(|| request.span.trace_id().to_string()),
            job: request.job,
            method: request.method,
            route: request.route.to_string(),
            path: request.path.clone(),
            tenant_id: caller.map(|(tenant, _)| tenant.to_string()),
            principal_id: caller.map(|(_, principal)| principal.as_str().to_owned()),
            db_queries: cost.db_queries(),
            db_ms: cost.db_ms(),
            db_pool_wait_ms: cost.db_pool_wait_ms(),
            redis_ops: cost.redis_ops(),
            redis_ms: cost.redis_ms(),
        }
    });
    Json(UnderWay { total, requests: rows.collect() })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
