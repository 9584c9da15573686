//! API10: a payment provider that misbehaves in every way: the order is answered
//! as designed, never a 5xx of ours, no more than its cap is read of any answer, and whatever is repeated
//! has the same key, so that it is charged at most once. A provider that is slow, gone or answers 500 is in
//! `shop::orders`.

use std::{
    collections::BTreeSet,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    security::{
        hostile::{Hostile, Manner},
        log_lines::assert_clean,
        upstream::{CHUNKED, ENDLESS, HEAD, MOST_READ},
    },
    shop::orders::{order, place, product},
    support::{Answer, TestApp, client::Tenant, eventually, sinks::SHARED},
};

async fn shop(server: &Hostile) -> (TestApp, Tenant, String) {
    let app = TestApp::with(&[
        ("APP__SHOP__PAYMENTS__URL", &server.url),
        ("APP__SHOP__PAYMENTS__TIMEOUT", "800ms"),
        // The test decides when the job looks; `shop::orders` shows that it does by itself.
        ("APP__SHOP__PAYMENTS__SETTLE_AFTER", "3s"),
    ])
    .await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 1999, "EUR", 10).await;
    (app, acme, oak)
}

fn keys(server: &Hostile) -> BTreeSet<String> {
    server.asked().into_iter().filter(|it| it.line == "POST /charges").map(|it| it.idempotency_key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_of_the_provider_fails_an_order_and_none_is_read_to_no_end() {
    let bytes = |text: &str| Manner::Bytes(text.as_bytes().to_vec());
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let unknown = [
        Manner::Endless(ENDLESS),
        Manner::Endless(CHUNKED),
        Manner::Endless(HEAD),
        Manner::Drip,
        Manner::Silent,
        Manner::Gone,
        Manner::redirect("302 Found", "http://169.254.169.254/latest/meta-data/"),
        Manner::redirect("307 Temporary Redirect", "http://127.0.0.1:1/"),
        Manner::answer("200 OK", "text/html", "<html>It works!</html>"),
        Manner::answer("201 Created", "text/html", "<html>Sign in</html>"),
        Manner::json("201 Created", ""),
        Manner::json("201 Created", "{"),
        Manner::json("201 Created", "null"),
        Manner::json("201 Created", "[]"),
        Manner::json("201 Created", "{\"outcome\":1}"),
        Manner::json("201 Created", "{\"outcome\":null}"),
        Manner::json("201 Created", "{\"outcome\":{\"succeeded\":1}}"),
        Manner::json("201 Created", "{\"outcome\":\"SUCCEEDED\"}"),
        Manner::json("201 Created", "{\"outcome\":\"\\u001b[31mred\\r\\n{}\\u0000\\u009b\"}"),
        Manner::json("201 Created", "{\"outcome\":\"declined\",\"outcome\":\"succeeded\"}"),
        Manner::json("201 Created", "{\"outcome\":\"succeeded\"} {\"outcome\":\"declined\"}"),
        Manner::json("201 Created", &deep),
        Manner::json("204 No Content", ""),
        Manner::json("500 Internal Server Error", "{\"outcome\":\"succeeded\"}"),
        Manner::json("429 Too Many Requests", "{}"),
        Manner::json("401 Unauthorized", "{}"),
        Manner::json("600 What", "{}"),
        bytes("\x16\x03\x01\x02\x00\x01\x00garbage\r\n\r\n"),
        bytes("HTTP/1.1 201 Created\r\ncontent-length: 500\r\n\r\n{\"outcome\":\"succeeded\"}"),
        bytes("HTTP/1.1 201 Created\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}{}{}"),
        bytes("HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
        bytes("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"),
    ];
    let server = Hostile::start(Manner::Silent).await;
    let mut sum = 0;
    // Four a service: its breaker opens after five failures, and then the provider is not even asked.
    for (round, manners) in unknown.chunks(4).enumerate() {
        let (app, acme, oak) = shop(&server).await;
        for (n, manner) in manners.iter().enumerate() {
            let (asked, sent) = (server.asked().len(), server.sent.load(Relaxed));
            let shown = format!("{manner:?}").chars().take(120).collect::<String>();
            let current = manner.clone();
            server.behave(move |_| current.clone());
            let started = Instant::now();
            let answer = place(&app, &acme, &format!("k-{n}"), &order(&oak, 1, "tok_ok")).await;
            assert_eq!(answer.ok(202)["status"], "payment_pending", "{shown}");
            assert!(started.elapsed() < Duration::from_secs(3), "{shown} held the order up");
            assert!(server.asked().len() > asked, "{shown}: the provider was not asked");
            assert!(server.sent.load(Relaxed) - sent < MOST_READ, "{shown}: was read to the end");
            let _of_the_log = SHARED.logs("request_id", answer.header("x-request-id")).await;
            sum += 1;
        }
        // Each order has its own key, however often it was tried.
        let orders = app.get("/v1/orders", &acme.key).await.ok(200)["data"].as_array().unwrap().len();
        assert_eq!(orders, manners.len(), "round {round}");
        app.running.shutdown().await;
        crate::support::services::drop_database(&app.database).await;
    }
    assert_eq!((sum, keys(&server).len()), (unknown.len(), unknown.len()), "one key an order");
    // What the provider said is in the log as data.
    assert_clean(&SHARED.printed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_charged_and_then_talked_nonsense_has_charged_once() {
    let server = Hostile::start(Manner::answer("200 OK", "text/html", "<html>")).await;
    let (app, acme, oak) = shop(&server).await;
    let pending = place(&app, &acme, "k-1", &order(&oak, 2, "tok_ok")).await.ok(202);
    // It comes to its senses, and never made the charge; what it was sent is enough to make one.
    server.behave(|asked| match asked.line.split(' ').next() {
        Some("GET") => Manner::json("404 Not Found", "{\"status\":404,\"code\":\"charge_not_found\"}"),
        _ => Manner::json("201 Created", "{\"outcome\":\"succeeded\"}"),
    });
    let id = pending["id"].as_str().unwrap();
    eventually("the settled order", || async {
        (app.get(&format!("/v1/orders/{id}"), &acme.key).await.ok(200)["status"] == "paid").then_some(())
    })
    .await;
    assert_eq!(keys(&server), BTreeSet::from([id.to_owned()]), "all tries are one charge");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_provider_is_a_402_that_quotes_nothing_of_it() {
    let server =
        Hostile::start(Manner::json("402 Payment Required", "{\"outcome\":\"declined\",\"why\":\"canary-402\"}")).await;
    let (app, acme, oak) = shop(&server).await;
    for (n, status) in ["402 Payment Required", "400 Bad Request", "422 Unprocessable Entity"].iter().enumerate() {
        server.behave(move |_| Manner::json(status, "{\"outcome\":\"declined\",\"why\":\"canary-402\"}"));
        let answer: Answer = place(&app, &acme, &format!("k-{n}"), &order(&oak, 1, "tok_ok")).await;
        let problem = answer.problem(402, "payment_declined");
        assert!(!problem.to_string().contains("canary-402"));
    }
    let product: Value = app.get(&format!("/v1/products/{oak}"), &acme.key).await.ok(200);
    assert_eq!(product["stock"], json!(10), "the stock is back");
    app.stop().await;
}

/// The first try charged and its answer was lost; the second met something else on the way.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_the_providers_is_no_decline() {
    let server = Hostile::start(Manner::Silent).await;
    for status in ["404 Not Found", "405 Method Not Allowed", "413 Content Too Large", "431 Too Large"] {
        let (app, acme, oak) = shop(&server).await;
        let first = std::sync::atomic::AtomicBool::new(true);
        server.behave(move |_| match first.swap(false, Relaxed) {
            true => Manner::json("502 Bad Gateway", "charged, and the answer was lost"),
            false => Manner::answer(status, "text/html", "<html>nginx</html>"),
        });
        let answer = place(&app, &acme, "k-1", &order(&oak, 1, "tok_ok")).await;
        assert_eq!(answer.status, 202, "{status} in HTML says nothing of the charge: {}", answer.text);
        app.stop().await;
    }
}
