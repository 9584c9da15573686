//! What the example's customers do while a drill runs. Gone with the example.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    file::Load,
    traffic::{Traffic, Visitors},
};

/// Enough for any drill.
const STOCK: u32 = 1_000_000;

/// Requests a second that this adds.
pub fn requests(load: Load) -> f64 {
    match load {
        Load::None => 0.0,
        Load::Steady => 8.0,
        Load::Business => 13.0,
    }
}

pub async fn join(traffic: &mut Traffic, load: Load) {
    if load != Load::None {
        steady(traffic);
    }
    if load == Load::Business {
        orders(traffic).await;
    }
}

/// About four writes and four reads a second.
fn steady(traffic: &mut Traffic) {
    traffic.every(500, |visitors, turn| async move {
        let Some(product) = product(&visitors, turn, 10).await else { return };
        let path = format!("/v1/products/{product}");
        for look in 0..2 {
            // Of another instance, with the key of the product's tenant.
            let door = &visitors.doors[(turn + look) % visitors.doors.len()];
            Visitors::send(door.request(Method::GET, &path, visitors.key(turn))).await;
        }
        Visitors::send(visitors.request(turn, Method::DELETE, &path)).await;
    });
}

/// Five orders a second, of one product of each tenant.
async fn orders(traffic: &mut Traffic) {
    let visitors = traffic.visitors.clone();
    let mut products = Vec::new();
    for turn in 0..visitors.keys.len() {
        products.push(product(&visitors, turn, STOCK).await.expect("a product to order"));
    }
    traffic.every(200, move |visitors, turn| {
        let product = products[turn % products.len()].clone();
        async move {
            let line = json!({"product_id": product, "quantity": 1});
            let order = json!({"lines": [line], "payment_method": "tok_ok"});
            let request = visitors.request(turn, Method::POST, "/v1/orders");
            Visitors::send(request.header("idempotency-key", Uuid::now_v7().to_string()).json(&order)).await;
        }
    });
}

async fn product(visitors: &Visitors, turn: usize, stock: u32) -> Option<String> {
    let price = json!({"amount_minor": 1_999, "currency": "EUR"});
    let body: Value =
        json!({"sku": Uuid::now_v7().simple().to_string(), "name": "Oak plank", "price": price, "stock": stock});
    let made = Visitors::send(visitors.request(turn, Method::POST, "/v1/products").json(&body)).await?;
    Some(made["id"].as_str()?.to_owned())
}
