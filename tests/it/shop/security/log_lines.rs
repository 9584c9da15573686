//! ASVS 16.4.1 on the bodies of the example; `security::log_lines` has paths, headers and bodies of any route.

use serde_json::json;

use crate::{
    security::{
        self,
        log_lines::{assert_clean, attacks},
    },
    shop::orders::{order, place},
    support::sinks::SHARED,
};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_body_of_the_example_breaks_a_line_or_is_quoted_raw() {
    let app = security::start().await;
    let acme = app.tenant("acme").await;
    for attack in attacks() {
        let product = json!({"sku": attack, "name": attack, "description": attack,
            "price": {"amount_minor": 1, "currency": attack}, "stock": 1});
        app.post("/v1/products", &acme.key, &product).await.problem(422, "validation_failed");
        let user = json!({"email": attack, "name": attack, "source": attack});
        app.post("/v1/users", &acme.key, &user).await.problem(422, "validation_failed");
        // As the name of a field, which the answer names: escaped, as JSON must be.
        let named = app.post("/v1/users", &acme.key, &json!({ attack.clone(): 1 })).await;
        named.problem(400, "malformed_json");
        assert!(!named.text.chars().any(|c| c.is_ascii_control() && c != '\u{7f}'), "{}", named.text);
        let ordered = place(&app, &acme, "k-1", &order("01890000-0000-7000-8000-00000000000a", 1, &attack)).await;
        assert_eq!(ordered.status, 422, "{}", ordered.text);
    }
    assert_clean(&SHARED.printed().await);
    app.stop().await;
}
