//! What is in Redis: gone from one moment to the next, or nonsense.

use std::time::{Duration, Instant};

use super::{Course, World, times};
use crate::support::services;

/// Between two times that all values are spoiled.
const EVERY: Duration = Duration::from_millis(100);

async fn loads(world: &World) -> f64 {
    let name = "db_client_operation_duration_seconds_count";
    world.app.metric(name, &["db_query_summary=\"SELECT test_things\""]).await
}

async fn fault(number: &'static str, name: &str, nonsense: Option<&str>, full: bool) {
    let url = services::variable("REDIS_URL");
    let world = World::start(&url, full).await;
    let mut redis = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let (calm, lasts) = times(full);
    let load = world.load().await;
    let start = Instant::now();
    tokio::time::sleep(calm).await;
    let (began, loaded, mut times) = (Instant::now(), loads(&world).await, 0_u32);
    // The server is the other tests' too: only what is this application's.
    let pattern = format!("{}:*", world.app.config.redis.key_prefix);
    while began.elapsed() < lasts {
        let keys: Vec<String> = redis::cmd("KEYS").arg(&pattern).query_async(&mut redis).await.unwrap();
        for key in keys {
            match nonsense {
                None => redis::cmd("DEL").arg(key).exec_async(&mut redis).await.unwrap(),
                Some(text) => redis::cmd("SET").arg(key).arg(text).exec_async(&mut redis).await.unwrap(),
            }
        }
        times += 1;
        tokio::time::sleep(EVERY).await;
    }
    let ended = Instant::now();
    let back = world.in_use(ended).await;
    let loads = loads(&world).await - loaded;
    let name = format!("{name}, {times} times: {loads} loads");
    world.row(number, &name, full, start, load, Course { began, ended, back }).await;
    // Readers that miss together load together.
    assert!(loads <= f64::from(times) * 5.0 + 5.0, "{loads} loads for {times} times");
    world.stop().await;
}

pub async fn run(full: bool) {
    fault("5e", "all keys deleted", None, full).await;
    fault("5f1", "all values corrupt", Some("{\"key\":"), full).await;
    fault(
        "5f2",
        "all values of another form",
        Some("{\"key\":\"x\",\"fresh_until\":99999999999999,\"value\":{}}"),
        full,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_gone_or_nonsense_fail_no_request() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    run(true).await;
}
