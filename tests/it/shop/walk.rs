//! The whole of the example in one walk, as a client would take it.

use serde_json::json;

use crate::support::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_walks_through_the_shop() {
    let app = TestApp::start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);

    let tenant = app.get("/v1/tenant", &acme.key).await.ok(200);
    assert_eq!((&tenant["slug"], &tenant["id"]), (&json!("acme"), &json!(acme.id)));

    let body =
        json!({"sku": "OAK-1", "name": "Oak plank", "price": {"amount_minor": 1999, "currency": "EUR"}, "stock": 10});
    let created = app.post("/v1/products", &acme.key, &body).await;
    let product = created.ok(201);
    let path = created.header("location").to_owned();
    assert_eq!(path, format!("/v1/products/{}", product["id"].as_str().unwrap()));
    assert_eq!(product["price"], body["price"]);
    assert_eq!(product["description"], json!(null));

    assert_eq!(app.get(&path, &acme.key).await.ok(200), product);
    assert_eq!(app.get(&path, &acme.read_key).await.ok(200), product, "from the cache");
    assert_eq!(app.patch(&path, &acme.key, &json!({})).await.ok(200), product, "an empty patch changes nothing");
    let changed = app.patch(&path, &acme.key, &json!({"stock": 7, "description": "Long"})).await.ok(200);
    assert_eq!(
        (&changed["stock"], &changed["description"], &changed["name"]),
        (&json!(7), &json!("Long"), &json!("Oak plank"))
    );
    assert_eq!(app.get(&path, &acme.key).await.ok(200), changed, "the cache forgot the old one");
    assert_eq!(app.patch(&path, &acme.key, &json!({"description": null})).await.ok(200)["description"], json!(null));

    app.post("/v1/products", &acme.key, &body).await.problem(409, "product_sku_taken");
    app.post("/v1/products", &globex.key, &body).await.ok(201);
    app.get(&path, &globex.key).await.problem(404, "product_not_found");
    app.get(&path, "").await.problem(401, "missing_api_key");
    app.get(&path, "ak_wrong").await.problem(401, "invalid_api_key");
    app.delete(&path, &acme.read_key).await.problem(403, "missing_scope");
    let refused =
        app.patch(&path, &acme.key, &json!({"stock": -1, "name": ""})).await.problem(422, "validation_failed");
    let fields: Vec<_> =
        refused["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["name", "stock"]);

    let user = json!({"email": "ada@example.com", "name": "Ada", "source": "web"});
    let created = app.post("/v1/users", &acme.key, &user).await;
    created.ok(201);
    assert_eq!(app.get(created.header("location"), &acme.key).await.ok(200)["email"], "ada@example.com");

    assert_eq!(app.delete(&path, &acme.key).await.status, 204);
    app.get(&path, &acme.key).await.problem(404, "product_not_found");
    app.delete(&path, &acme.key).await.problem(404, "product_not_found");
    app.stop().await;
}
