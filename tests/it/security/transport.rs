//! What ASVS has for the wire (4.1.3, 4.2.1) and the battery's rows on heads: framing that two readers could
//! take for two things, addresses that proxies claim, and sizes. Lengths that contradict each other, old
//! line folding and bytes that are no HTTP are in `platform::bad_input`.

use reqwest::Method;
use serde_json::json;

use super::raw;
use crate::support::{
    Answer, TestApp,
    sinks::SHARED,
    things::{self, thing},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_never_read_as_two() {
    let app = super::start_with_things().await;
    let key = app.tenant("acme").await.key;
    let inner = "GET /v1/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let head = |more: &str| {
        format!(
            "POST {} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\nconnection: close\r\n{more}\r\n\r\n",
            things::PATH
        )
    };
    for (request, expected) in [
        // Framed by the chunks; the length is worth nothing (RFC 9112 §6.3).
        (format!("{}0\r\n\r\n{inner}", head("content-length: 6\r\ntransfer-encoding: chunked")), vec![400]),
        (format!("{}0\r\n\r\n{inner}", head("transfer-encoding: chunked\r\ncontent-length: 6")), vec![400]),
        (format!("{}{inner}", head("content-length: 0\r\ncontent-length: 41")), vec![400]),
        (format!("{}{inner}", head("content-length: 0, 41")), vec![400]),
        (format!("{}{inner}", head("content-length: -1")), vec![400]),
        (format!("{}{inner}", head("content-length: 0x29")), vec![400]),
        (format!("{}{inner}", head("content-length: 99999999999999999999999")), vec![400, 413]),
        (format!("{}0\r\n\r\n{inner}", head("transfer-encoding: chunked, identity")), vec![400, 501]),
        (format!("{}0\r\n\r\n{inner}", head("transfer-encoding: xchunked")), vec![400, 501]),
        (format!("{}0\r\n\r\n{inner}", head("transfer-encoding : chunked")), vec![400]),
        (
            format!("{}0\r\n\r\n{inner}", head("transfer-encoding: chunked\r\ntransfer-encoding: identity")),
            vec![400, 501],
        ),
        (format!("{}1;x=\"\n\"\r\nZ\r\n0\r\n\r\n{inner}", head("transfer-encoding: chunked")), vec![400]),
        (format!("{}10000000000000000\r\n{inner}", head("transfer-encoding: chunked")), vec![400]),
        (format!("{}{inner}", head("x: y\nz: w")), vec![400]),
        ("GET http://evil.example/v1/smuggled HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned(), vec![404]),
    ] {
        let answer = raw(&app, &request).await;
        let shown = request.replace(&key, "…");
        assert!(expected.contains(&answer.status()) || answer.text.is_empty(), "{shown}\n{}", answer.text);
        assert!(answer.answers() <= 1 && answer.closed, "{shown}\n{}", answer.text);
    }
    let smuggled = SHARED.logs("path", "/v1/smuggled").await;
    assert!(smuggled.len() <= 1, "only the one in absolute form is a request: {smuggled:#?}");
    app.get("/v1/tenant", &key).await.ok(200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_nobody_s_changes_neither_limit_nor_log() {
    let app = TestApp::with(&[("APP__RATE_LIMIT__PER_SECOND", "1"), ("APP__RATE_LIMIT__BURST", "5")]).await;
    let acme = app.tenant("acme").await;
    let chain = |n: usize| (0..100).map(|hop| format!("203.0.113.{}", (hop + n) % 250)).collect::<Vec<_>>().join(", ");
    let mut answers = Vec::new();
    for n in 0..20 {
        let request = app.request(Method::GET, "/v1/tenant", &acme.key);
        let request = request.header("x-forwarded-for", chain(n)).header("x-real-ip", format!("203.0.113.{n}"));
        let request = request.header("forwarded", format!("for=203.0.113.{n};host=evil.example;proto=https"));
        let request = request.header("x-forwarded-host", "evil.example").header("x-forwarded-proto", "https");
        answers.push(Answer::of(request).await);
    }
    let limited = answers.iter().filter(|answer| answer.status == 429).count();
    for answer in answers.iter().step_by(5) {
        let lines = SHARED.logs("request_id", answer.header("x-request-id")).await;
        assert!(!lines.is_empty() && !json!(lines).to_string().contains("203.0.113."), "{lines:#?}");
        let span = SHARED.trace(answer.header("x-trace-id"), 1).await;
        let address = span.iter().find_map(|seen| seen.attribute("client.address"));
        assert_eq!(address.as_deref(), Some("127.0.0.1"));
    }
    assert!(limited >= 8, "another address is no other caller: {limited}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_the_caller_s_choice_is_in_no_answer() {
    let app = super::start_with_things().await;
    let acme = app.tenant("acme").await;
    for (n, host) in ["evil.example", "evil.example:80@a", "a\"><script>", "127.0.0.1:9464", ""].iter().enumerate() {
        let body = thing(&format!("oak {n}")).to_string();
        let created = raw(&app, format!(
            "POST {} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            things::PATH, acme.key, body.len()
        )).await;
        assert!([201, 400].contains(&created.status()), "{host}: {}", created.text);
        assert!(!created.text.contains("evil") && !created.text.contains("script"), "{}", created.text);
        if created.status() == 201 {
            assert!(
                created.text.contains(&format!("location: {}/", things::PATH)),
                "a path, not an address: {}",
                created.text
            );
        }
        for path in ["/docs", "/openapi.json", "/v1/nothing"] {
            let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            assert!(!raw(&app, request).await.text.contains("evil.example"), "{path} {host}");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_refused_and_the_next_request_is_served() {
    let app = super::start().await;
    let key = app.tenant("acme").await.key;
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}\r\n");
    for (request, expected) in [
        (get("/", &format!("x: {}\r\n", "y".repeat(192 << 10))), 431),
        (get("/", &format!("{}: y\r\n", "x".repeat(192 << 10))), 431),
        (get("/", &(0..101).map(|n| format!("x-{n}: 1\r\n")).collect::<String>()), 431),
    ] {
        let answer = raw(&app, request).await;
        assert!([expected, 0].contains(&answer.status()) && answer.closed, "{}", answer.text);
    }
    // A megabyte does not fit the sockets: the connection may end before the answer is read.
    for request in [get("/", &format!("x: {}\r\n", "y".repeat(1 << 20))), get(&format!("/{}", "x".repeat(1 << 20)), "")]
    {
        let answer = raw(&app, request).await;
        assert!([414, 431, 0].contains(&answer.status()) && answer.closed, "{}", answer.text);
    }
    app.get("/v1/tenant", &key).await.ok(200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_and_connect_are_answered_like_any_method_nobody_has() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    for target in ["/v1/tenant", "/health/live", "/docs", "/openapi.json"] {
        let request =
            format!("TRACE {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-secret: {}\r\n\r\n", acme.key);
        let answer = raw(&app, request).await;
        assert_eq!(answer.status(), 405, "{target}: {}", answer.text);
        assert!(!answer.text.contains(&acme.key), "nothing is echoed");
    }
    for target in ["127.0.0.1:9464", "169.254.169.254:80", "evil.example:443"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n");
        let answer = raw(&app, request).await;
        assert!([400, 404, 405].contains(&answer.status()), "{target}: {}", answer.text);
    }
    app.stop().await;
}
