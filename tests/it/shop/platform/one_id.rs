//! An order that fails after the money was taken: found by one id in every signal, as `platform::one_id` has it.

use reqwest::Method;
use serde_json::json;

use crate::{
    platform::one_id::{SLOW, break_updates, is_found_in_every_signal},
    support::{Answer, TestApp},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_found_by_one_id_in_every_signal() {
    let app = TestApp::with(&[SLOW, ("APP__FAULTS__ENABLED", "true")]).await;
    let acme = app.tenant("acme").await;
    let body = json!({"sku": "A", "name": "Plank", "price": {"amount_minor": 1, "currency": "EUR"}, "stock": 5});
    let product = app.post("/v1/products", &acme.key, &body).await.ok(201)["id"].clone();
    // The money is taken and the second transaction fails: a fault of ours, after SQL, Redis and a call out.
    break_updates(&app, "orders").await;
    let order = json!({"lines": [{"product_id": product, "quantity": 1}], "payment_method": "tok_ok"});
    let request = app.request(Method::POST, "/v1/orders", &acme.key).header("idempotency-key", "k").json(&order);
    let answer = Answer::of(request).await;
    let spans = is_found_in_every_signal(&app, &acme, "/v1/orders", &answer, 8).await;
    let outbound = spans.iter().find(|seen| seen.attribute("url.template").as_deref() == Some("/charges"));
    assert!(outbound.is_some(), "no outbound span in {spans:#?}");
    app.stop().await;
}
