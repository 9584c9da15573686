//! The rate limit while Redis is away: counted by the instance, neither gone nor closed.

use std::time::Instant;

use futures_util::future::join_all;

use super::{World, address};
use crate::{
    chaos::Row,
    support::{
        harness::{Mode, Proxy},
        services,
    },
};

const BURST: usize = 20;

pub async fn run(full: bool) {
    let url = services::variable("REDIS_URL");
    let proxy = Proxy::start(address(&url).await).await;
    let more = [("APP__RATE_LIMIT__PER_SECOND", "1"), ("APP__RATE_LIMIT__BURST", "20")];
    let world = World::with(&proxy.url(&url), full, &more).await;
    let tenant = world.app.tenant("other").await;
    let ask = async |requests: usize| {
        let started = Instant::now();
        let asked = (0..requests).map(|_| world.app.get("/v1/tenant", &tenant.key));
        let statuses: Vec<_> = join_all(asked).await.iter().map(|answer| answer.status).collect();
        let of = |status| statuses.iter().filter(|seen| **seen == status).count();
        // One a second comes back.
        let most = BURST + started.elapsed().as_secs() as usize + 1;
        (of(200), of(429), (BURST.min(requests)..=most).contains(&of(200)) && of(200) + of(429) == requests)
    };
    // Not all: a refusal is remembered.
    let shared = ask(BURST - 5).await;
    proxy.set(Mode::Refuse);
    let local = ask(2 * BURST).await;
    proxy.set(Mode::Pass);
    let ended = Instant::now();
    let back = crate::support::eventually("Redis counts again", || async {
        let ready = world.app.admin.get("/health/ready", "").await.json()["status"] == "ready";
        ready.then(|| ended.elapsed())
    })
    .await;
    Row {
        number: "5h",
        fault: format!(
            "Redis down: {} requests of a tenant who has used {} of its burst of {BURST}",
            2 * BURST,
            BURST - 5
        ),
        expected: "counted locally: a burst passes, the rest is 429, no 5xx".to_owned(),
        seen: format!("before {} × 200, {} × 429; then {} × 200, {} × 429", shared.0, shared.1, local.0, local.1),
        recovery: format!("{:.2} s", back.as_secs_f64()),
        held: shared.2 && local.2,
    }
    .record(true);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_rate_limit_is_local() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    run(true).await;
}
