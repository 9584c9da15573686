//! Series are bounded: whatever strangers and tenants send, `/metrics` stays its size.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use keel::platform::{
    telemetry::metrics::{Counter, Registry, tenants::TenantLabels},
    tenancy::TenantId,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    security::document::{Api, UNKNOWN},
    support::{TestApp, things},
};

/// What one instance may expose at rest; Prometheus keeps each for hours.
const BUDGET: usize = 2_500;

async fn series(app: &TestApp) -> BTreeSet<String> {
    let text = app.metrics().await;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

/// Requests on one connection, in bundles; the answers are read and thrown away.
async fn flood(address: std::net::SocketAddr, from: usize, count: usize) {
    const METHODS: [&str; 6] = ["GET", "POST", "BREW", "PROPFIND", "DELETE", "X-RANDOM"];
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut answers, mut kept, mut buffer) = (0, 0, vec![0; 64 << 10]);
    for bundle in (from..from + count).step_by(50) {
        let requests: String = (bundle..bundle + 50)
            .map(|n| {
                let method = if n % 7 == 0 { format!("M{n}") } else { METHODS[n % 6].to_owned() };
                format!("{method} /v{}/{n}/x{n}?q={n} HTTP/1.1\r\nhost: h{n}.example.com\r\nuser-agent: a{n}\r\ncontent-length: 0\r\n\r\n", n % 3)
            })
            .collect();
        stream.write_all(requests.as_bytes()).await.unwrap();
        let mut wanted = 50_usize;
        while wanted > 0 {
            // What the last read ended with: the text looked for may stand across two reads.
            buffer.copy_within(kept..kept + 8, 0);
            let read = stream.read(&mut buffer[8..]).await.unwrap();
            assert!(read > 0, "closed after {answers} answers");
            kept = read;
            let seen = buffer[..read + 8].windows(9).filter(|bytes| bytes == b"HTTP/1.1 ").count();
            (answers, wanted) = (answers + seen, wanted.saturating_sub(seen));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_random_requests_make_not_one_series_too_many() {
    const REQUESTS: usize = 100_000;
    const CONNECTIONS: usize = 8;
    let app = TestApp::with_things(&[("APP__DATABASE__ACQUIRE_TIMEOUT", "4s")]).await;
    let acme = app.tenant("acme").await;
    // Everything that an ordinary day makes, first.
    let (path, _) = things::make(&app, &acme, "oak").await;
    for path in [&path, things::PATH, "/nowhere"] {
        app.get(path, &acme.key).await;
    }
    for operation in Api::of(&app).await.operations() {
        operation.send(&app, &acme.read_key, UNKNOWN, None).await;
    }
    flood(app.running.public, 0, 200).await;
    let before = series(&app).await;
    assert!(before.len() <= BUDGET, "{} series at rest", before.len());
    let each = REQUESTS / CONNECTIONS;
    join_all((0..CONNECTIONS).map(|n| flood(app.running.public, n * each, each))).await;
    // What the service does by the clock (jobs, expiry) is no scanner's doing.
    let own = |name: &&String| name.starts_with("db_client_") || name.starts_with("job_");
    let after = series(&app).await;
    let new: Vec<&String> = after.difference(&before).filter(|name| !own(name)).collect();
    assert!(after.len() <= BUDGET, "{} series", after.len());
    assert_eq!(new, Vec::<&String>::new(), "a scanner makes no series");
    let unmatched = app.metric("http_server_request_duration_seconds_count", &["http_route=\"__unmatched__\""]).await;
    assert!(unmatched >= REQUESTS as f64, "and each was counted: {unmatched}");
    app.stop().await;
}

keel::labels! {
    pub struct ByTenant { tenant: std::sync::Arc<str> = "_OTHER".into() }
}

#[test]
fn a_hundred_thousand_tenants_share_fifty_one_labels() {
    let registry = Registry::default();
    let labels = TenantLabels::new(&registry);
    let counter: Counter<ByTenant> = registry.counter("used_total", "Used.", 60);
    let large = TenantId::new();
    for n in 0..100_000 {
        counter.with(&ByTenant { tenant: labels.of(TenantId::new()) }).inc();
        if n % 2 == 0 {
            counter.with(&ByTenant { tenant: labels.of(large) }).inc();
        }
    }
    let text = registry.text();
    let series = text.lines().filter(|line| line.starts_with("used_total{")).count();
    assert!(series <= 51, "{series}");
    let total: f64 = text
        .lines()
        .filter(|line| line.starts_with("used_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!((total - 150_000.0).abs() < 0.5, "every sample is under some label: {total}");
    assert!(text.contains("tenant_label_overflow_total "));
    assert!(text.contains(&large.to_string()), "who asks most has a label of its own");
}
