//! Somebody holds a lock on a hot table: who needs the table is refused soon, who does not is served.

use std::time::{Duration, Instant};

use sqlx::Executor as _;

use super::World;
use crate::{
    chaos::{Row, watch::Watch},
    support::{services, things},
};

const HELD: Duration = Duration::from_secs(3);

/// `waiters` clients want the locked table, four another one.
async fn locked(world: &World, waiters: usize, number: &'static str, full: bool) -> Row {
    let waiting = Watch::get(waiters, &world.app, things::PATH, &world.tenant.read_key);
    let others = Watch::get(4, &world.app, "/v1/tenant", &world.stranger.read_key);
    let before = Instant::now();
    waiting.recovery(before).await;
    others.recovery(before).await;
    let mut owner = services::connect("DATABASE_MIGRATION_URL", &world.app.database).await;
    owner.execute("begin; lock table test_things in access exclusive mode").await.unwrap();
    let began = Instant::now();
    tokio::time::sleep(HELD).await;
    owner.execute("rollback").await.unwrap();
    let end = Instant::now();
    let recovery = waiting.recovery(end).await;
    let (mut waited, mut other) = (waiting.stop().await, others.stop().await);
    waited.0.retain(|answer| answer.at >= began && answer.at - answer.took < end);
    other.0.retain(|answer| answer.at >= began && answer.at - answer.took < end);
    let slack = if full { 0 } else { 10_000 };
    let most = Duration::from_millis(1_500 + slack);
    let busy = waited.0.iter().filter(|answer| answer.code == "database_busy").count();
    assert!(busy > 0, "{}", waited.summary());
    Row {
        number,
        fault: format!("table locked for {} s, {waiters} clients want it, pool of 10", HELD.as_secs()),
        expected: "they get 503 in ≤ 1.5 s; other tables unaffected".to_owned(),
        seen: format!("locked: {}. Others: {}", waited.summary(), other.summary()),
        recovery: format!("{:.2} s", recovery.all.as_secs_f64()),
        held: waited.wrong() == 0 && waited.slowest() <= most && other.ok() == other.0.len() && other.ok() > 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_refused_soon_and_the_others_are_served() {
    let world = World::start(false).await;
    locked(&world, 5, "4g1", false).await.record(true);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    let world = World::start(true).await;
    locked(&world, 5, "4g1", true).await.record(true);
    // More than there are connections; the others are another tenant's.
    locked(&world, 30, "4g2", true).await.record(true);
    world.stop().await;
}
