//! Row 1: instances behind a balancer are replaced one after the other, and no client notices.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::{
    Row,
    fleet::{Fleet, Instance, SOON},
    mix::Mix,
};
use crate::support::harness::{Balancer, Load, Outcome, Report, Target, Until, get, load, post};

/// Requests by route and outcome.
type Tally = Arc<Mutex<BTreeMap<String, u64>>>;

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_instances_are_replaced() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn no_request_of_100_000_fails_over_20_restarts() {
    run(true).await;
}

async fn run(full: bool) {
    let (restarts, requests, rate) = if full { (20, 100_000, 450.0) } else { (3, 600, 80.0) };
    // Ten of the balancer's checks.
    let fleet = Fleet::new(full, &[("APP__FAULTS__ENABLED", "true"), ("APP__LIFECYCLE__DRAIN_DELAY", "500ms")]).await;
    let key = fleet.tenant("acme");
    let mut instances: BTreeMap<usize, Instance> = BTreeMap::new();
    for index in 0..2 {
        instances.insert(index, fleet.ready().await);
    }
    let (reader, writer) = (key.clone(), key.clone());
    let mix = Mix::default()
        // Reads are most of it.
        .with(5, "tenant", 200, move |_| get("/v1/tenant", &reader, "keel"))
        .with(4, "product", 200, crate::shop::chaos::products(instances[&0].public, &key).await)
        .with(1, "order", 201, crate::shop::chaos::orders(instances[&0].public, &key).await)
        .with(1, "lock", 200, move |_| post("/v1/faults/lock?ms=0", &writer, "", &[]));
    let mix = Arc::new(mix);
    let balancer = Balancer::start(instances.values().map(Instance::backend).collect()).await;
    healthy(&balancer, 2).await;

    let tally = Tally::default();
    let loads: Vec<load::Running> = [(true, rate * 0.7), (false, rate * 0.3)]
        .into_iter()
        .map(|(keep_alive, rate)| start(&balancer, &mix, keep_alive, rate, &tally))
        .collect();
    let count = || loads.iter().map(|load| load.look(Report::total)).sum::<u64>();
    let mut codes: BTreeMap<i32, usize> = BTreeMap::new();
    for restart in 0..restarts {
        let (old, new) = (restart % 3, (restart + 2) % 3);
        let replacement = fleet.start().await;
        balancer.replace(new, replacement.backend());
        instances.insert(new, replacement);
        healthy(&balancer, 3).await;
        *codes.entry(instances.remove(&old).unwrap().terminate().await).or_default() += 1;
        balancer.remove(old);
        let due = requests * (restart as u64 + 1) / restarts as u64;
        let patience = Instant::now() + SOON;
        while count() < due {
            assert!(Instant::now() < patience, "{} of {due} requests: {:?}", count(), tally.lock());
            sleep(Duration::from_millis(20)).await;
        }
    }
    let (mut total, mut stale) = (0, 0);
    for load in loads {
        let report = load.stop().await;
        total += report.total();
        stale += report.stale;
    }
    let tally = tally.lock().clone();
    let right = mix.answers();
    let failed: u64 = tally.iter().filter(|(what, _)| !right.contains(what)).map(|(_, count)| count).sum();
    assert_eq!(tally.values().sum::<u64>(), total);
    let seen = tally.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ");
    Row {
        number: "1",
        fault: format!("{restarts} restarts by SIGTERM at {rate} requests/s, kept and new connections"),
        expected: format!("0 failed of ≥ {requests}, exit code 0 each time"),
        seen: format!("{failed} failed of {total} ({seen}); exit codes {codes:?}; {stale} idle connections closed"),
        recovery: "–".to_owned(),
        held: failed == 0 && total >= requests && codes == BTreeMap::from([(0, restarts)]),
    }
    .record(true);
    for (_, instance) in instances {
        assert_eq!(instance.terminate().await, 0);
    }
    fleet.end().await;
}

fn start(balancer: &Balancer, mix: &Arc<Mix>, keep_alive: bool, rate: f64, tally: &Tally) -> load::Running {
    let (asked, mix, tally) = (Arc::clone(mix), Arc::clone(mix), Arc::clone(tally));
    let target = Target::each(balancer.address, move |number| asked.request(number));
    let load = Load::new(target).connections(16).rate(rate).keep_alive(keep_alive).inspect(move |seen| {
        let outcome = match seen.outcome {
            Outcome::Ok(status @ 200..300) => status.to_string(),
            Outcome::Ok(status) => format!("{status} {}", code(seen.body)),
            Outcome::Failed(failure) => failure.name().to_owned(),
        };
        *tally.lock().entry(format!("{} {outcome}", mix.name(seen.number))).or_default() += 1;
    });
    load.start(Until::Cancelled(tokio_util::sync::CancellationToken::new()))
}

/// The code in a problem.
fn code(body: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(body)
        .map_or_else(|_| "?".to_owned(), |problem| problem["code"].as_str().unwrap_or("?").to_owned())
}

async fn healthy(balancer: &Balancer, count: usize) {
    timeout(SOON, balancer.wait_for_healthy(count)).await.expect("healthy in time");
}
