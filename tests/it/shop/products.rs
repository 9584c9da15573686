//! Lists and patches of products, beyond the walk.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{TestApp, client::Tenant, sinks::SHARED};

fn product(sku: &str) -> Value {
    json!({"sku": sku, "name": "Plank", "price": {"amount_minor": 1, "currency": "EUR"}, "stock": 1})
}

async fn pages(app: &TestApp, tenant: &Tenant, limit: usize) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut query = format!("?limit={limit}");
    loop {
        let page = app.get(&format!("/v1/products{query}"), &tenant.key).await.ok(200);
        pages.push(
            page["data"].as_array().unwrap().iter().map(|item| item["sku"].as_str().unwrap().to_owned()).collect(),
        );
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit={limit}&cursor={cursor}"),
            None => return pages,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_product_exactly_once_whatever_their_size() {
    let app = TestApp::start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    for n in 0..25 {
        app.post("/v1/products", &acme.key, &product(&format!("A-{n:02}"))).await.ok(201);
    }
    app.post("/v1/products", &globex.key, &product("G-1")).await.ok(201);
    for limit in [1, 5, 7, 24, 25, 26, 100] {
        let pages = pages(&app, &acme, limit).await;
        assert_eq!(pages.len(), 25_usize.div_ceil(limit), "no empty last page at limit {limit}");
        let all: Vec<_> = pages.concat();
        assert_eq!(all.len(), 25);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 25);
        assert!(all.is_sorted(), "oldest first");
    }
    let first = app.get("/v1/products?limit=1", &acme.key).await.ok(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    app.get(&format!("/v1/products?cursor={cursor}"), &globex.key).await.problem(400, "invalid_cursor");
    app.get(&format!("/v1/users?cursor={cursor}"), &acme.key).await.problem(400, "invalid_cursor");
    assert_eq!(
        app.get("/v1/products", &acme.key).await.ok(200)["data"].as_array().unwrap().len(),
        20,
        "the default limit"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_a_base_path_the_location_leads_to_what_was_made() {
    let app = TestApp::with(&[("APP__HTTP__BASE_PATH", "/billing")]).await;
    let acme = app.tenant("acme").await;
    let created = app.post("/billing/v1/products", &acme.key, &product("A-1")).await;
    let location = created.header("location").to_owned();
    assert!(location.starts_with("/billing/v1/products/"), "{location}");
    assert_eq!(app.get(&location, &acme.key).await.ok(200), created.ok(201));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_writes_what_it_names_and_nothing_else() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let created = app.post("/v1/products", &acme.key, &product("A-1")).await;
    let (path, mut expected) = (created.header("location").to_owned(), created.ok(201));
    let patches = [
        json!({"sku": "A-2"}),
        json!({"name": "Board"}),
        json!({"description": "Oak"}),
        json!({"price": {"amount_minor": 250, "currency": "USD"}}),
        json!({"stock": 0}),
        json!({"sku": "A-3", "stock": 9, "description": null}),
    ];
    for patch in patches {
        let changed = app.patch(&path, &acme.key, &patch).await.ok(200);
        for (field, value) in patch.as_object().unwrap() {
            expected[field] = value.clone();
        }
        assert!(changed["updated_at"].as_str() > expected["updated_at"].as_str());
        expected["updated_at"] = changed["updated_at"].clone();
        assert_eq!(changed, expected, "after {patch}");
        assert_eq!(app.get(&path, &acme.key).await.ok(200), expected);
    }
    let nothing = app.patch(&path, &acme.key, &json!({})).await;
    assert_eq!(nothing.ok(200), expected, "not even updated_at");
    let lines = SHARED.logs("request_id", nothing.header("x-request-id")).await;
    assert!(lines.iter().any(|line| line["message"] == "product_update_noop"), "{lines:#?}");
    app.post("/v1/products", &acme.key, &product("B-1")).await.ok(201);
    app.patch(&path, &acme.key, &json!({"sku": "B-1"})).await.problem(409, "product_sku_taken");
    app.patch("/v1/products/00000000-0000-0000-0000-000000000000", &acme.key, &json!({"stock": 1}))
        .await
        .problem(404, "product_not_found");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_and_a_delete_at_once_never_bring_a_product_back() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    for n in 0..20 {
        let path = app.post("/v1/products", &acme.key, &product(&format!("A-{n}"))).await.header("location").to_owned();
        app.get(&path, &acme.key).await.ok(200);
        let stock = json!({"stock": 5});
        let (patched, deleted) = tokio::join!(app.patch(&path, &acme.key, &stock), app.delete(&path, &acme.key));
        assert!(matches!(patched.status, 200 | 404), "{}", patched.text);
        assert_eq!(deleted.status, 204, "{}", deleted.text);
        app.get(&path, &acme.key).await.problem(404, "product_not_found");
    }
    app.stop().await;
}
