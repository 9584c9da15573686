//! A failover to a server that takes no writes for a while: sessions opened meanwhile are read-only for good.

use std::time::Instant;

use super::{World, lasts};
use crate::chaos::watch::Goal;

pub async fn run(full: bool) {
    let world = World::start(full).await;
    let (readers, writers) = (world.some_readers(4), world.writers(4));
    writers.recovery(Instant::now()).await;
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for _ in 0..if full { 3 } else { 1 } {
        world.as_admin("alter database {} set default_transaction_read_only = on").await;
        world.end_sessions(&[]).await;
        let failover = Instant::now();
        reads.push(readers.recovery(failover).await);
        tokio::time::sleep(lasts(full, 5)).await;
        world.as_admin("alter database {} reset default_transaction_read_only").await;
        writes.push(writers.recovery(Instant::now()).await);
    }
    let (read, written) = (readers.stop().await, writers.stop().await);
    let refused = written.0.iter().filter(|answer| answer.code == "database_read_only").count();
    assert!(refused > 0, "{}", written.summary());
    Goal::seconds(full, 2, 1).row("4f1", "failover to a read-only server: reads", &read, &reads).record(true);
    Goal::seconds(full, 5, 2).row("4f2", "failover to a read-only server: writes", &written, &writes).record(true);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_to_a_server_that_was_read_only_recover() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    run(true).await;
}
