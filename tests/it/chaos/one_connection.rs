//! Row 3, its second half: two tenants take turns on one database connection, some of their clients leave, and neither
//! ever reads what is the other's.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use super::{
    Row,
    hangups::{leave, own_things, patch},
};
use crate::support::{
    TestApp,
    harness::{Load, Outcome, Target, get, load::Seen},
    things,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_on_one_connection_never_see_each_other() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn two_tenants_on_one_connection_never_see_each_other_in_50_000_requests() {
    run(true).await;
}

async fn run(full: bool) {
    let requests: u64 = if full { 50_000 } else { 1_500 };
    let app = TestApp::with_things(&[
        ("APP__DATABASE__MAX_CONNECTIONS", "1"),
        ("APP__DATABASE__SYSTEM_MAX_CONNECTIONS", "1"),
        // All wait for the one: that is not what is asked here.
        ("APP__DATABASE__ACQUIRE_TIMEOUT", "4s"),
    ])
    .await;
    let mut sides = Vec::new();
    for slug in ["acme", "globex"] {
        let tenant = app.tenant(slug).await;
        let paths = own_things(&app, &tenant, slug).await;
        sides.push((slug, tenant.key, paths));
    }
    let sides = Arc::new(sides);
    let request = {
        let sides = Arc::clone(&sides);
        move |number: u64| {
            let (_, key, paths) = &sides[number as usize % 2];
            let other = &sides[1 - number as usize % 2].2;
            let one = number as usize / 10 % paths.len();
            match number / 2 % 5 {
                0 => get("/v1/tenant", key, "keel"),
                1 => get(&format!("{}?limit=50", things::PATH), key, "keel"),
                2 => get(&paths[one], key, "keel"),
                3 => patch(key, &paths[one], number),
                _ => get(&other[one], key, "keel"),
            }
        }
    };
    let (mixed, own, other) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let inspect = {
        let (mixed, own, other) = (Arc::clone(&mixed), Arc::clone(&own), Arc::clone(&other));
        let slugs = [sides[0].0, sides[1].0];
        move |seen: &Seen<'_>| {
            let body = String::from_utf8_lossy(seen.body);
            let [mine, theirs] = [slugs[seen.number as usize % 2], slugs[1 - seen.number as usize % 2]];
            let foreign = seen.number / 2 % 5 == 4;
            let is_own = seen.outcome == Outcome::Ok(200) && !foreign && body.contains(mine);
            let is_nothing = seen.outcome == Outcome::Ok(404) && foreign;
            if body.contains(theirs) || (seen.outcome == Outcome::Ok(200) && !is_own) {
                mixed.fetch_add(1, SeqCst);
            }
            if is_own || is_nothing { &own } else { &other }.fetch_add(1, SeqCst);
        }
    };
    // One in five leaves.
    let address = app.running.public;
    let answered = Load::new(Target::each(address, request.clone())).connections(6).inspect(inspect);
    let (report, left) = tokio::join!(answered.run_count(requests * 4 / 5), leave(&app, 2, request, requests / 5));
    let (mixed, own, other) = (mixed.load(SeqCst), own.load(SeqCst), other.load(SeqCst));
    Row {
        number: "3b",
        fault: format!(
            "{} requests of two tenants in turn on one database connection, {left} hung up",
            report.total() + left
        ),
        expected: "0 mix-ups: each reads its own rows and no other".to_owned(),
        seen: format!("{mixed} mix-ups, {own} right answers, {other} others"),
        recovery: "–".to_owned(),
        held: mixed == 0 && own > report.total() * 9 / 10 && report.total() + left == requests,
    }
    .record(true);
    app.stop().await;
}
