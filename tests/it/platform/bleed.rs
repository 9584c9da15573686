//! The context of a request is on every line inside it, and on no other request's.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, TestApp,
    sinks::SHARED,
    things::{self, thing},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_interleaved_requests_keep_to_themselves() {
    const REQUESTS: usize = 1_000;
    // The pool is meant to be short here; its warnings are not what is counted.
    let app =
        TestApp::with_things(&[("APP__DATABASE__SLOW_ACQUIRE", "60s"), ("APP__DATABASE__ACQUIRE_TIMEOUT", "4s")]).await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let run = uuid::Uuid::now_v7().simple().to_string();
    let answers: Vec<(usize, Answer)> = stream::iter(0..REQUESTS)
        .map(|n| {
            let tenant = if n % 2 == 0 { &acme } else { &globex };
            let (app, run) = (&app, &run);
            let unknown = format!("{}/019aa000-0000-7000-8000-000000000000", things::PATH);
            async move {
                // Writes, reads, misses and strangers, on connections and workers that they share.
                let request = match n % 4 {
                    0 | 1 => app.request(Method::POST, things::PATH, &tenant.key).json(&thing(&format!("oak {n}"))),
                    2 => app.request(Method::GET, "/v1/tenant", &tenant.key),
                    _ => app.request(Method::GET, &unknown, &tenant.key),
                };
                let request = request
                    .header("x-request-id", format!("{run}-{n}"))
                    .header("x-correlation-id", format!("c-{run}-{n}"));
                (n, Answer::of(request).await)
            }
        })
        .buffer_unordered(24)
        .collect()
        .await;
    let mut lines: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in SHARED.lines().await {
        let id = line["request_id"].as_str().unwrap_or_default();
        if id.starts_with(&run) {
            lines.entry(id.to_owned()).or_default().push(line);
        }
    }
    assert_eq!(lines.len(), REQUESTS);
    for (n, answer) in &answers {
        let tenant = if n % 2 == 0 { &acme } else { &globex };
        let own = &lines[&format!("{run}-{n}")];
        let expected = match n % 4 {
            0 | 1 => ("POST", things::PATH, 201, 2),
            2 => ("GET", "/v1/tenant", 200, 1),
            _ => ("GET", "/v1/test-things/{thing_id}", 404, 1),
        };
        assert_eq!(own.len(), expected.3, "{own:#?}");
        for line in own {
            assert_eq!(line["correlation_id"], format!("c-{run}-{n}"));
            assert_eq!(line["trace_id"], answer.header("x-trace-id"));
            assert_eq!(line["tenant_id"], tenant.id.to_string());
            assert_eq!((&line["method"], &line["route"]), (&json!(expected.0), &json!(expected.1)));
        }
        assert_eq!((answer.status, &own.last().unwrap()["status"]), (expected.2, &json!(expected.2)));
    }
    app.stop().await;
}
