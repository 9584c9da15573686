//! Row 9: two tenants at random, a hundred times as long as in `security`, which has the quick form.

use crate::{chaos::Row, shop::security::tenants_fuzz::fuzz, support::TestApp};

pub async fn run(full: bool) {
    let requests = if full { 200_000 } else { 1_000 };
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64;
    println!("fuzz(&app, {requests}, {seed})");
    let app = TestApp::with(&[("APP__HTTP__REQUEST_TIMEOUT", "30s"), ("APP__DATABASE__ACQUIRE_TIMEOUT", "20s")]).await;
    let outcome = fuzz(&app, requests, seed).await;
    let failed: usize = outcome.by_status.range(500..).map(|(_, count)| count).sum();
    let ok: usize = outcome.by_status.range(..300).map(|(_, count)| count).sum();
    Row {
        number: "9",
        fault: format!("{requests} random requests of two tenants with each other's ids, cursors and keys"),
        expected: "no byte of one in an answer to the other".to_owned(),
        seen: format!(
            "{} foreign; {} requests for what is the other's, {ok} × 2xx, {failed} × 5xx (seed {seed}) {}",
            outcome.leaks.len(),
            outcome.foreign,
            outcome.leaks.first().map_or("", String::as_str)
        ),
        recovery: "–".to_owned(),
        held: outcome.leaks.is_empty() && outcome.requests == requests && failed == 0 && ok > requests / 5,
    }
    .record(true);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    run(true).await;
}
