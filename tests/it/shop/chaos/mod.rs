//! What only the example brings to the rows of `chaos`: rows of its own, and orders and products in the load of others.

mod isolation;
mod postgres;

use std::net::SocketAddr;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    chaos::fleet::SOON,
    support::{
        client::Client,
        harness::{Outcome, exchange, get, post},
    },
};

/// The body of a new product, and enough of it for any number of orders.
fn product() -> Value {
    let price = json!({"amount_minor": 100, "currency": "EUR"});
    json!({"sku": Uuid::now_v7().simple().to_string(), "name": "Oak", "price": price, "stock": 1_000_000_000})
}

async fn new_products(at: SocketAddr, key: &str, count: usize) -> Vec<String> {
    let client = Client::new(format!("http://{at}"));
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(client.post("/v1/products", key, &product()).await.ok(201)["id"].as_str().unwrap().to_owned());
    }
    ids
}

/// Reads of some products.
pub async fn products(at: SocketAddr, key: &str) -> impl Fn(u64) -> Vec<u8> + Send + Sync + 'static {
    let (ids, key) = (new_products(at, key, 20).await, key.to_owned());
    move |number| get(&format!("/v1/products/{}", ids[number as usize % ids.len()]), &key, "keel")
}

/// Orders of one of some products, each the first and only with its idempotency key.
pub async fn orders(at: SocketAddr, key: &str) -> impl Fn(u64) -> Vec<u8> + Send + Sync + 'static {
    let (ids, key) = (new_products(at, key, 20).await, key.to_owned());
    move |number| {
        let id = &ids[number as usize % ids.len()];
        let body = json!({"lines": [{"product_id": id, "quantity": 1}], "payment_method": "tok_ok"});
        let once = Uuid::now_v7().to_string();
        exchange::post("/v1/orders", &key, &body.to_string(), &[("idempotency-key", &once)])
    }
}

/// Creates a product with a body of some 40 kB.
pub async fn upload(to: SocketAddr, key: String) -> Outcome {
    let body = post("/v1/products", &key, &format!("{}{}", product(), " ".repeat(40_000)), &[]);
    exchange::once(to, &body, SOON).await.0
}
