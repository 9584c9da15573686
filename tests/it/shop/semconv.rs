//! The spans of the example by the book: those of orders, and of calls to the provider.

use opentelemetry_semantic_conventions::attribute as a;
use reqwest::Method;
use serde_json::json;

use crate::{
    repo::semconv::check_spans,
    support::{Answer, TestApp},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_spans_of_an_order_are_standard_or_declared_as_ours() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let product = json!({"sku": "A", "name": "A", "price": {"amount_minor": 1, "currency": "EUR"}, "stock": 9});
    let created = app.post("/v1/products", &acme.key, &product).await;
    app.get(created.header("location"), &acme.key).await.ok(200);
    for method in ["tok_ok", "tok_error"] {
        let order = json!({"lines": [{"product_id": created.json()["id"], "quantity": 1}], "payment_method": method});
        let request = app.request(Method::POST, "/v1/orders", &acme.key).header("idempotency-key", method).json(&order);
        assert!(Answer::of(request).await.status < 300);
    }
    check_spans(&[1, 2, 3, 5], &[a::HTTP_ROUTE, a::DB_QUERY_SUMMARY, a::URL_TEMPLATE, "shop.order.id"]).await;
    app.stop().await;
}
