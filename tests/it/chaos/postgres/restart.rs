//! The server is gone for a while: connections are reset, new ones refused, then it is back.

use std::time::Instant;

use super::{World, lasts};
use crate::{chaos::watch::Goal, support::harness::Mode};

pub async fn run(full: bool) {
    let world = World::start(full).await;
    let watch = world.readers();
    watch.recovery(Instant::now()).await;
    let mut recoveries = Vec::new();
    for seconds in if full { &[5, 1, 10, 2, 5][..] } else { &[1][..] } {
        world.proxy.set(Mode::Refuse);
        tokio::time::sleep(lasts(full, *seconds)).await;
        world.proxy.set(Mode::Pass);
        recoveries.push(watch.recovery(Instant::now()).await);
    }
    let fault = format!("Postgres down and back under load, {} times", recoveries.len());
    Goal::seconds(full, 2, 5).row("4a", &fault, &watch.stop().await, &recoveries).record(true);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_down_for_a_while_is_refused_in_time_and_comes_back() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    run(true).await;
}
