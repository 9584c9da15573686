//! What the example's customers do: look, buy, pay, fail to pay, change their mind. Gone with the example.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::traffic::{Site, Traffic};
use crate::support::stack::Stack;

/// What it has to meet besides what the platform's traffic meets.
pub const EXPECTED: [u16; 6] = [201, 202, 204, 402, 409, 422];

/// Adds it to what is going on.
pub fn join(mut traffic: Traffic, stack: &Stack) -> Traffic {
    // Where confirmations go.
    for slug in ["acme", "globex"] {
        stack.tenant(slug, &["--if-not-exists", "--webhook-url", &stack.shop.webhooks()]);
    }
    traffic.every(200, looks);
    traffic.every(300, buys);
    traffic.every(1_500, fails_to_pay);
    traffic.every(1_000, signs_up);
    traffic
}

async fn post(site: &Site, turn: usize, path: &str, body: &Value) -> Option<Value> {
    let request = site.at(turn).request(Method::POST, path, &site.tenant(turn).key);
    // Needed by orders only, and no other route minds.
    let request = request.header("idempotency-key", Uuid::now_v7().to_string());
    site.send(path, request.json(body)).await
}

async fn product(site: &Site, turn: usize) -> Option<String> {
    let price = json!({"amount_minor": 1_999, "currency": "EUR"});
    let body = json!({"sku": Uuid::now_v7().simple().to_string(), "name": "Oak plank", "price": price, "stock": 1_000});
    Some(post(site, turn, "/v1/products", &body).await?["id"].as_str()?.to_owned())
}

fn order(product: &str, method: &str) -> Value {
    json!({"lines": [{"product_id": product, "quantity": 1}], "payment_method": method})
}

/// From the database, then from the cache, of another instance too; changed, and gone.
async fn looks(site: Site, turn: usize) {
    let Some(id) = product(&site, turn).await else { return };
    let (path, key) = (format!("/v1/products/{id}"), site.tenant(turn).key.clone());
    for look in 0..4 {
        site.send("a product", site.at(turn + look).request(Method::GET, &path, &key)).await;
    }
    site.send("products", site.at(turn).request(Method::GET, "/v1/products?limit=5", &key)).await;
    site.send("a change", site.at(turn).request(Method::PATCH, &path, &key).json(&json!({"stock": 7}))).await;
    site.send("a change to nonsense", site.at(turn).request(Method::PATCH, &path, &key).json(&json!({"stock": -1})))
        .await;
    site.send("an end", site.at(turn).request(Method::DELETE, &path, &key)).await;
}

async fn buys(site: Site, turn: usize) {
    let Some(id) = product(&site, turn).await else { return };
    let (key, once) = (site.tenant(turn).key.clone(), Uuid::now_v7().to_string());
    let place = |method: &str| {
        site.at(turn)
            .request(Method::POST, "/v1/orders", &key)
            .header("idempotency-key", &once)
            .json(&order(&id, method))
    };
    let placed = site.send("an order", place("tok_ok")).await;
    site.send("the same order", place("tok_ok")).await;
    site.send("another order with its key", place("tok_slow")).await;
    site.send("orders", site.at(turn).request(Method::GET, "/v1/orders", &key)).await;
    let Some(order) = placed.as_ref().and_then(|order| order["id"].as_str()) else { return };
    let path = format!("/v1/orders/{order}");
    site.send("an order read", site.at(turn).request(Method::GET, &path, &key)).await;
    if turn.is_multiple_of(3) {
        site.send("a change of mind", site.at(turn).request(Method::POST, &format!("{path}/cancel"), &key)).await;
    }
}

async fn fails_to_pay(site: Site, turn: usize) {
    let Some(id) = product(&site, turn).await else { return };
    for method in ["tok_declined", "tok_error", "tok_slow", "tok_timeout", "tok_unknown"] {
        post(&site, turn, "/v1/orders", &order(&id, method)).await;
    }
    let many = json!({"lines": [{"product_id": id, "quantity": 100_000}], "payment_method": "tok_ok"});
    post(&site, turn, "/v1/orders", &many).await;
}

async fn signs_up(site: Site, turn: usize) {
    let source = ["web", "app", "partner"][turn % 3];
    let body = json!({"email": format!("{}@example.com", Uuid::now_v7()), "name": "Ada", "source": source});
    let Some(user) = post(&site, turn, "/v1/users", &body).await else { return };
    let path = format!("/v1/users/{}", user["id"].as_str().unwrap_or("none"));
    site.send("a user", site.at(turn).request(Method::GET, &path, &site.tenant(turn).key)).await;
    site.send("users", site.at(turn).request(Method::GET, "/v1/users", &site.tenant(turn).key)).await;
}
