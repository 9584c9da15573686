//! ASVS 16.5.3, and what is trusted that should not be: without its database the service lets nobody in, and
//! what Redis says is not taken for a tenant's without a look. `platform::cache` shows values that can't be
//! read, and `platform::lifecycle` what readiness says of a lost database.

use redis::AsyncCommands as _;
use reqwest::Method;
use serde_json::json;

use crate::support::{
    Answer, eventually, services,
    things::{self, make, thing},
};

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_no_key_opens_anything() {
    let app = super::start_with_things().await;
    let (known, fresh) = (app.tenant("known").await, app.tenant("fresh").await);
    let once = async |key: &str| {
        let request = app.request(Method::POST, things::ONCE, &known.key).header("idempotency-key", key);
        Answer::of(request.json(&thing("oak"))).await
    };
    let first = once("k-1").await;
    first.ok(201);
    let path = first.header("location").to_owned();
    services::drop_database(&app.database).await;
    for _ in 0..5 {
        for key in [&fresh.key, &fresh.read_key, &format!("{}x", &known.key[..known.key.len() - 1])] {
            for path in ["/v1/tenant", things::PATH, &path] {
                let answer = app.get(path, key).await;
                assert!([401, 503].contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
            }
        }
        // Who is known for a moment longer gets no effect and no replay.
        for key in ["k-1", "k-2"] {
            let answer = once(key).await;
            assert!([500, 503, 504].contains(&answer.status), "{} {}", answer.status, answer.text);
        }
        let answer = app.patch(&path, &known.key, &json!({"amount": 2})).await;
        assert!(answer.status >= 500, "{}", answer.text);
    }
    eventually("readiness ends", || async { (app.admin.get("/health/ready", "").await.status == 503).then_some(()) })
        .await;
    app.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_another_tenant_or_id_under_this_key_is_not_served() {
    let app = super::start_with_things().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (path, mine) = make(&app, &acme, "mine").await;
    let (_, other) = make(&app, &acme, "other").await;
    let (_, theirs) = make(&app, &globex, "theirs").await;
    let client = redis::Client::open(services::variable("REDIS_URL")).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let key = |tenant, thing: &serde_json::Value| {
        format!("{}:v2:{{{tenant}}}:thing:{}", app.config.redis.key_prefix, thing["id"].as_str().unwrap())
    };
    for (owner, foreign) in [(&globex, &theirs), (&acme, &other)] {
        app.get(&format!("{}/{}", things::PATH, foreign["id"].as_str().unwrap()), &owner.key).await.ok(200);
        let cached: String = redis.get(key(owner.id, foreign)).await.unwrap();
        let () = redis.set(key(acme.id, &mine), cached).await.unwrap();
        assert_eq!(app.get(&path, &acme.key).await.ok(200), mine);
        let () = redis.del(key(acme.id, &mine)).await.unwrap();
    }
    app.stop().await;
}
