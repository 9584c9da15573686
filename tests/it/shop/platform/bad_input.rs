//! Bad input in the fields of a product: each case a clear 4xx, none a 5xx. What no resource takes is in
//! `platform::bad_input`.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::support::TestApp;

fn product(field: &str, value: &Value) -> Value {
    let mut body = json!({"sku": "A-1", "name": "Plank", "price": {"amount_minor": 1, "currency": "EUR"}, "stock": 1});
    body[field] = value.clone();
    body
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
        ("sku", json!("A\u{0}")),
        ("name", json!(" ")),
        ("name", long(201)),
        ("name", json!("a\u{7}b")),
        ("name", json!("N\u{0}")),
        ("description", long(2_001)),
        ("stock", json!(-1)),
        ("stock", json!(1_000_000_001)),
        ("stock", json!(i64::MAX)),
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
