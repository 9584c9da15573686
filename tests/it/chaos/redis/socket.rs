//! The way to Redis: refused, silent, half open, slow.

use std::time::{Duration, Instant};

use super::{Course, World, address, times};
use crate::support::{
    harness::{Mode, Proxy},
    services,
};

async fn fault(number: &'static str, name: &str, mode: Mode, full: bool) {
    let url = services::variable("REDIS_URL");
    let proxy = Proxy::start(address(&url).await).await;
    let world = World::start(&proxy.url(&url), full).await;
    let (calm, lasts) = times(full);
    let load = world.load().await;
    let start = Instant::now();
    tokio::time::sleep(calm).await;
    proxy.set(mode.clone());
    let began = Instant::now();
    let half_open = mode == Mode::BlackHoleOld;
    let mut back = Duration::ZERO;
    if half_open {
        // Nothing ends: it has to find the new sockets itself.
        back = world.in_use(began).await;
    }
    tokio::time::sleep((began + lasts).saturating_duration_since(Instant::now())).await;
    let ended = Instant::now();
    if !half_open {
        proxy.set(Mode::Pass);
        back = world.in_use(ended).await;
    }
    world.row(number, name, full, start, load, Course { began, ended, back }).await;
    world.stop().await;
}

pub async fn run(full: bool) {
    fault("5a", "Redis down: connections reset, new ones refused", Mode::Refuse, full).await;
    fault("5b", "Redis frozen: every socket silent", Mode::BlackHole, full).await;
}

pub async fn run_rest(full: bool) {
    fault("5c", "half open: old sockets silent, new ones work", Mode::BlackHoleOld, full).await;
    fault("5d", "Redis slow: 500 ms each way", Mode::Delay(Duration::from_millis(500)), full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_is_gone_or_frozen_fails_no_request() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_is_half_open_or_slow_fails_no_request() {
    run_rest(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_a_silent_redis_once_not_once_a_command() {
    let url = services::variable("REDIS_URL");
    let proxy = Proxy::start(address(&url).await).await;
    let world = World::with(&proxy.url(&url), false, &[("APP__REDIS__OPERATION_TIMEOUT", "1s")]).await;
    world.app.get(&world.path, &world.tenant.key).await.ok(200);
    proxy.set(Mode::BlackHole);
    let asked = Instant::now();
    world.app.get(&world.path, &world.tenant.key).await.ok(200);
    // Its quota, the read and the fill are three commands.
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    run(true).await;
    run_rest(true).await;
}
