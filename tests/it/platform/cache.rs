//! The read-through cache: one load at a time, no stale value after a change, and no Redis needed.

use std::time::Duration;

use futures_util::future::join_all;
use keel::platform::tenancy::TenantId;
use redis::AsyncCommands as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{TestApp, app::Different, services, things::make};

async fn loads(app: &TestApp) -> f64 {
    app.metric("db_client_operation_duration_seconds_count", &["db_query_summary=\"SELECT test_things\""]).await
}

async fn redis() -> redis::aio::MultiplexedConnection {
    redis::Client::open(services::variable("REDIS_URL")).unwrap().get_multiplexed_async_connection().await.unwrap()
}

fn key(app: &TestApp, tenant: TenantId, thing: &Value) -> String {
    format!("{}:v2:{{{tenant}}}:thing:{}", app.config.redis.key_prefix, thing["id"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_misses_at_once_share_their_load() {
    let app = TestApp::with_things(&[]).await;
    let acme = app.tenant("acme").await;
    let (path, expected) = make(&app, &acme, "oak").await;
    app.get("/v1/tenant", &acme.key).await.ok(200);
    let before = loads(&app).await;
    let answers = join_all((0..100).map(|_| app.get(&path, &acme.key))).await;
    assert!(answers.iter().all(|answer| answer.ok(200) == expected));
    // Those that missed wait for one load; who missed just before it was filled starts another.
    let loaded = loads(&app).await - before;
    assert!((1.0..=5.0).contains(&loaded), "{loaded}");
    let hits = app.metric("cache_requests_total", &["outcome=\"hit\""]).await;
    let misses = app.metric("cache_requests_total", &["outcome=\"miss\""]).await;
    assert_eq!(hits + misses, 100.0);
    app.get(&path, &acme.key).await.ok(200);
    assert_eq!(app.metric("cache_requests_total", &["outcome=\"hit\""]).await, hits + 1.0);
    app.stop().await;
}

/// Without Redis every reader misses at once: exactly one of them loads.
#[tokio::test]
async fn a_hundred_readers_at_once_are_exactly_one_load() {
    use keel::platform::{cache::read_through::Caches, telemetry::metrics::Registry};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tokio::sync::Notify;
    let caches = Caches::new(None, "none", Duration::from_secs(5), &Registry::default());
    let (cache, tenant, id) = (caches.of("thing", Duration::from_secs(60)), TenantId::new(), Uuid::now_v7());
    let (loads, go_on) = (AtomicUsize::new(0), Notify::new());
    let readers = join_all((0..100).map(|_| {
        cache.get(tenant, id, || async {
            loads.fetch_add(1, Relaxed);
            go_on.notified().await;
            Ok(Some("value".to_owned()))
        })
    }));
    // Polled second: by then every reader waits for the one load.
    let (values, ()) = tokio::join!(readers, async { go_on.notify_waiters() });
    assert!(values.into_iter().all(|value| value.unwrap().as_deref() == Some("value")));
    assert_eq!(loads.load(Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_began_before_a_change_does_not_bring_the_old_value_back() {
    use keel::platform::{cache::read_through::Caches, telemetry::metrics::Registry};
    use tokio::sync::Notify;
    let app = TestApp::start().await;
    let tenant = TenantId::new();
    let caches = Caches::new(
        app.running.app.redis().cloned(),
        &app.config.redis.key_prefix,
        Duration::from_secs(5),
        &Registry::default(),
    );
    let (cache, id) = (caches.of("thing", Duration::from_secs(60)), Uuid::now_v7());
    let (reading, go_on) = (Notify::new(), Notify::new());
    // A slow reader has the old value in its hands…
    let slow = cache.get(tenant, id, || async {
        reading.notify_one();
        go_on.notified().await;
        Ok(Some("old".to_owned()))
    });
    let change = async {
        reading.notified().await;
        // …when the value changes. Who asks from now on gets the new one, at once and later.
        cache.invalidate(tenant, id).await;
        let at_once = cache.get(tenant, id, || async { Ok(Some("new".to_owned())) }).await.unwrap();
        assert_eq!(at_once.as_deref(), Some("new"), "it does not join the old load");
        go_on.notify_one();
    };
    let (old, ()) = tokio::join!(slow, change);
    assert_eq!(old.unwrap().as_deref(), Some("old"), "who asked before may get it");
    let later = cache.get(tenant, id, || async { Ok(Some("new".to_owned())) }).await.unwrap();
    assert_eq!(later.as_deref(), Some("new"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_read_is_a_miss_and_is_replaced() {
    let app = TestApp::with_things(&[]).await;
    let acme = app.tenant("acme").await;
    let (path, created) = make(&app, &acme, "oak").await;
    let key = key(&app, acme.id, &created);
    let mut redis = redis().await;
    for corrupt in ["{", "null", "{\"id\":1}", "\u{0}"] {
        let () = redis.set(&key, corrupt).await.unwrap();
        assert_eq!(app.get(&path, &acme.key).await.ok(200), created, "{corrupt}");
        let stored: String = redis.get(&key).await.unwrap();
        assert!(stored.contains("\"name\":\"oak\""), "{stored}");
    }
    assert_eq!(app.metric("cache_requests_total", &["outcome=\"error\""]).await, 4.0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_everything_works_and_readiness_says_degraded() {
    // A port where nothing listens.
    let app = TestApp::with_things(&[("REDIS_URL", "redis://127.0.0.1:1/0")]).await;
    let acme = app.tenant("acme").await;
    let (path, created) = make(&app, &acme, "oak").await;
    for _ in 0..5 {
        assert_eq!(app.get(&path, &acme.key).await.ok(200), created);
    }
    assert_eq!(app.patch(&path, &acme.key, &json!({"amount": 2})).await.ok(200)["amount"], 2);
    assert_eq!(app.get(&path, &acme.key).await.ok(200)["amount"], 2);
    crate::support::eventually("degraded", || async {
        let readiness = app.admin.get("/health/ready", "").await.ok(200);
        (readiness["status"] == "degraded" && readiness["checks"]["redis"] != "ok").then_some(())
    })
    .await;
    app.stop().await;

    let app = TestApp::with_things(&[("REDIS_URL", "")]).await;
    let acme = app.tenant("acme").await;
    let (path, created) = make(&app, &acme, "oak").await;
    assert_eq!(app.get(&path, &acme.key).await.ok(200), created, "no Redis configured is no fault");
    app.stop().await;
}

#[test]
fn keys_carry_the_tenant_and_the_version() {
    use keel::platform::cache::key::Key;
    let tenant = TenantId::from_uuid(Uuid::nil());
    let key = Key::of_tenant("keel", tenant, "product", Uuid::max());
    assert_eq!(key.as_str(), format!("keel:v2:{{{}}}:product:{}", Uuid::nil(), Uuid::max()));
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_values_expire() {
    let app = TestApp::unready(Different { things: Some(Duration::from_secs(100)), ..Default::default() }).await;
    app.ready().await;
    let acme = app.tenant("acme").await;
    let (path, created) = make(&app, &acme, "oak").await;
    app.get(&path, &acme.key).await.ok(200);
    let left: i64 = redis().await.pttl(key(&app, acme.id, &created)).await.unwrap();
    // A tenth more or less, and ten minutes for when Postgres is away.
    assert!((650_000..=710_000).contains(&left), "{left}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_refused_is_tried_again_until_it_is_taken() {
    let mut admin = redis().await;
    let user = format!("user-{}", Uuid::now_v7());
    let acl = async |admin: &mut redis::aio::MultiplexedConnection, rule: &str| {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(&user).arg("on").arg("~*").arg("+@all").arg(rule);
        let () = command.query_async(admin).await.unwrap();
    };
    acl(&mut admin, ">first-password").await;
    let mut url = reqwest::Url::parse(&services::variable("REDIS_URL")).unwrap();
    url.set_username(&user).unwrap();
    url.set_password(Some("second-password")).unwrap();
    let app = TestApp::with_things(&[("REDIS_URL", url.as_str())]).await;
    let acme = app.tenant("acme").await;
    let state = async || app.admin.get("/health/ready", "").await.ok(200)["status"].as_str().unwrap().to_owned();
    crate::support::eventually("degraded", || async { (state().await == "degraded").then_some(()) }).await;
    app.get("/v1/tenant", &acme.key).await.ok(200);
    acl(&mut admin, ">second-password").await;
    crate::support::eventually("ready", || async { (state().await == "ready").then_some(()) }).await;
    let (path, _) = make(&app, &acme, "oak").await;
    crate::support::eventually("the cache is used", || async {
        app.get(&path, &acme.key).await.ok(200);
        (app.metric("cache_requests_total", &["outcome=\"hit\""]).await > 0.0).then_some(())
    })
    .await;
    app.stop().await;
    let () = redis::cmd("ACL").arg("DELUSER").arg(&user).query_async(&mut admin).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_value_stands_in_for_a_database_that_is_away() {
    use crate::support::harness::{Mode, Proxy};
    let database = services::database().await;
    let mut settings = services::settings(&database);
    let url = reqwest::Url::parse(&settings["DATABASE_URL"]).unwrap();
    let proxy = Proxy::start(format!("127.0.0.1:{}", url.port().unwrap()).parse().unwrap()).await;
    let runtime = proxy.url(&settings.remove("DATABASE_URL").unwrap());
    let different = Different {
        settings: [("DATABASE_URL", runtime.as_str()), ("APP__AUTH__KEY_CACHE_TTL", "30s")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        database: Some(database),
        things: Some(Duration::from_secs(1)),
    };
    let app = TestApp::unready(different).await;
    app.ready().await;
    let acme = app.tenant("acme").await;
    let (path, created) = make(&app, &acme, "oak").await;
    assert_eq!(app.get(&path, &acme.key).await.ok(200), created);
    proxy.set(Mode::Refuse);
    let stale = async || app.metric("cache_requests_total", &["outcome=\"stale\""]).await;
    crate::support::eventually("its time is over", || async {
        // Fresh or not, it is the answer.
        assert_eq!(app.get(&path, &acme.key).await.ok(200), created);
        (stale().await > 0.0).then_some(())
    })
    .await;
    app.get("/v1/tenant", &acme.key).await.problem(503, "database_pool_timeout");
    proxy.set(Mode::Pass);
    crate::support::eventually("loaded again", || async {
        let before = stale().await;
        app.get(&path, &acme.key).await.ok(200);
        (stale().await <= before).then_some(())
    })
    .await;
    app.stop().await;
}
