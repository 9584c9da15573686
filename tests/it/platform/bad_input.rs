//! Bad input: each case a clear 4xx, none a 5xx.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Answer, TestApp};

fn product(field: &str, value: &Value) -> Value {
    let mut body = json!({"sku": "A-1", "name": "Plank", "price": {"amount_minor": 1, "currency": "EUR"}, "stock": 1});
    body[field] = value.clone();
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_what_the_route_takes() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let deep = format!("{{\"sku\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let million = format!("{{\"sku\":[{}1]}}", "1,".repeat(300_000));
    let cases: [(&str, u16, &str); 17] = [
        ("", 400, "malformed_json"),
        ("{", 400, "malformed_json"),
        ("null", 400, "malformed_json"),
        ("[]", 400, "malformed_json"),
        ("{} {}", 400, "malformed_json"),
        (&deep, 400, "json_too_deep"),
        (&million, 400, "json_array_too_long"),
        (r#"{"sku":"A","sku":"B"}"#, 400, "malformed_json"),
        (r#"{"skuu":"A"}"#, 400, "malformed_json"),
        (r#"{"sku":"\ud800"}"#, 400, "malformed_json"),
        (r#"{"sku":"A","name":"N","stock":1e400,"price":{"amount_minor":1,"currency":"EUR"}}"#, 400, "malformed_json"),
        (r#"{"sku":"A","name":"N","stock":NaN,"price":{"amount_minor":1,"currency":"EUR"}}"#, 400, "malformed_json"),
        (r#"{"sku":"A","name":"N","stock":1,"price":{"amount_minor":0.1,"currency":"EUR"}}"#, 400, "malformed_json"),
        (
            r#"{"sku":"A","name":"N","stock":1,"price":{"amount_minor":9223372036854775808,"currency":"EUR"}}"#,
            400,
            "malformed_json",
        ),
        (
            r#"{"sku":"A","name":"N","stock":9223372036854775807,"price":{"amount_minor":1,"currency":"EUR"}}"#,
            422,
            "validation_failed",
        ),
        (
            r#"{"sku":"A\u0000","name":"N","stock":1,"price":{"amount_minor":1,"currency":"EUR"}}"#,
            422,
            "validation_failed",
        ),
        (
            r#"{"sku":"A","name":"N\u0000","stock":1,"price":{"amount_minor":1,"currency":"EUR"}}"#,
            422,
            "validation_failed",
        ),
    ];
    for (body, status, code) in cases {
        app.post_raw("/v1/products", &acme.key, body.to_owned()).await.problem(status, code);
    }
    let unknown =
        app.post("/v1/products", &acme.key, &product("tenant_id", &json!("x"))).await.problem(400, "malformed_json");
    assert!(unknown["errors"][0]["message"].as_str().unwrap().contains("tenant_id"), "it names the field: {unknown}");
    let quoted =
        app.post("/v1/products", &acme.key, &product("stock", &json!("hunter2"))).await.problem(400, "malformed_json");
    assert!(!quoted.to_string().contains("hunter2"), "values are not quoted back: {quoted}");
    let minus_zero = r#"{"sku":"Z","name":"N","stock":-0,"price":{"amount_minor":1,"currency":"EUR"}}"#;
    assert!(app.post_raw("/v1/products", &acme.key, minus_zero).await.status < 500);

    let invalid_utf8 = [br#"{"sku":""#.as_slice(), &[0xff, 0xfe], b"\"}"].concat();
    app.post_raw("/v1/products", &acme.key, invalid_utf8).await.problem(400, "malformed_json");
    app.post_raw("/v1/products", &acme.key, vec![b' '; (1 << 20) + 1]).await.problem(413, "body_too_large");
    for kind in ["text/plain", "application/json; charset=utf-16", "application/xml", ""] {
        let request = app.request(Method::POST, "/v1/products", &acme.key).header("content-type", kind).body("{}");
        Answer::of(request).await.problem(415, "unsupported_media_type");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_at_and_past_their_limits() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let long = |n| json!("é".repeat(n));
    let refused = [
        ("sku", json!("")),
        ("sku", json!("a b")),
        ("sku", json!("x".repeat(65))),
        ("sku", json!("ä")),
        ("name", json!(" ")),
        ("name", long(201)),
        ("name", json!("a\u{7}b")),
        ("description", long(2_001)),
        ("stock", json!(-1)),
        ("stock", json!(1_000_000_001)),
        ("price", json!({"amount_minor": -1, "currency": "EUR"})),
        ("price", json!({"amount_minor": 1_000_000_000_000_i64, "currency": "EUR"})),
        ("price", json!({"amount_minor": 1, "currency": "eur"})),
        ("price", json!({"amount_minor": 1, "currency": "XXX"})),
    ];
    for (field, value) in refused {
        let problem =
            app.post("/v1/products", &acme.key, &product(field, &value)).await.problem(422, "validation_failed");
        assert!(problem["errors"][0]["field"].as_str().unwrap().starts_with(field), "{problem}");
    }
    let kept = [
        ("sku", json!("x".repeat(64))),
        ("name", long(200)),
        ("description", long(2_000)),
        ("stock", json!(1_000_000_000)),
        ("name", json!("'; drop table products; -- \" \\ $1 %s {}")),
        ("name", json!("שלום 👩‍👩‍👧 e\u{301}")),
        ("price", json!({"amount_minor": 999_999_999_999_i64, "currency": "JPY"})),
    ];
    for (n, (field, value)) in kept.into_iter().enumerate() {
        let mut body = product(field, &value);
        if field != "sku" {
            body["sku"] = json!(format!("kept-{n}"));
        }
        let created = app.post("/v1/products", &acme.key, &body).await;
        assert_eq!(created.ok(201)[field], value, "stored verbatim");
        assert_eq!(app.get(created.header("location"), &acme.key).await.ok(200)[field], value);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_queries_that_mean_nothing() {
    let app = TestApp::start().await;
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
        let answer = app.get(&format!("/v1/products/{bad}"), &acme.key).await;
        answer.problem(400, "malformed_id");
    }
    for good in [id.to_owned(), id.to_uppercase(), "00000000-0000-0000-0000-000000000000".to_owned()] {
        app.get(&format!("/v1/products/{good}"), &acme.key).await.problem(404, "product_not_found");
    }
    for bad in ["limit=0", "limit=-1", "limit=101", "limit=1000000000"] {
        app.get(&format!("/v1/products?{bad}"), &acme.key).await.problem(400, "limit_out_of_range");
    }
    for bad in ["limit=x", "limit=", "limit=1&limit=2", "sort=price", "limit=99999999999999999999"] {
        app.get(&format!("/v1/products?{bad}"), &acme.key).await.problem(400, "malformed_query");
    }
    for bad in ["x", "%00", "AAAA", &"A".repeat(43), &"A".repeat(4_000), "é"] {
        app.get(&format!("/v1/products?cursor={bad}"), &acme.key).await.problem(400, "invalid_cursor");
    }
    assert_eq!(app.get("/v1/products/", &acme.key).await.status, 200, "a trailing slash is no other resource");
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

/// Any JSON in any field: never a 5xx.
#[test]
fn no_json_makes_the_service_fail() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (app, acme) = runtime.block_on(async {
        let app = TestApp::start().await;
        let acme = app.tenant("acme").await;
        (app, acme)
    });
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z_]{1,12}", inner, 0..4).prop_map(Value::from_iter),
        ]
    });
    let field = prop::sample::select(vec!["sku", "name", "description", "price", "stock", "id", "other"]);
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let result = runner.run(&(field, value), |(field, value)| {
        let answer = runtime.block_on(app.post("/v1/products", &acme.key, &product(field, &value)));
        prop_assert!((200..500).contains(&answer.status), "{}: {}", answer.status, answer.text);
        Ok(())
    });
    result.unwrap();
    runtime.block_on(app.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_gets_the_answer_and_not_a_reset() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let head = format!(
        "POST /v1/users HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 3000000\r\n\r\n",
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
