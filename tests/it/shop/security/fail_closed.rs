//! ASVS 16.5.3: without its database the service takes no order and repeats none, and what Redis says is
//! not taken for a product without a look. `security::fail_closed` has the same without the example.

use redis::AsyncCommands as _;
use reqwest::Method;
use serde_json::json;

use crate::{
    security,
    shop::orders::{order, place, product},
    support::{Answer, eventually, services},
};

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_no_key_opens_anything_and_no_order_is_placed() {
    let app = security::start().await;
    let (known, fresh) = (app.tenant("known").await, app.tenant("fresh").await);
    let oak = product(&app, &known, "OAK", 100, "EUR", 10).await;
    let body = order(&oak, 1, "tok_ok");
    let first = place(&app, &known, "k-1", &body).await;
    first.ok(201);
    services::drop_database(&app.database).await;
    for _ in 0..5 {
        for key in [&fresh.key, &fresh.read_key, &format!("{}x", &known.key[..known.key.len() - 1])] {
            for path in ["/v1/tenant", "/v1/products", &format!("/v1/products/{oak}"), "/v1/orders"] {
                let answer = app.get(path, key).await;
                assert!([401, 503].contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
            }
        }
        // Who is known for a moment longer gets no effect, no replay and no second charge.
        for key in ["k-1", "k-2"] {
            let answer = place(&app, &known, key, &body).await;
            assert!([500, 503, 504].contains(&answer.status), "{} {}", answer.status, answer.text);
        }
        let cancel = format!("{}/cancel", first.header("location"));
        let answer = Answer::of(app.request(Method::POST, &cancel, &known.key)).await;
        assert!(answer.status >= 500, "{}", answer.text);
    }
    assert_eq!(app.charges().await.len(), 1);
    eventually("readiness ends", || async { (app.admin.get("/health/ready", "").await.status == 503).then_some(()) })
        .await;
    app.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_of_another_tenant_or_id_in_the_cache_is_not_served() {
    let app = security::start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let mine = product(&app, &acme, "MINE", 100, "EUR", 10).await;
    let other = product(&app, &acme, "OTHER", 100, "EUR", 10).await;
    let theirs = product(&app, &globex, "THEIRS", 100, "EUR", 10).await;
    let client = redis::Client::open(services::variable("REDIS_URL")).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let key = |tenant, id: &str| format!("{}:v2:{{{tenant}}}:product:{id}", app.config.redis.key_prefix);
    let path = format!("/v1/products/{mine}");
    for (owner, id) in [(&globex, &theirs), (&acme, &other)] {
        app.get(&format!("/v1/products/{id}"), &owner.key).await.ok(200);
        let cached: String = redis.get(key(owner.id, id)).await.unwrap();
        let () = redis.set(key(acme.id, &mine), cached).await.unwrap();
        let answer = app.get(&path, &acme.key).await.ok(200);
        assert_eq!((&answer["id"], &answer["sku"]), (&json!(mine), &json!("MINE")));
        let () = redis.del(key(acme.id, &mine)).await.unwrap();
    }
    app.stop().await;
}
