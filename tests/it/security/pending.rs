//! What the HTTP edge is about to do: each test is ignored until it does, and then has the line with
//! `ignore` taken out.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{raw, raw_stream};
use crate::support::things;

#[tokio::test(flavor = "multi_thread")]
async fn a_uri_past_eight_kib_is_a_414() {
    let app = super::start().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    for length in [8 << 10, 16 << 10] {
        for path in [format!("/{}", "x".repeat(length)), format!("/v1/tenant?cursor={}", "x".repeat(length))] {
            let answer = raw(&app, get(&path)).await;
            assert_eq!(answer.status(), 414, "{length}: {}", answer.text);
            assert!(answer.text.contains("application/problem+json"), "{}", answer.text);
        }
    }
    assert_eq!(raw(&app, get(&format!("/{}", "x".repeat(8_000)))).await.status(), 404);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_five_fields_or_a_field_of_64_kib_are_a_431() {
    let app = super::start().await;
    let get = |fields: usize| {
        let fields: String = (0..fields).map(|n| format!("x-{n}: 1\r\n")).collect();
        format!("GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n")
    };
    // Two of them are host and connection.
    assert_eq!(raw(&app, get(62)).await.status(), 200);
    assert_eq!(raw(&app, get(63)).await.status(), 431);
    // Some bytes more than the 64 KiB of the whole head are read today before they are counted.
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: {}\r\n\r\n", "y".repeat(64 << 10));
    assert_eq!(raw(&app, large).await.status(), 431);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_ten_bytes_a_second_is_a_408_within_fifteen_seconds() {
    let app = super::start_with_things().await;
    let acme = app.tenant("acme").await;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n",
        things::PATH,
        acme.key
    );
    let (mut first, started) = (Some(head.into_bytes()), Instant::now());
    let answer = raw_stream(&app, Duration::from_secs(20), || {
        std::thread::sleep(Duration::from_millis(100));
        first.take().or_else(|| Some(b" ".to_vec()))
    })
    .await;
    assert_eq!(answer.status(), 408, "{}", answer.text);
    assert!(answer.closed && started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_array_past_a_thousand_elements_is_a_400_on_any_field() {
    let app = super::start_with_things().await;
    let acme = app.tenant("acme").await;
    for entries in [1_001, 10_000] {
        let deeper = json!({"lines": vec![json!({"id": super::document::UNKNOWN, "quantity": 1}); entries]});
        app.post(things::PATH, &acme.key, &deeper).await.problem(400, "json_array_too_long");
        let body = json!({"name": vec![1; entries], "amount": 1});
        app.post(things::PATH, &acme.key, &body).await.problem(400, "json_array_too_long");
    }
    let long = format!("[{}1]", "1,".repeat(200_000));
    app.post_raw(things::PATH, &acme.key, long).await.problem(400, "json_array_too_long");
    app.stop().await;
}
