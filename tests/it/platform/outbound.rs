//! Calls to a service that we depend on: one that fails is left alone, and asked now and then whether it is back.

use reqwest::Url;
use serde_json::json;

use crate::support::{TestApp, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_dependency_that_fails_is_left_alone_until_it_answers() {
    let app = TestApp::with(&[("APP__FAULTS__ENABLED", "true")]).await;
    let acme = app.tenant("acme").await;
    let call = async |port: u16| {
        let path = format!("/v1/faults/call?port={port}");
        app.post(&path, &acme.key, &json!(null)).await.ok(200)
    };
    let open = async || app.metric("circuit_breaker_open", &["dependency=\"faults\""]).await;
    assert_eq!(open().await, 0.0);
    for _ in 0..5 {
        // Nobody listens there.
        assert_eq!(call(1).await, json!({"failure": "no connection"}));
    }
    assert_eq!(open().await, 1.0);
    let somebody = Url::parse(&app.admin.base).unwrap().port().unwrap();
    assert_eq!(call(somebody).await, json!({"failure": "the dependency failed too often; not called"}));
    // An answer of any kind but a failure of theirs.
    eventually("one call a second is tried", async || (call(somebody).await == json!({"status": 404})).then_some(()))
        .await;
    assert_eq!(open().await, 0.0);
    assert_eq!(app.metric("http_client_request_duration_seconds_count", &["error_type=\"connect\""]).await, 5.0);
    app.stop().await;
}
