//! The connection breaks between a COMMIT and its answer: nobody knows whether the order is placed, or paid. The same
//! idempotency key tells.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    chaos::{Row, postgres::World},
    support::{Answer, eventually, harness::Mode, services},
};

/// Which COMMIT of an order is cut off.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    Reserve,
    Settle,
}

struct Outcome {
    first: u16,
    replay: u16,
    orders: usize,
    charges: usize,
    stock: i64,
    settled: Duration,
}

async fn cut(world: &World, at: Cut, number: usize) -> Outcome {
    let World { app, proxy, tenant, .. } = world;
    let body = json!({"sku": format!("P-{number}"), "name": "Plank", "stock": 10,
                      "price": {"amount_minor": 100, "currency": "EUR"}});
    let product = app.post("/v1/products", &tenant.key, &body).await.ok(201)["id"].clone();
    let order = json!({"lines": [{"product_id": product, "quantity": 1}], "payment_method": "tok_slow"});
    let key = format!("cut-{number}");
    let place = || app.request(Method::POST, "/v1/orders", &tenant.key).header("idempotency-key", &key).json(&order);
    let known = app.charges().await.len();
    if at == Cut::Reserve {
        proxy.set(Mode::CutOn(b"commit".to_vec()));
    }
    let placing = tokio::spawn(Answer::of(place()));
    if at == Cut::Settle {
        // The provider takes most of a second to answer: the next COMMIT is the one that settles.
        eventually("the charge", || async { (app.charges().await.len() > known).then_some(()) }).await;
        proxy.set(Mode::CutOn(b"commit".to_vec()));
    }
    let first = placing.await.unwrap();
    proxy.cut().await;
    assert!(first.status / 100 == 2 || !first.header("retry-after").is_empty(), "{first:?}");
    let asked = std::time::Instant::now();
    let replay = eventually("the replay of the answer", || async {
        let answer = Answer::of(place()).await;
        let (status, code) = (answer.status, answer.json()["code"].clone());
        let again = status == 503 || code == "idempotency_key_in_progress";
        assert!(again || status / 100 == 2, "{answer:?}");
        (!again).then_some(answer)
    })
    .await;
    let path = format!("/v1/orders/{}", replay.json()["id"].as_str().unwrap());
    let settled = |order: &Value| order["status"] == "paid";
    eventually("the order is paid", || async { settled(&app.get(&path, &tenant.key).await.ok(200)).then_some(()) })
        .await;
    let settled = asked.elapsed();
    let orders = app.get("/v1/orders?limit=100", &tenant.key).await.ok(200)["data"].clone();
    let of_key = |order: &&Value| order["lines"][0]["product_id"] == product;
    let product = app.get(&format!("/v1/products/{}", product.as_str().unwrap()), &tenant.key).await.ok(200);
    Outcome {
        first: first.status,
        replay: replay.status,
        orders: orders.as_array().unwrap().iter().filter(of_key).count(),
        charges: app.charges().await.len() - known,
        stock: product["stock"].as_i64().unwrap(),
        settled,
    }
}

pub async fn run(full: bool) {
    // The jobs of the system role commit all the time: only the runtime role goes through the proxy.
    let world = World::with(full, &services::database().await, &["DATABASE_URL"]).await;
    let rounds = if full { 10 } else { 1 };
    for (index, (at, number, name)) in
        [(Cut::Reserve, "4h1", "that places"), (Cut::Settle, "4h2", "that settles")].into_iter().enumerate()
    {
        let mut outcomes = Vec::new();
        for round in 0..rounds {
            outcomes.push(cut(&world, at, index * rounds + round).await);
        }
        let right = |outcome: &&Outcome| (outcome.orders, outcome.charges, outcome.stock) == (1, 1, 9);
        let statuses = |of: fn(&Outcome) -> u16| {
            let mut all: Vec<_> = outcomes.iter().map(of).collect();
            all.sort_unstable();
            all.dedup();
            format!("{all:?}")
        };
        let right = outcomes.iter().filter(right).count();
        let longest = outcomes.iter().map(|outcome| outcome.settled).max().unwrap();
        Row {
            number,
            fault: format!("connection cut between the COMMIT {name} an order and its answer, {rounds} times"),
            expected: "503 or 2xx; a replay tells the truth; one order, one charge".to_owned(),
            seen: format!(
                "first answers {}, replays {}; {right} of {rounds} with one order, one charge, stock less one",
                statuses(|outcome| outcome.first),
                statuses(|outcome| outcome.replay),
            ),
            recovery: format!("paid {:.1} s after", longest.as_secs_f64()),
            held: right == rounds,
        }
        .record(true);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_one_order_and_one_charge() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn full() {
    run(true).await;
}
