//! Fields of an order's lines; `security::fields` goes over every field of the document.

use serde_json::json;

use crate::{
    security,
    shop::orders::{place, product},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_line_with_an_unknown_product_is_named_by_its_place_in_the_request() {
    let app = security::start().await;
    let acme = app.tenant("acme").await;
    let mine = product(&app, &acme, "OAK", 100, "EUR", 9).await;
    // One sorts before ours, one after.
    for unknown in ["00000000-0000-7000-8000-000000000001", "ffffffff-ffff-7fff-bfff-ffffffffffff"] {
        let body = json!({"payment_method": "tok_ok", "lines": [
            {"product_id": mine, "quantity": 1}, {"product_id": unknown, "quantity": 1}]});
        let refused = place(&app, &acme, "k-1", &body).await.problem(422, "validation_failed");
        assert_eq!(refused["errors"][0]["field"], "lines[1].product_id", "{unknown}");
    }
    app.stop().await;
}
