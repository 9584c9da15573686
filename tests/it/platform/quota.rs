//! Quotas of tenants: one count for all instances, a part for each while Redis is away.

use std::time::Duration;

use uuid::Uuid;

use crate::support::{
    TestApp, eventually,
    harness::{Mode, Proxy},
    services,
    sinks::SHARED,
};

/// An instance that shares database, Redis and prefix with another one.
async fn instance(database: Option<String>, prefix: &str, redis: &str) -> TestApp {
    let settings = [
        ("APP__REDIS__KEY_PREFIX", prefix),
        ("REDIS_URL", redis),
        ("APP__RATE_LIMIT__PER_SECOND", "1"),
        ("APP__RATE_LIMIT__BURST", "40"),
        ("APP__RATE_LIMIT__INSTANCES", "2"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let app = TestApp::unready(crate::support::app::Different { settings, database, ..Default::default() }).await;
    app.ready().await;
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_count_together_and_each_its_part_while_redis_is_away() {
    let upstream: redis::ConnectionInfo =
        redis::IntoConnectionInfo::into_connection_info(services::variable("REDIS_URL")).unwrap();
    let redis::ConnectionAddr::Tcp(host, port) = upstream.addr().clone() else { panic!("Redis by TCP") };
    let address = tokio::net::lookup_host((host, port)).await.unwrap().next().unwrap();
    let proxy = Proxy::start(address).await;
    let (prefix, url) = (format!("test-{}", Uuid::now_v7()), proxy.url(&services::variable("REDIS_URL")));
    let one = instance(None, &prefix, &url).await;
    let two = instance(Some(one.database.clone()), &prefix, &url).await;
    let acme = one.tenant("acme").await;
    let mut left = Vec::new();
    for n in 0..60 {
        let app = if n % 2 == 0 { &one } else { &two };
        let answer = app.get("/v1/tenant", &acme.key).await;
        if answer.status == 429 {
            assert_eq!(answer.json()["code"], "rate_limited");
            assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
            break;
        }
        answer.ok(200);
        assert_eq!(answer.header("ratelimit-limit"), "40");
        left.push(answer.header("ratelimit-remaining").parse::<u32>().unwrap());
    }
    // One comes back each second.
    assert!((40..50).contains(&left.len()), "{left:?}");
    assert!(left.windows(2).all(|pair| pair[1] + 1 == pair[0] || pair[1] >= pair[0]), "one count: {left:?}");
    let told = SHARED.logs("tenant_id", &acme.id.to_string()).await;
    let told = told.iter().filter(|line| line["message"] == "rate_limit_approached").count();
    assert_eq!(told, 2, "once by each instance");

    proxy.set(Mode::Refuse);
    let globex = one.tenant("globex").await;
    eventually("Redis is left alone", || async {
        (one.metric("circuit_breaker_open", &["dependency=\"redis\""]).await == 1.0
            && two.metric("circuit_breaker_open", &["dependency=\"redis\""]).await == 1.0)
            .then_some(())
    })
    .await;
    for app in [&one, &two] {
        let mut allowed = 0;
        while app.get("/v1/tenant", &globex.key).await.status == 200 {
            allowed += 1;
        }
        assert!((20..25).contains(&allowed), "a part each: {allowed}");
    }
    proxy.set(Mode::Pass);
    eventually("Redis is asked again", || async {
        (one.metric("circuit_breaker_open", &["dependency=\"redis\""]).await == 0.0).then_some(())
    })
    .await;
    two.running.shutdown().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_allows_exactly_its_rate_whatever_the_key_holds() {
    use keel::platform::{
        breaker::Breakers,
        cache::{Redis, quota::Quotas},
        db,
        telemetry::metrics::Registry,
        tenancy::TenantId,
    };
    let registry = Registry::default();
    let sources = keel::platform::config::Sources {
        variables: services::settings("none"),
        built_in: keel::config::FILES,
        directory: None,
    };
    let config = keel::config::load(&sources).readable().unwrap().redis;
    let operations = db::metrics::operations(&registry);
    let redis = Redis::build(&config, &SHARED.telemetry, operations, Breakers::new(&registry).of("redis"));
    let redis = redis.unwrap().unwrap();
    let prefix = format!("test-{}", Uuid::now_v7());
    let (quotas, tenant) = (Quotas::new(&redis, &prefix), TenantId::new());
    let started = std::time::Instant::now();
    let mut allowed = 0_u32;
    while started.elapsed() < Duration::from_secs(1) {
        let taken = quotas.take(tenant, 100, 10).await.unwrap();
        allowed += u32::from(taken.allowed);
        assert!(taken.allowed || taken.wait <= Duration::from_millis(11), "{taken:?}");
        assert!(taken.remaining < 10 && taken.reset <= Duration::from_millis(111), "{taken:?}");
    }
    let most = 10 + (started.elapsed().as_secs_f64() * 100.0).ceil() as u32;
    // A busy machine asks less often than it may.
    assert!((20..=most).contains(&allowed), "{allowed} of {most}");
    // What nobody of us wrote is no quota used.
    let key = format!("{prefix}:v2:{{{tenant}}}:quota");
    let client = ::redis::Client::open(services::variable("REDIS_URL")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = ::redis::cmd("SET").arg(&key).arg("nonsense").query_async(&mut connection).await.unwrap();
    assert!(quotas.take(tenant, 100, 10).await.unwrap().allowed);
}
