//! Bad input: each case a clear 4xx, none a 5xx.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    Answer, TestApp,
    things::{self, thing},
};

fn with(field: &str, value: &Value) -> Value {
    let mut body = thing("oak");
    body[field] = value.clone();
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_what_the_route_takes() {
    let app = TestApp::with_things(&[]).await;
    let acme = app.tenant("acme").await;
    let deep = format!("{{\"name\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let million = format!("{{\"name\":[{}1]}}", "1,".repeat(300_000));
    let cases: [(&str, u16, &str); 17] = [
        ("", 400, "malformed_json"),
        ("{", 400, "malformed_json"),
        ("null", 400, "malformed_json"),
        ("[]", 400, "malformed_json"),
        ("{} {}", 400, "malformed_json"),
        (&deep, 400, "json_too_deep"),
        (&million, 400, "json_array_too_long"),
        (r#"{"name":"A","name":"B"}"#, 400, "malformed_json"),
        (r#"{"namee":"A"}"#, 400, "malformed_json"),
        (r#"{"name":"\ud800"}"#, 400, "malformed_json"),
        (r#"{"name":"A","amount":1e400}"#, 400, "malformed_json"),
        (r#"{"name":"A","amount":NaN}"#, 400, "malformed_json"),
        (r#"{"name":"A","amount":0.1}"#, 400, "malformed_json"),
        (r#"{"name":"A","amount":9223372036854775808}"#, 400, "malformed_json"),
        (r#"{"name":"A","amount":9223372036854775807}"#, 422, "validation_failed"),
        (r#"{"name":"A\u0000","amount":1}"#, 422, "validation_failed"),
        (r#"{"name":"A","note":"N\u0000","amount":1}"#, 422, "validation_failed"),
    ];
    for (body, status, code) in cases {
        app.post_raw(things::PATH, &acme.key, body.to_owned()).await.problem(status, code);
    }
    let unknown =
        app.post(things::PATH, &acme.key, &with("tenant_id", &json!("x"))).await.problem(400, "malformed_json");
    assert!(unknown["errors"][0]["message"].as_str().unwrap().contains("tenant_id"), "it names the field: {unknown}");
    let quoted =
        app.post(things::PATH, &acme.key, &with("amount", &json!("hunter2"))).await.problem(400, "malformed_json");
    assert!(!quoted.to_string().contains("hunter2"), "values are not quoted back: {quoted}");
    let minus_zero = r#"{"name":"Z","amount":-0}"#;
    assert!(app.post_raw(things::PATH, &acme.key, minus_zero).await.status < 500);

    let invalid_utf8 = [br#"{"name":""#.as_slice(), &[0xff, 0xfe], b"\"}"].concat();
    app.post_raw(things::PATH, &acme.key, invalid_utf8).await.problem(400, "malformed_json");
    app.post_raw(things::PATH, &acme.key, vec![b' '; (1 << 20) + 1]).await.problem(413, "body_too_large");
    for kind in ["text/plain", "application/json; charset=utf-16", "application/xml", ""] {
        let request = app.request(Method::POST, things::PATH, &acme.key).header("content-type", kind).body("{}");
        Answer::of(request).await.problem(415, "unsupported_media_type");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_queries_that_mean_nothing() {
    let app = TestApp::with_things(&[]).await;
    let acme = app.tenant("acme").await;
    let id = "01890000-0000-7000-8000-00000000000a";
    for bad in [
        "x",
        "%00",
        "..%2f..%2fetc",
        "%c0%af",
        "%ff",
        "{01890000-0000-7000-8000-00000000000a}",
        "018900000000700080000000000000aa",
        "'%20or%201=1",
        "-1",
    ] {
        let answer = app.get(&format!("{}/{bad}", things::PATH), &acme.key).await;
        answer.problem(400, "malformed_id");
    }
    for good in [id.to_owned(), id.to_uppercase(), "00000000-0000-0000-0000-000000000000".to_owned()] {
        app.get(&format!("{}/{good}", things::PATH), &acme.key).await.problem(404, "thing_not_found");
    }
    for bad in ["limit=0", "limit=-1", "limit=101", "limit=1000000000"] {
        app.get(&format!("{}?{bad}", things::PATH), &acme.key).await.problem(400, "limit_out_of_range");
    }
    for bad in ["limit=x", "limit=", "limit=1&limit=2", "sort=price", "limit=99999999999999999999"] {
        app.get(&format!("{}?{bad}", things::PATH), &acme.key).await.problem(400, "malformed_query");
    }
    for bad in ["x", "%00", "AAAA", &"A".repeat(43), &"A".repeat(4_000), "é"] {
        app.get(&format!("{}?cursor={bad}", things::PATH), &acme.key).await.problem(400, "invalid_cursor");
    }
    assert_eq!(
        app.get(&format!("{}/", things::PATH), &acme.key).await.status,
        200,
        "a trailing slash is no other resource"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_the_caller_are_taken_over_or_replaced() {
    let app = TestApp::start().await;
    let ask = async |name: &str, value: &[u8]| {
        Answer::of(app.request(Method::GET, "/v1/tenant", "").header(name, value)).await
    };
    let kept = ask("x-request-id", b"Order-17_a.b").await;
    assert_eq!(kept.header("x-request-id"), "Order-17_a.b");
    assert_eq!(kept.header("x-correlation-id"), "Order-17_a.b", "the default of the correlation id");
    assert_eq!(ask("x-correlation-id", b"c-1").await.header("x-correlation-id"), "c-1");
    for bad in [b"".as_slice(), &[b'x'; 65], b"a b", b"{\"a\":1}", b"\xff\xfe", &[b'x'; 20_000]] {
        let answer = ask("x-request-id", bad).await;
        answer.problem(401, "missing_api_key");
        assert_eq!(answer.header("x-request-id").len(), 36, "replaced by one of ours");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_no_http_are_refused_and_the_service_lives() {
    let app = TestApp::start().await;
    let address = app.base.trim_start_matches("http://").to_owned();
    let cases: [(&[u8], &str); 7] = [
        (b"nonsense\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", "400"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello", "400"),
        (b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n", "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"),
    ];
    for (bytes, expected) in cases {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _reset_is_fine = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).unwrap_or("closed");
        assert!(status == expected || status == "closed", "{:?}: {answer}", String::from_utf8_lossy(bytes));
    }
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    app.get("/health/live", "").await.ok(200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_gets_the_answer_and_not_a_reset() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = TestApp::with_things(&[]).await;
    let acme = app.tenant("acme").await;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 3000000\r\n\r\n",
        things::PATH,
        acme.key
    );
    for _ in 0..20 {
        let stream = tokio::net::TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        write.write_all(head.as_bytes()).await.unwrap();
        // A client that looks at the answer only when all is sent, as most do.
        for _ in 0..30 {
            write.write_all(&[b' '; 100_000]).await.unwrap();
        }
        let mut answer = Vec::new();
        read.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
    }
    app.stop().await;
}
