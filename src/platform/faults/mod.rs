//! Faults on purpose, for demos and drills: `/v1/faults/…`, on a scratch table of their own. They
//! exist only when `faults.enabled`, which production refuses, and are not in the document.

mod jobs;
mod store;

pub use jobs::register as jobs;

use std::time::{Duration, Instant};

use axum::{Router, extract::State, routing::post};
use parking_lot::Mutex;
use reqwest::{Method, Url, header::HeaderMap};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    platform::{
        config::{Environment, Faults},
        db::{Db, TenantTx},
        error::{Error, Kind, Result},
        http::{
            auth::{Caller, Write},
            extract::{Json, Query},
        },
        outbound::{Call, Dependency},
    },
    section,
};

section! {
    /// Fault routes for demos and drills.
    pub struct FaultsConfig in "faults" {
        /// Serves `/v1/faults/…`; production refuses to start with it.
        pub enabled: bool,
    }
}

impl FaultsConfig {
    pub fn check(&self, environment: Environment, faults: &mut Faults) {
        if self.enabled && environment == Environment::Production {
            faults.add("faults.enabled: fault routes may not exist in production");
        }
    }
}

/// A fault is for a drill, not for an outage of its own: 30 s, 200 queries, 256 MiB are the most.
const MOST_TIME: Duration = Duration::from_secs(30);
const MOST_QUERIES: u32 = 200;
const MOST_JOBS: u32 = 1_000;
const MOST_MEMORY_MIB: usize = 256;
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

static LEAKED: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct For {
    #[serde(default = "one_second")]
    ms: u64,
}

fn one_second() -> u64 {
    1_000
}

impl For {
    fn duration(&self) -> Duration {
        Duration::from_millis(self.ms).min(MOST_TIME)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Amount {
    n: Option<u32>,
    mib: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Queued {
    n: Option<u32>,
    #[serde(default)]
    fail: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    port: u16,
}

/// `dependency` is who `call` says that it calls.
pub fn router(db: Db, dependency: Dependency) -> Router {
    Router::new()
        .route("/v1/faults/error", post(error))
        .route("/v1/faults/panic", post(panic))
        .route("/v1/faults/sleep", post(sleep))
        .route("/v1/faults/slow-query", post(slow_query))
        .route("/v1/faults/n-plus-one", post(n_plus_one))
        .route("/v1/faults/cpu", post(cpu))
        .route("/v1/faults/lock", post(lock))
        .route("/v1/faults/leak", post(leak))
        .route("/v1/faults/jobs", post(queue))
        .route("/v1/faults/call", post(call).with_state(dependency))
        .with_state(db)
}

async fn error(_: Caller<Write>) -> Result<Json<Value>> {
    Err(Error::new(Kind::Internal, "fault_injected", "The service failed to handle the request.")
        .caused_by("a fault was asked for"))
}

async fn panic(_: Caller<Write>) -> Result<Json<Value>> {
    panic!("a fault was asked for")
}

async fn sleep(_: Caller<Write>, Query(wait): Query<For>) -> Json<Value> {
    tokio::time::sleep(wait.duration()).await;
    Json(json!({"slept_ms": wait.duration().as_millis()}))
}

async fn slow_query(State(db): State<Db>, caller: Caller<Write>, Query(wait): Query<For>) -> Result<Json<Value>> {
    let mut tx = TenantTx::begin(&db, caller.tenant).await?;
    store::sleep(&mut tx, wait.duration()).await?;
    tx.commit().await?;
    Ok(Json(json!({"slept_ms": wait.duration().as_millis()})))
}

async fn n_plus_one(State(db): State<Db>, caller: Caller<Write>, Query(amount): Query<Amount>) -> Result<Json<Value>> {
    let rows = amount.n.unwrap_or(50).min(MOST_QUERIES);
    let mut tx = TenantTx::begin(&db, caller.tenant).await?;
    for id in 1..=rows {
        store::find(&mut tx, id.cast_signed()).await?;
    }
    tx.commit().await?;
    Ok(Json(json!({"queries": rows})))
}

/// Keeps one worker of the runtime busy without yielding.
async fn cpu(_: Caller<Write>, Query(wait): Query<For>) -> Json<Value> {
    let until = Instant::now() + wait.duration();
    let mut rounds = 0_u64;
    while Instant::now() < until {
        rounds = std::hint::black_box(rounds.wrapping_add(1));
    }
    Json(json!({"rounds": rounds}))
}

async fn lock(State(db): State<Db>, caller: Caller<Write>, Query(wait): Query<For>) -> Result<Json<Value>> {
    let mut tx = TenantTx::begin(&db, caller.tenant).await?;
    store::lock(&mut tx).await?;
    tokio::time::sleep(wait.duration()).await;
    tx.commit().await?;
    Ok(Json(json!({"held_ms": wait.duration().as_millis()})))
}

/// Queues `n` jobs that do nothing, or with `fail=true` one that never succeeds.
async fn queue(State(db): State<Db>, caller: Caller<Write>, Query(wanted): Query<Queued>) -> Result<Json<Value>> {
    let n = if wanted.fail { 1 } else { wanted.n.unwrap_or(1).min(MOST_JOBS) };
    let mut tx = TenantTx::begin(&db, caller.tenant).await?;
    for _ in 0..n {
        jobs::enqueue(&mut tx, wanted.fail).await?;
    }
    tx.commit().await?;
    Ok(Json(json!({"queued": n})))
}

/// Calls whoever listens at a port of this machine, as a domain calls a service it depends on. Its failure is not
/// this request's: what came of the call is the answer.
async fn call(State(dependency): State<Dependency>, _: Caller<Write>, Query(at): Query<At>) -> Result<Json<Value>> {
    let url = Url::parse(&format!("http://127.0.0.1:{}/", at.port)).map_err(Error::internal)?;
    let call = Call {
        method: Method::GET,
        url,
        template: "/",
        headers: HeaderMap::new(),
        body: None,
        timeout: CALL_TIMEOUT,
        idempotent: false,
    };
    Ok(Json(match dependency.call(&call).await {
        Ok(answer) => json!({"status": answer.status}),
        Err(failure) => json!({"failure": failure.to_string()}),
    }))
}

async fn leak(_: Caller<Write>, Query(amount): Query<Amount>) -> Json<Value> {
    let mut leaked = LEAKED.lock();
    let held: usize = leaked.iter().map(Vec::len).sum::<usize>() >> 20;
    let more = amount.mib.unwrap_or(16).min(MOST_MEMORY_MIB.saturating_sub(held));
    // Written to, or the kernel would not give the pages.
    leaked.push(vec![1; more << 20]);
    Json(json!({"leaked_mib": held + more}))
}
