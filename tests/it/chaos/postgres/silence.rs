//! The server says nothing: old sockets only, with all connections at work and with all of them idle, and all sockets.

use std::time::Instant;

use super::{World, lasts, strangers_recovery};
use crate::{
    chaos::watch::{Answers, Goal, Seen, Watch},
    support::{eventually, harness::Mode},
};

/// Connections of the pool, and a tenant's part of them.
const POOL: usize = 10;
const PART: usize = 8;

/// More clients than the tenant may have connections, each of which keeps one busy.
async fn busy(world: &World) -> Watch {
    let (client, key) = (world.app.client.clone(), world.tenant.key.clone());
    let watch =
        Watch::start(POOL + 2, move || client.request(reqwest::Method::POST, "/v1/faults/slow-query?ms=150", &key));
    eventually("all connections at work", || async {
        let used = world.app.metric("db_client_connection_count", &["state=\"used\""]).await;
        (used >= PART as f64).then_some(())
    })
    .await;
    watch
}

pub async fn old_sockets(full: bool) {
    let world = World::start(full).await;
    let (mut busy_ones, mut idle_ones) = (Vec::new(), Vec::new());
    let (mut while_busy, mut after_idle) = (Vec::new(), Vec::new());
    for _ in 0..if full { 3 } else { 1 } {
        let watch = busy(&world).await;
        world.proxy.set(Mode::BlackHoleOld);
        while_busy.push(watch.recovery(Instant::now()).await);
        busy_ones.extend(watch.stop().await.0);
    }
    while_busy.push(strangers_recovery(&world, Instant::now()).await);
    for _ in 0..if full { 3 } else { 1 } {
        let ask = || Seen::of(world.app.request(reqwest::Method::GET, "/v1/tenant", &world.tenant.read_key));
        futures_util::future::join_all((0..POOL).map(|_| ask())).await;
        eventually("idle connections only", || async {
            let used = world.app.metric("db_client_connection_count", &["state=\"used\""]).await;
            (used == 0.0).then_some(())
        })
        .await;
        world.proxy.set(Mode::BlackHoleOld);
        let (end, watch) = (Instant::now(), world.readers());
        after_idle.push(watch.recovery(end).await);
        idle_ones.extend(watch.stop().await.0);
    }
    let goal = Goal::seconds(full, 2, 5);
    let rows = [
        goal.row("4b1", "old sockets silent, new ones work; all at work", &Answers(busy_ones), &while_busy),
        goal.row("4b2", "old sockets silent, new ones work; all idle", &Answers(idle_ones), &after_idle),
    ];
    rows.into_iter().for_each(|row| row.record(true));
    world.stop().await;
}

pub async fn all_sockets(full: bool) {
    let world = World::start(full).await;
    let watch = world.readers();
    watch.recovery(Instant::now()).await;
    let mut recoveries = Vec::new();
    for _ in 0..if full { 3 } else { 1 } {
        world.proxy.set(Mode::BlackHole);
        tokio::time::sleep(lasts(full, 5)).await;
        world.proxy.set(Mode::Pass);
        let end = Instant::now();
        recoveries.push(watch.recovery(end).await);
    }
    let answers = watch.stop().await;
    Goal::seconds(full, 2, 5).row("4c", "all sockets silent for 5 s", &answers, &recoveries).record(true);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_sockets_that_are_silent_are_left_behind() {
    old_sockets(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full_old_sockets() {
    old_sockets(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_postgres_is_refused_in_time_and_comes_back() {
    all_sockets(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full_all_sockets() {
    all_sockets(true).await;
}
