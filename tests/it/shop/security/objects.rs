//! API1 where ids and keys are not in the path: in an order's lines, and as idempotency keys of two tenants.

use serde_json::{Value, json};

use crate::{
    security::{self, objects::visible},
    shop::orders::{order, place, product},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_id_inside_a_body_looks_like_an_unknown_one() {
    let app = security::start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let mine = product(&app, &acme, "MINE", 100, "EUR", 10).await;
    let theirs = product(&app, &globex, "THEIRS", 100, "USD", 10).await;
    // As old as theirs, so that it sorts alike.
    let unknown = uuid::Uuid::now_v7().to_string();
    app.get(&format!("/v1/products/{theirs}"), &globex.key).await.ok(200);
    for quantity in [1, 11, 1_000_000] {
        let alone = async |id: &str| place(&app, &acme, &format!("a-{id}"), &order(id, quantity, "tok_ok")).await;
        assert_eq!(visible(&alone(&theirs).await), visible(&alone(&unknown).await));
        let beside = async |id: &str| {
            let body = json!({"payment_method": "tok_ok", "lines": [
                {"product_id": mine, "quantity": 1}, {"product_id": id, "quantity": quantity}]});
            place(&app, &acme, &format!("b-{id}"), &body).await
        };
        let refused = beside(&theirs).await;
        refused.problem(422, "validation_failed");
        assert_eq!(visible(&refused), visible(&beside(&unknown).await));
    }
    for (id, owner) in [(&mine, &acme), (&theirs, &globex)] {
        let left = app.get(&format!("/v1/products/{id}"), &owner.key).await.ok(200);
        assert_eq!(left["stock"], 10, "nothing was reserved");
    }
    assert_eq!(app.charges().await, Vec::<Value>::new());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_of_two_tenants_is_two_keys_also_in_flight() {
    let app = security::start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (mine, theirs) =
        (product(&app, &acme, "A", 100, "EUR", 9).await, product(&app, &globex, "A", 100, "EUR", 9).await);
    // The slow provider holds both open at once.
    let (a, b) = (order(&mine, 1, "tok_slow"), order(&theirs, 1, "tok_slow"));
    let (first, second) = tokio::join!(place(&app, &acme, "shared", &a), place(&app, &globex, "shared", &b));
    let ids = [first.ok(201)["id"].clone(), second.ok(201)["id"].clone()];
    assert_ne!(ids[0], ids[1]);
    for (tenant, body, id) in [(&acme, &a, &ids[0]), (&globex, &b, &ids[1])] {
        let replay = place(&app, tenant, "shared", body).await;
        assert_eq!((&replay.ok(201)["id"], replay.header("idempotent-replayed")), (id, "true"));
    }
    place(&app, &globex, "shared", &a).await.problem(422, "idempotency_key_reused");
    assert_eq!(app.charges().await.len(), 2);
    app.stop().await;
}
