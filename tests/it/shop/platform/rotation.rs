//! Cursors of the example's lists, while the pepper is rotated.

use serde_json::json;

use crate::{platform::rotation::a_cursor_lives_as_long_as_its_pepper, support::TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_users_is_good_until_the_pepper_of_its_time_is_gone() {
    let app = TestApp::with(&[("APP__AUTH__KEY_CACHE_TTL", "20ms")]).await;
    let acme = app.tenant("acme").await;
    for n in 0..3 {
        let body = json!({"email": format!("n{n}.ada@example.com"), "name": "Ada", "source": "web"});
        app.post("/v1/users", &acme.key, &body).await.ok(201);
    }
    a_cursor_lives_as_long_as_its_pepper(&app, "/v1/users", &acme.key).await;
    app.stop().await;
}
