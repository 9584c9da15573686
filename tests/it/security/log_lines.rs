//! ASVS 16.4.1: what a client sends can't forge, break or colour a log line. Every place that a request
//! has gets line ends, escape sequences and what JSON needs escaped; `platform::canaries` shows that
//! secrets in the same places are hidden.

use reqwest::Method;
use serde_json::{Value, json};

use super::{fresh, raw};
use crate::support::{Answer, sinks::SHARED, things};

/// Each line is one JSON object, and no byte in it could move a cursor or end a line.
pub fn assert_clean(printed: &[u8]) {
    for line in printed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let text = std::str::from_utf8(line).expect("a line is UTF-8");
        let bad = text.chars().find(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
        assert_eq!(bad, None, "{text}");
        let line: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(line.is_object() && line["message"].is_string() && line["level"].is_string(), "{text}");
    }
}

/// What a forged line would look like.
const FORGED: &str = r#"{"level":"ERROR","message":"forged_event"}"#;

/// Line ends, colours, cursor movements and quotes, as text.
pub fn attacks() -> Vec<String> {
    [
        "\r\n",
        "\n",
        "\r",
        "\0",
        "\u{1b}[2J\u{1b}[31m",
        "\u{8}\u{8}",
        "\u{7f}",
        "\u{9b}31m",
        "\u{85}",
        "\u{2028}",
        "\"}\n",
        "\\",
    ]
    .map(|attack| format!("a{attack}{FORGED}"))
    .into()
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_path_or_query_breaks_its_line() {
    let app = super::start_with_things().await;
    let acme = app.tenant("acme").await;
    for attack in attacks() {
        let marker = format!("line-{}", fresh());
        let escaped = percent(&attack);
        for path in [
            format!("/{marker}/{escaped}"),
            format!("{}/{marker}{escaped}", things::PATH),
            format!("{}?{escaped}={marker}", things::PATH),
            format!("{}?cursor={marker}{escaped}", things::PATH),
        ] {
            let answer = app.get(&path, &acme.key).await;
            assert!((400..500).contains(&answer.status), "{path}: {}", answer.text);
            let lines = SHARED.logs("request_id", answer.header("x-request-id")).await;
            let completed = lines.iter().filter(|line| line["message"] == "request_completed").count();
            assert_eq!(completed, 1, "one canonical line: {lines:#?}");
        }
    }
    // As bytes: what a client library would never send.
    for attack in attacks() {
        let request =
            [b"GET /v1/raw-".as_slice(), attack.as_bytes(), b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"];
        let answer = raw(&app, request.concat()).await;
        assert!((400..500).contains(&answer.status()) || answer.text.is_empty(), "{attack:?}: {}", answer.text);
    }
    let printed = SHARED.printed().await;
    assert_clean(&printed);
    assert!(!String::from_utf8(printed).unwrap().contains("\n{\"level\":\"ERROR\",\"message\":\"forged_event\""));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_header_breaks_a_line_or_an_answer() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let names = [
        "x-request-id",
        "x-correlation-id",
        "traceparent",
        "tracestate",
        "baggage",
        "user-agent",
        "host",
        "referer",
        "authorization",
        "content-type",
        "accept",
        "accept-encoding",
        "cookie",
        "origin",
        "x-forwarded-for",
        "forwarded",
        "idempotency-key",
        "x-canary",
    ];
    for name in names {
        for attack in attacks() {
            let marker = format!("header-{}", fresh());
            let head = format!(
                "GET /v1/{marker} HTTP/1.1\r\nconnection: close\r\n{}{name}: {attack}\r\n\r\n",
                if name == "host" { "" } else { "host: a\r\n" }
            );
            let answer = raw(&app, head).await;
            // Refused by the parser, or an answer like any other; what looks like a head of its own is in neither.
            assert!([400, 404].contains(&answer.status()), "{name} {attack:?}: {}", answer.text);
            assert_eq!(answer.answers(), 1, "{name} {attack:?}: {}", answer.text);
            assert!(!answer.text.contains("forged_event"), "{name} {attack:?}: {}", answer.text);
            let known = SHARED.logs("path", &format!("/v1/{marker}")).await;
            assert_eq!(known.len(), usize::from(answer.status() == 404), "{name} {attack:?}: {known:#?}");
        }
    }
    // And as a method.
    let odd = Method::from_bytes(b"X|~`^_'*+-.!#$%&").unwrap();
    Answer::of(app.request(odd, "/v1/tenant", &acme.key)).await.problem(405, "method_not_allowed");
    assert_clean(&SHARED.printed().await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_body_breaks_a_line_or_is_quoted_raw() {
    let app = super::start_with_things().await;
    let acme = app.tenant("acme").await;
    for attack in attacks() {
        let attacked = json!({"name": attack, "note": attack, "amount": -1});
        app.post(things::PATH, &acme.key, &attacked).await.problem(422, "validation_failed");
        // As the name of a field, which the answer names: escaped, as JSON must be.
        let named = app.post(things::PATH, &acme.key, &json!({ attack.clone(): 1 })).await;
        named.problem(400, "malformed_json");
        assert!(!named.text.chars().any(|c| c.is_ascii_control() && c != '\u{7f}'), "{}", named.text);
    }
    assert_clean(&SHARED.printed().await);
    app.stop().await;
}
