//! Row 3: clients that leave at random moments leave nothing behind: no open transaction, and no connection in a state
//! that the next request inherits. Whether it inherits another tenant is in `one_connection`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};
use uuid::Uuid;

use super::{Row, fleet::random, mix::Mix};
use crate::support::{
    TestApp,
    client::Tenant,
    eventually,
    harness::{
        exchange::{self, Leave, hang_up},
        get, post,
    },
    services,
    things::{self, make, thing},
};

/// Longer than most requests take: some clients leave before the work, some in it, some after it.
const STAY: Duration = Duration::from_millis(30);

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hang_up_leave_no_transaction_open() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn ten_thousand_hangups_leave_no_transaction_open() {
    run(true).await;
}

async fn run(full: bool) {
    let hangups: u64 = if full { 10_000 } else { 500 };
    let app = TestApp::with_things(&[("APP__FAULTS__ENABLED", "true")]).await;
    let acme = app.tenant("acme").await;
    let paths = own_things(&app, &acme, "oak").await;
    let with_key = |make: fn(&str) -> Vec<u8>| {
        let key = acme.key.clone();
        move |_| make(&key)
    };
    let key = acme.key.clone();
    let mix = Mix::default()
        .with(1, "list", 200, with_key(|key| get(&format!("{}?limit=50", things::PATH), key, "keel")))
        .with(1, "tenant", 200, with_key(|key| get("/v1/tenant", key, "keel")))
        .with(1, "thing", 201, with_key(|key| post(things::PATH, key, &thing(&unique()).to_string(), &[])))
        .with(1, "patch", 200, move |number| patch(&key, &paths[number as usize % paths.len()], number))
        .with(1, "once", 201, with_key(once))
        .with(2, "order", 201, crate::shop::chaos::orders(app.running.public, &acme.key).await)
        .with(1, "lock", 200, with_key(|key| post("/v1/faults/lock?ms=3", key, "", &[])))
        .with(1, "slow", 200, with_key(|key| post("/v1/faults/slow-query?ms=10", key, "", &[])));
    let mix = Arc::new(mix);
    let request = move |number: u64| mix.request(number);
    let started = Instant::now();
    let left = leave(&app, 8, request, hangups).await;
    let ended = Instant::now();
    // More than the pool has: each of its connections is used. What the clients have left is finished before.
    let asked = app.config.database.max_connections * 2;
    eventually("answers to all", || {
        let answers = join_all((0..asked).map(|_| app.get("/v1/tenant", &acme.key)));
        async { answers.await.iter().all(|answer| answer.status == 200).then_some(()) }
    })
    .await;
    let recovery = ended.elapsed();
    // Others do not see in which state the sessions of a role are.
    let mut superuser = services::admin().await;
    // A transaction that the last of them left open is more than a second old in the last of these looks, and the
    // server has not ended it yet.
    let mut open = 0_i64;
    loop {
        open = open.max(sqlx::query_scalar(OPEN).bind(&app.database).fetch_one(&mut superuser).await.unwrap());
        if ended.elapsed() > Duration::from_secs(3) {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let poisoned = app.metric("db_client_operation_duration_seconds_count", &["error_type=\"25P02\""]).await as u64;
    Row {
        number: "3",
        fault: format!("{left} clients hang up at random moments, by FIN and by RST, in {:.0?}", ended - started),
        expected: "0 sessions idle in transaction for more than 1 s, 0 × 25P02, the pool answers".to_owned(),
        seen: format!("{open} idle in transaction, {poisoned} × 25P02, {asked} requests at once answered after it"),
        recovery: format!("{recovery:.0?}"),
        held: left == hangups && open == 0 && poisoned == 0,
    }
    .record(true);
    app.stop().await;
}

const OPEN: &str = "select count(*) from pg_stat_activity
    where datname = $1 and state like 'idle in transaction%' and state_change < now() - interval '1 second'";

/// Sends so many requests and leaves each one at a random moment; how many were sent.
pub async fn leave(
    app: &TestApp,
    clients: usize,
    request: impl Fn(u64) -> Vec<u8> + Clone + Send + 'static,
    count: u64,
) -> u64 {
    let (address, numbers) = (app.running.public, Arc::new(AtomicU64::new(0)));
    let mut leaving = JoinSet::new();
    for _ in 0..clients {
        let (request, numbers) = (request.clone(), Arc::clone(&numbers));
        leaving.spawn(async move {
            let mut left = 0;
            loop {
                let number = numbers.fetch_add(1, SeqCst);
                if number >= count {
                    return left;
                }
                let how = if number % 3 == 0 { Leave::Fin } else { Leave::Rst };
                // The server may have closed first: an answer that said so.
                if hang_up(address, &request(number), random(STAY), how).await.is_ok() {
                    left += 1;
                }
            }
        });
    }
    leaving.join_all().await.into_iter().sum()
}

/// The paths of five things whose names begin with this.
pub async fn own_things(app: &TestApp, tenant: &Tenant, name: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for number in 0..5 {
        paths.push(make(app, tenant, &format!("{name} {number}")).await.0);
    }
    paths
}

/// Changes a thing.
pub fn patch(key: &str, path: &str, amount: u64) -> Vec<u8> {
    let headers = [("host", "keel"), ("content-type", "application/json")];
    exchange::request("PATCH", path, key, &headers, json!({"amount": amount}).to_string().as_bytes())
}

fn unique() -> String {
    Uuid::now_v7().to_string()
}

/// Makes a thing, the first and only with its idempotency key.
fn once(key: &str) -> Vec<u8> {
    post(things::ONCE, key, &thing(&unique()).to_string(), &[("idempotency-key", &unique())])
}
