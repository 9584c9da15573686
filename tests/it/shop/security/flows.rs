//! API6: flows that cost something, asked for too often or at once. A hundred orders for a stock of ten
//! and a hundred posts with one key are in `shop::orders`; here cancelling, racing both, and the price of
//! replays.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    shop::orders::{order, place, product},
    support::{Answer, TestApp, client::Tenant, eventually},
};

/// A busy machine is no fault of the flow.
const PATIENT: &[(&str, &str)] = &[("APP__HTTP__REQUEST_TIMEOUT", "30s"), ("APP__DATABASE__ACQUIRE_TIMEOUT", "20s")];

async fn stock(app: &TestApp, tenant: &Tenant, id: &str) -> i64 {
    app.get(&format!("/v1/products/{id}"), &tenant.key).await.ok(200)["stock"].as_i64().unwrap()
}

async fn refunds(app: &TestApp) -> usize {
    app.charges().await.iter().filter(|charge| charge["refunded"] == true).count()
}

/// All are the answer, or a wait for the row that was too long.
fn settled(answers: &[Answer], status: u16) -> usize {
    let busy =
        answers.iter().filter(|answer| answer.status == 503).inspect(|it| drop(it.problem(503, "database_busy")));
    let (busy, good) = (busy.count(), answers.iter().filter(|answer| answer.status == status).count());
    assert_eq!(busy + good, answers.len(), "{:?}", answers.iter().map(|it| it.status).collect::<Vec<_>>());
    good
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_cancels_at_once_give_stock_and_money_back_once() {
    let app = TestApp::with(PATIENT).await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 100, "EUR", 10).await;
    let placed = place(&app, &acme, "k-1", &order(&oak, 7, "tok_ok")).await;
    placed.ok(201);
    let cancel = format!("{}/cancel", placed.header("location"));
    let answers = join_all((0..100).map(|_| app.post(&cancel, &acme.key, &Value::Null))).await;
    assert!(settled(&answers, 200) >= 1);
    assert!(answers.iter().filter(|it| it.status == 200).all(|it| it.json()["status"] == "cancelled"));
    assert_eq!(stock(&app, &acme, &oak).await, 10, "restocked once");
    eventually("the refund", || async { (refunds(&app).await == 1).then_some(()) }).await;
    assert_eq!(app.metric("shop_orders_total", &["outcome=\"cancelled\""]).await, 1.0);
    assert_eq!(app.charges().await.len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_replays_race_fifty_cancels_and_the_order_is_made_and_unmade_once() {
    let app = TestApp::with(PATIENT).await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 100, "EUR", 10).await;
    let body = order(&oak, 3, "tok_ok");
    let first = place(&app, &acme, "k-1", &body).await;
    first.ok(201);
    let cancel = format!("{}/cancel", first.header("location"));
    let (replays, cancels) = tokio::join!(
        join_all((0..50).map(|_| place(&app, &acme, "k-1", &body))),
        join_all((0..50).map(|_| app.post(&cancel, &acme.key, &json!(null))))
    );
    settled(&replays, 201);
    settled(&cancels, 200);
    for replay in replays.iter().filter(|it| it.status == 201) {
        assert_eq!((&replay.text, replay.header("idempotent-replayed")), (&first.text, "true"));
    }
    assert_eq!((stock(&app, &acme, &oak).await, app.charges().await.len()), (10, 1));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_is_never_made_by_ordering_and_cancelling_at_once() {
    let app = TestApp::with(PATIENT).await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 100, "EUR", 5).await;
    let rounds = (0..40).map(|n| {
        let (app, acme, oak) = (&app, &acme, &oak);
        async move {
            let placed = place(app, acme, &format!("k-{n}"), &order(oak, 1, "tok_ok")).await;
            if placed.status == 201 {
                app.post(&format!("{}/cancel", placed.header("location")), &acme.key, &Value::Null).await;
            }
            placed.status
        }
    });
    let seen = join_all(rounds).await;
    assert!(seen.contains(&201) && seen.iter().all(|status| [201, 409, 503].contains(status)), "{seen:?}");
    // Whoever was told 503 has no order: what stands is what was paid and not cancelled.
    let orders = app.get("/v1/orders?limit=100", &acme.key).await.ok(200);
    let open = orders["data"].as_array().unwrap().iter().filter(|order| order["status"] == "paid").count();
    assert_eq!(stock(&app, &acme, &oak).await + i64::try_from(open).unwrap(), 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_are_counted_against_the_limit_like_any_request() {
    let app = TestApp::with(&[("APP__RATE_LIMIT__PER_SECOND", "1"), ("APP__RATE_LIMIT__BURST", "8")]).await;
    let acme = app.tenant("acme").await;
    let oak = product(&app, &acme, "OAK", 100, "EUR", 10).await;
    let body = order(&oak, 1, "tok_ok");
    let mut limited = 0;
    for _ in 0..30 {
        let answer = place(&app, &acme, "k-1", &body).await;
        if answer.status == 429 {
            answer.problem(429, "rate_limited");
            assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
            limited += 1;
        } else {
            answer.ok(201);
        }
    }
    assert!(limited >= 10, "{limited}");
    assert_eq!(app.charges().await.len(), 1);
    app.stop().await;
}
