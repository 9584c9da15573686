//! Options without surgery: a service with everything on, then each option off alone by its setting, then all of
//! them. Each time the built binary must be ready, serve, and show the signs of exactly what is on: its header or
//! route, its thread, its series, and what reached collector and Sentry by the time it has ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use reqwest::Method;
use serde_json::json;

use crate::support::{
    Answer,
    client::Client,
    collector::Collector,
    eventually,
    process::{Service, run, settings, text},
    sentry_server::SentryServer,
    services,
};

const TOKEN: &str = "a-token-of-more-than-thirty-two-characters";

/// Every option that has a switch, as its sign is called here.
const OPTIONS: [&str; 9] =
    ["faults", "jobs", "otlp-logs", "otlp-traces", "profiling", "rate-limit", "redis", "sentry", "token"];

/// What turns options off: variables, of which an empty one is removed, and the signs that go with them.
type Off = (&'static [(&'static str, &'static str)], &'static [&'static str]);

const OFF: [Off; 13] = [
    (&[], &[]),
    (&[("SENTRY_DSN", "")], &["sentry"]),
    (&[("OTEL_TRACES_EXPORTER", "none")], &["otlp-traces"]),
    (&[("OTEL_LOGS_EXPORTER", "none")], &["otlp-logs"]),
    // Logs go to a collector only where that is asked for.
    (&[("OTEL_LOGS_EXPORTER", "")], &["otlp-logs"]),
    (&[("OTEL_SDK_DISABLED", "true")], &["otlp-logs", "otlp-traces"]),
    (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], &["otlp-logs", "otlp-traces"]),
    (&[("REDIS_URL", "")], &["redis"]),
    (&[("APP__RATE_LIMIT__PER_SECOND", "0")], &["rate-limit"]),
    (&[("APP__ADMIN__PROFILING", "false")], &["profiling"]),
    (&[("APP__ADMIN__TOKEN", "")], &["token"]),
    (&[("APP__JOBS__ENABLED", "false")], &["jobs"]),
    (&[("APP__FAULTS__ENABLED", "")], &["faults"]),
];

struct Scene {
    collector: Collector,
    sentry: SentryServer,
    variables: BTreeMap<String, String>,
    key: String,
}

impl Scene {
    /// Everything is on, with receivers of its own.
    fn new(database: &str, key: &str) -> Self {
        let (collector, sentry) = (Collector::start(), SentryServer::start());
        let mut variables = settings(database);
        let dsn = sentry.dsn();
        let on = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("SENTRY_DSN", if cfg!(feature = "sentry") { &dsn } else { "" }),
            ("APP__FAULTS__ENABLED", "true"),
            ("APP__ADMIN__TOKEN", TOKEN),
            // Several of these run at once, on a busy machine.
            ("APP__DATABASE__ACQUIRE_TIMEOUT", "4s"),
        ];
        variables.extend(on.map(|(name, value)| (name.to_owned(), value.to_owned())));
        variables.retain(|_, value| !value.is_empty());
        Self { collector, sentry, variables, key: key.to_owned() }
    }

    fn set(&mut self, changes: &[(&str, &str)]) {
        for (name, value) in changes {
            self.variables.insert((*name).to_owned(), (*value).to_owned());
        }
        self.variables.retain(|_, value| !value.is_empty());
    }
}

/// One service's life; panics unless exactly the signs of `on` are seen.
async fn live(scene: Scene, on: BTreeSet<&'static str>) {
    let what = format!("with {on:?}");
    let is_on = |option: &str| on.contains(option);
    let mut service = Service::serve(&scene.variables);
    let (public, admin) = service.clients().await;
    let ready = eventually(&format!("{what}: readiness"), || async {
        let answer = admin.get("/health/ready", "").await;
        let settled = answer.json()["checks"]["redis"] == "ok" || !is_on("redis");
        (answer.status == 200 && settled).then_some(answer)
    })
    .await;
    let mut seen = BTreeSet::new();
    let mut sign = |option: &'static str, there: bool| there.then(|| seen.insert(option));

    let served = public.get("/v1/tenant", &scene.key).await;
    served.ok(200);
    sign("rate-limit", !served.header("ratelimit-limit").is_empty());
    sign("redis", ready.json()["checks"].as_object().unwrap().contains_key("redis"));
    let failed = public.post("/v1/faults/error", &scene.key, &json!({})).await;
    assert!([404, 500].contains(&failed.status), "{what}: {}", failed.text);
    sign("faults", failed.status == 500);
    let reported = failed.status == 500 && is_on("sentry");
    assert_eq!(failed.header("x-sentry-event-id").len(), if reported { 32 } else { 0 }, "{what}");
    // Out of bounds: the route is there and takes no profile.
    let profile = admin.get("/debug/pprof/profile?seconds=0", "").await;
    sign("profiling", profile.status == 400);
    let routes = ["/debug/pprof/profile?seconds=0", "/debug/pprof/profile/last", "/debug/pprof/heap"];
    for route in routes.into_iter().filter(|_| !is_on("profiling")) {
        admin.get(route, "").await.problem_without_ids(404, "route_not_found");
    }
    let level = admin.request(Method::PUT, "/log-level?ttl=1s", TOKEN).body("info");
    sign("token", Answer::of(level).await.status == 200);
    // Its loops ask the database again and again, work or none.
    let asks = ["db_query_summary=\"DELETE idempotency_keys\"", "db_query_summary=\"SELECT jobs\""];
    let metrics = eventually(&format!("{what}: jobs"), || async {
        let metrics = admin.get("/metrics", "").await.text;
        (asks.iter().all(|query| metrics.contains(query)) || !is_on("jobs")).then_some(metrics)
    })
    .await;
    sign("jobs", asks.iter().any(|query| metrics.contains(query)));
    assert_eq!(metrics.contains("db_system_name=\"redis\""), is_on("redis"), "{what}: commands to Redis");
    for (signal, option) in [("traces", "otlp-traces"), ("logs", "otlp-logs")] {
        let queue = format!("telemetry_queue_bytes{{signal=\"{signal}\"}}");
        assert_eq!(metrics.contains(&queue), is_on(option), "{what}: {queue}");
    }
    if let Some(threads) = service.threads() {
        for (thread, option) in [("sentry", "sentry"), ("otlp-traces", "otlp-traces"), ("otlp-logs", "otlp-logs")] {
            assert_eq!(threads.contains(thread), is_on(option), "{what}: the thread {thread} of {threads:?}");
        }
    }
    service.signal("TERM");
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0, "{what}: {:#?}", service.lines());
    // It has ended, so what has not arrived never will.
    sign("otlp-traces", scene.collector.spans_received() > 0);
    sign("otlp-logs", !scene.collector.logs().is_empty());
    assert_eq!(scene.sentry.events().len(), usize::from(reported), "{what}: events");
    sign("sentry", scene.sentry.connections() > 0 || (is_on("sentry") && !is_on("faults")));
    assert_eq!(seen, on, "{what}: what is seen is what is on");
}

/// A database with a tenant, and its key.
async fn tenant() -> (String, String) {
    let database = services::database().await;
    let mut variables = settings(&database);
    variables.insert("APP__DATABASE__ACQUIRE_TIMEOUT".to_owned(), "4s".to_owned());
    assert!(run(&["tenant", "create", "acme"], &variables).status.success());
    let key = run(&["api-key", "create", "--tenant", "acme", "--scope", "write", "--name", "x"], &variables);
    (database, text(&key.stdout).trim().to_owned())
}

fn built() -> BTreeSet<&'static str> {
    OPTIONS.into_iter().filter(|option| *option != "sentry" || cfg!(feature = "sentry")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_option_off_leaves_no_sign_of_it_and_every_sign_of_the_others() {
    let (database, key) = tenant().await;
    for (changes, gone) in OFF {
        let mut scene = Scene::new(&database, &key);
        scene.set(changes);
        live(scene, built().into_iter().filter(|option| !gone.contains(option)).collect()).await;
    }
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_option_off_the_service_serves() {
    let (database, key) = tenant().await;
    let mut scene = Scene::new(&database, &key);
    OFF.into_iter().for_each(|(changes, _)| scene.set(changes));
    live(scene, BTreeSet::new()).await;
    services::drop_database(&database).await;
}

#[test]
fn no_option_is_untried() {
    let tried: BTreeSet<&str> = OFF.iter().flat_map(|(_, gone)| gone.iter().copied()).collect();
    assert_eq!(tried, OPTIONS.into_iter().collect());
}

/// Row M7: no second port at all. The public one has the probes, and the container's health check asks there.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_admin_listener_there_is_no_port_no_thread_and_the_probes_are_public() {
    let (database, key) = tenant().await;
    let mut scene = Scene::new(&database, &key);
    let (bind, admin) = (services::free_address(), services::free_address());
    scene.set(&[("APP__HTTP__BIND", &bind), ("APP__ADMIN__BIND", &admin), ("APP__ADMIN__ENABLED", "false")]);
    let mut service = Service::serve(&scene.variables);
    let started = service.line("service_starting").await;
    assert_eq!((&started["public"], started.get("admin")), (&json!(bind), None));
    let public = Client::new(format!("http://{bind}"));
    eventually("readiness", || async { (public.get("/health/ready", "").await.status == 200).then_some(()) }).await;
    public.get("/v1/tenant", &scene.key).await.ok(200);
    assert!(std::net::TcpStream::connect(&admin).is_err(), "nothing listens on {admin}");
    if let Some(threads) = service.threads() {
        assert!(!threads.contains("admin"), "{threads:?}");
    }
    public.get("/metrics", "").await.problem(404, "route_not_found");
    let asked = run(&["healthcheck"], &scene.variables);
    assert_eq!((asked.status.code(), text(&asked.stdout).trim()), (Some(0), "alive"));
    service.signal("TERM");
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
    let asked = run(&["healthcheck"], &scene.variables);
    assert!(text(&asked.stderr).contains(&format!("the public listener on {bind} does not answer")));
    services::drop_database(&database).await;
}

/// What this binary was built without is said by name, by the check and before any socket is open.
#[test]
fn asking_for_what_was_not_built_names_the_feature() {
    let cases = [
        ("sentry", cfg!(feature = "sentry"), ("SENTRY_DSN", "https://key@sentry.example.com/1"), "sentry.dsn: "),
        (
            "otlp-grpc",
            cfg!(feature = "otlp-grpc"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            "OTEL_EXPORTER_OTLP_PROTOCOL: ",
        ),
    ];
    for (feature, is_built, (name, value), key) in cases {
        let mut variables = settings("nowhere");
        variables.insert(name.to_owned(), value.to_owned());
        for command in [&["config", "check"][..], &["serve"]].into_iter().take(if is_built { 1 } else { 2 }) {
            let output = run(command, &variables);
            let said = text(&output.stderr);
            let without = format!("built without the feature `{feature}`");
            assert_eq!(output.status.code(), Some(if is_built { 0 } else { 78 }), "{said}");
            let told = said.lines().any(|line| line.contains(key) && line.contains(&without));
            assert_eq!(told, !is_built, "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_of_features_are_there_with_them_and_the_version_names_those_built() {
    let app = crate::support::TestApp::start().await;
    let features = app.admin.get("/version", "").await.ok(200)["features"].clone();
    let named = |feature: &str| features.as_array().unwrap().contains(&json!(feature));
    assert_eq!(named("api-docs"), app.get("/docs", "").await.status == 200);
    app.get("/openapi.json", "").await.ok(200);
    let profile = app.admin.get("/debug/pprof/profile?seconds=1", "").await;
    if named("cpu-profile") {
        assert_eq!(profile.status, 200);
    } else {
        profile.problem_without_ids(404, "cpu_profile_not_built");
    }
    app.stop().await;
}
