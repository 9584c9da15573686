//! Users, beyond the walk.

use serde_json::json;

use crate::support::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_taken_once_in_a_tenant_in_any_case_and_free_in_the_next() {
    let app = TestApp::start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let ada = json!({"email": "ada@example.com", "name": "Ada", "source": "web"});
    app.post("/v1/users", &acme.key, &ada).await.ok(201);
    let loud = json!({"email": "ADA@Example.com", "name": "Ada", "source": "web"});
    app.post("/v1/users", &acme.key, &loud).await.problem(409, "user_email_taken");
    app.post("/v1/users", &globex.key, &ada).await.ok(201);
    let list = app.get("/v1/users", &acme.read_key).await.ok(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(list["next_cursor"], json!(null));
    // Counted at the point of success: the refused one is not.
    let own = format!("tenant=\"{}\"", acme.id);
    assert_eq!(app.metric("shop_user_signups_total", &[&own, "source=\"web\""]).await, 1.0);
    assert_eq!(app.metric("shop_active_users", &[]).await, 3.0, "two keys of acme, one of globex");
    assert_eq!(app.metric("api_requests_total", &[&own, "http_route=\"/v1/users\""]).await, 3.0);
    app.stop().await;
}
