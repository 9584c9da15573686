//! Others have taken all connections that the server gives.

use std::time::Instant;

use super::{World, lasts};
use crate::{chaos::watch::Goal, support::services};

pub async fn run(full: bool) {
    let world = World::start(full).await;
    let watch = world.readers();
    watch.recovery(Instant::now()).await;
    let mut recoveries = Vec::new();
    for _ in 0..if full { 3 } else { 1 } {
        let mut others = Vec::new();
        for _ in 0..2 {
            others.push(services::connect("DATABASE_URL", &world.app.database).await);
        }
        // Of the database, not of the role: that is the other tests' too.
        world.as_admin("alter database {} connection limit 2").await;
        let mut theirs = Vec::new();
        for other in &mut others {
            theirs.push(sqlx::query_scalar::<_, i32>("select pg_backend_pid()").fetch_one(other).await.unwrap());
        }
        world.end_sessions(&theirs).await;
        tokio::time::sleep(lasts(full, 5)).await;
        drop(others);
        world.as_admin("alter database {} connection limit -1").await;
        recoveries.push(watch.recovery(Instant::now()).await);
    }
    let answers = watch.stop().await;
    Goal::seconds(full, 2, 1).row("4e", "all connections of the server taken", &answers, &recoveries).record(true);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_free_connection_is_refused_fast_and_comes_back() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    run(true).await;
}
