//! Products in the cache; what the cache does is in `platform::cache`.

use redis::AsyncCommands as _;
use serde_json::json;

use crate::support::{TestApp, services};

#[tokio::test(flavor = "multi_thread")]
async fn cached_products_expire_as_their_setting_says() {
    let app = TestApp::with(&[("APP__SHOP__PRODUCT_CACHE_TTL", "100s")]).await;
    let acme = app.tenant("acme").await;
    let body = json!({"sku": "A-1", "name": "Plank", "price": {"amount_minor": 1, "currency": "EUR"}, "stock": 1});
    let created = app.post("/v1/products", &acme.key, &body).await;
    let product = created.ok(201);
    app.get(created.header("location"), &acme.key).await.ok(200);
    let client = redis::Client::open(services::variable("REDIS_URL")).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let (prefix, id) = (&app.config.redis.key_prefix, product["id"].as_str().unwrap());
    let left: i64 = redis.pttl(format!("{prefix}:v2:{{{}}}:product:{id}", acme.id)).await.unwrap();
    // A tenth more or less, and ten minutes for when Postgres is away.
    assert!((650_000..=710_000).contains(&left), "{left}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_read_is_no_product() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let body = json!({"sku": "A-1", "name": "Plank", "price": {"amount_minor": 1, "currency": "EUR"}, "stock": 1});
    let created = app.post("/v1/products", &acme.key, &body).await;
    let product = created.ok(201);
    let client = redis::Client::open(services::variable("REDIS_URL")).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let (prefix, id) = (&app.config.redis.key_prefix, product["id"].as_str().unwrap());
    let key = format!("{prefix}:v2:{{{}}}:product:{id}", acme.id);
    for corrupt in ["{", "null", "{\"id\":1}", "\u{0}"] {
        let () = redis.set(&key, corrupt).await.unwrap();
        assert_eq!(app.get(created.header("location"), &acme.key).await.ok(200), product, "{corrupt}");
        let stored: String = redis.get(&key).await.unwrap();
        assert!(stored.contains("\"sku\":\"A-1\""), "{stored}");
    }
    app.stop().await;
}
