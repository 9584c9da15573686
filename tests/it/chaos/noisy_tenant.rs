//! Row 8, its second half: a tenant that asks for fifty times its quota gets its quota, and the others theirs.

use std::time::Duration;

use super::{Row, fleet::Fleet, rounds::Rounds};
use crate::support::harness::{Load, Target, get};

#[tokio::test(flavor = "multi_thread")]
async fn a_noisy_tenant_gets_its_quota_and_the_others_theirs() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn a_noisy_tenant_is_not_noticed_by_the_others() {
    run(true).await;
}

async fn run(full: bool) {
    let (quota, rounds, round) =
        if full { (40_u32, 7, Duration::from_secs(8)) } else { (20, 1, Duration::from_secs(2)) };
    let text = quota.to_string();
    let fleet = Fleet::new(full, &[("APP__RATE_LIMIT__PER_SECOND", &text), ("APP__RATE_LIMIT__BURST", &text)]).await;
    let (a, b) = (fleet.tenant("acme"), fleet.tenant("globex"));
    let instance = fleet.ready().await;
    let load = |key: &str, rate: f64| {
        Load::new(Target::new(instance.public, get("/v1/tenant", key, "keel"))).connections(16).rate(rate)
    };
    let (steady, noise) = (f64::from(quota) * 0.8, f64::from(quota) * 50.0);
    load(&b, steady).run_for(round / 4).await;
    let (mut measured, mut errors, mut answered, mut allowed, mut refused, mut other) =
        (Rounds::default(), 0, 0, 0, 0, 0);
    for _ in 0..rounds {
        let without = load(&b, steady).run_for(round).await;
        let (with, noisy) = tokio::join!(load(&b, steady).run_for(round), load(&a, noise).run_for(round));
        measured.add(&without, &with);
        errors += with.total() - with.ok();
        answered += with.ok();
        allowed += noisy.ok();
        refused += noisy.status(429);
        other += noisy.total() - noisy.ok() - noisy.status(429);
    }
    // What a burst leaves, and what comes in the time; a round takes a little longer than it should.
    let most = rounds as f64 * f64::from(quota) * (round.as_secs_f64() * 1.2 + 1.0);
    Row {
        number: "8c",
        fault: format!("Tenant A at {noise} requests/s, 50 times its quota, {rounds} rounds of {round:?}"),
        expected: "0 errors of B, A is held to its quota".to_owned(),
        seen: format!(
            "B: {errors} errors of {}; A: {allowed} × 200, {refused} × 429, {other} others",
            errors + answered
        ),
        recovery: "–".to_owned(),
        held: errors == 0 && answered > 0 && refused > 0 && (allowed as f64) <= most,
    }
    .record(true);
    measured.row("8d", "The same, seen by tenant B").record(false);
    assert_eq!(instance.terminate().await, 0);
    fleet.end().await;
}
