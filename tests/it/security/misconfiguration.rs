//! API8: what production refuses, asked of the built binary: exit code 78 before any socket, the key at
//! fault in the first words, and never the value. A refusal is one row. `platform::configuration` shows the
//! same faults inside the process, all at once and with their ways out; `platform::safety` what only the
//! database tells (roles, timeouts, unprotected tables).

use std::collections::BTreeMap;

use keel::config::FILES;

use crate::support::process;

/// Stands in each value that is wrong, and may be in no output.
const SECRET: &str = "hunter2hunter2";

/// What `serve` needs at least, in production.
fn good() -> BTreeMap<String, String> {
    let all = [
        ("APP_ENVIRONMENT", "production"),
        ("DATABASE_URL", "postgres://app:hunter2hunter2@db/keel?sslmode=verify-full"),
        ("DATABASE_SYSTEM_URL", "postgres://system:hunter2hunter2@db/keel?sslmode=verify-full"),
        ("APP__SHOP__PAYMENTS__URL", "https://payments.example.com"),
        ("APP__AUTH__PEPPER", "hunter2hunter2-and-more-up-to-thirty-two"),
    ];
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Variables (an empty value takes one away), and the key that is named.
const REFUSED: &[(&[(&str, &str)], &str)] = &[
    (&[("APP_ENVIRONMENT", "prod")], "APP_ENVIRONMENT:"),
    (&[("APP__FAULTS__ENABLED", "true")], "faults.enabled:"),
    (&[("APP__OUTBOUND__ALLOW_PRIVATE", "true")], "outbound.allow_private:"),
    (&[("APP__AUTH__PEPPER", "")], "auth.pepper:"),
    (&[("APP__AUTH__PEPPER", "hunter2hunter2")], "auth.pepper:"),
    (&[("APP__AUTH__PEPPER_FILE", "/nonexistent/hunter2hunter2")], "auth.pepper:"),
    (&[("APP__AUTH__PEPER", "hunter2hunter2")], "auth.peper:"),
    (&[("DATABASE_URL", "")], "database.url:"),
    (&[("DATABASE_URL", "mysql://hunter2hunter2@db/keel")], "database.url:"),
    (&[("DATABASE_URL", "hunter2hunter2")], "database.url:"),
    (&[("APP__DATABASE__URL", "postgres://app:hunter2hunter2@db/keel")], "database.url:"),
    (&[("DATABASE_SYSTEM_URL", "")], "database.system_url:"),
    (&[("REDIS_URL", "http://:hunter2hunter2@cache")], "redis.url:"),
    (&[("SENTRY_DSN", "hunter2hunter2")], "sentry.dsn:"),
    (&[("APP__ADMIN__BIND", "127.0.0.1:8080")], "admin.bind:"),
    (&[("APP__HTTP__BIND", "8080")], "http.bind:"),
    (&[("APP__HTTP__REQUEST_TIMEOUT", "5")], "http.request_timeout:"),
    (&[("APP__HTTP__REQUEST_TIMEOUT", "0s")], "http.request_timeout:"),
    (&[("APP__HTTP__BODY_LIMIT", "1GiB")], "http.body_limit:"),
    (&[("APP__HTTP__HEAD_TIMEOUT", "0s")], "http.head_timeout:"),
    (&[("APP__HTTP__MAX_CONNECTIONS", "0")], "http.max_connections:"),
    (&[("APP__HTTP__CORS_ORIGINS", "example.com")], "http.cors_origins:"),
    (&[("APP__HTTP__TRUST_TRACE_CONTEXT", "yes")], "http.trust_trace_context:"),
    (&[("APP__DATABASE__MAX_CONNECTIONS", "-1")], "database.max_connections:"),
    (&[("APP__DATABASE__ACQUIRE_TIMEOUT", "10s")], "database.acquire_timeout:"),
    (&[("APP__AUTH__KEY_CACHE_TTL", "1h")], "auth.key_cache_ttl:"),
    (&[("APP__ADMIN__READINESS__REQUIRES", "kafka")], "admin.readiness.requires:"),
    (&[("APP__SHOP__PAYMENTS__URL", "nowhere")], "shop.payments.url:"),
    (&[("APP__SHOP__PAYMENTS__TIMEOUT", "10s")], "shop.payments.timeout:"),
    (&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")], "OTEL_EXPORTER_OTLP_PROTOCOL:"),
    (&[("RUST_LOG", "a=b=c")], "log.filter:"),
    (&[("DATABASE_URL", "postgres://app:hunter2hunter2@db/keel")], "database.url: may be unencrypted"),
    (
        &[("DATABASE_SYSTEM_URL", "postgres://system:hunter2hunter2@db/keel?sslmode=prefer")],
        "database.system_url: may be",
    ),
    (
        &[("DATABASE_SYSTEM_URL", "postgres://app:hunter2hunter2@db/keel?sslmode=require")],
        "database.system_url: the role of database.url",
    ),
    (&[("DATABASE_MIGRATION_URL", "postgres://owner:hunter2hunter2@db/keel")], "database.migration_url:"),
    (&[("REDIS_URL", "redis://:hunter2hunter2@cache")], "redis.url: unencrypted"),
    (&[("APP__AUTH__PEPPER", "hunter2hunter2hunter2hunter2hunter2hunter2")], "auth.pepper: can be guessed"),
    (&[("APP__AUTH__PREVIOUS_PEPPER", "hunter2hunter2hunter2hunter2hunter2hunter2")], "auth.previous_pepper:"),
    (&[("APP__ADMIN__TOKEN", "hunter2hunter2")], "admin.token: must be at least 32"),
    (&[("APP__ADMIN__TOKEN", "hunter2hunter2-and-more-up-to-thirty-two")], "admin.token: is the pepper"),
    (&[("APP__HTTP__CORS_ORIGINS", "*")], "http.cors_origins: \"*\""),
    (&[("APP__HTTP__SERVER_TIMING", "true")], "http.server_timing:"),
    (&[("APP__LOG__FORMAT", "pretty")], "log.format:"),
    (&[("RUST_LOG", "info,trace")], "log.filter: trace"),
    (&[("APP__RATE_LIMIT__PER_SECOND", "0")], "rate_limit.per_second:"),
    (&[("SENTRY_DSN", "http://hunter2hunter2@sentry.example.com/1")], "sentry.dsn: sends"),
    (&[("APP__SHOP__PAYMENTS__URL", "http://127.0.0.1:9090")], "shop.payments.url: takes money"),
    (
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2hunter2"),
        ],
        "OTEL_EXPORTER_OTLP_HEADERS:",
    ),
    (&[("APP__HTTP__TRUSTED_PROXIES", "10.0.0.0/33")], "http.trusted_proxies:"),
    (&[("APP__HTTP__BODY_TIMEOUT", "10s")], "http.body_timeout:"),
    (&[("APP__HTTP__BODY_MEMORY", "1KiB")], "http.body_memory:"),
    (&[("APP__LIFECYCLE__DEAD_AFTER", "2s")], "lifecycle.dead_after:"),
];

fn checked(change: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut variables = good();
    for (name, value) in change {
        if value.is_empty() {
            variables.remove(*name);
        } else {
            variables.insert((*name).to_owned(), (*value).to_owned());
        }
    }
    let output = process::run(&["config", "check"], &variables);
    (output.status.code(), process::text(&output.stdout), process::text(&output.stderr))
}

#[test]
fn production_refuses_every_row_by_its_key_and_shows_no_value() {
    let (code, _, errors) = checked(&[]);
    assert_eq!(code, Some(0), "what the rows change is good: {errors}");
    assert!(!errors.contains(SECRET), "{errors}");
    let mut wrong = Vec::new();
    for (change, key) in REFUSED {
        let (code, printed, errors) = checked(change);
        let named = errors.lines().any(|line| line.trim_start_matches("configuration: ").starts_with(key));
        if code != Some(78) || !named || errors.contains(SECRET) || !printed.is_empty() {
            wrong.push(format!("{change:?}: exit {code:?}, expected {key} in:\n{errors}{printed}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each of them alone is a fault; together they are reported together.
#[test]
fn all_that_is_wrong_is_said_at_once() {
    let all: Vec<_> = ["APP__FAULTS__ENABLED", "APP__OUTBOUND__ALLOW_PRIVATE"].map(|name| (name, "true")).into();
    let (code, _, errors) = checked(&[all, vec![("APP__AUTH__PEPPER", SECRET)]].concat());
    assert_eq!(code, Some(78));
    for key in ["faults.enabled:", "outbound.allow_private:", "auth.pepper:", "3 fault(s)"] {
        assert!(errors.contains(key), "{key} in {errors}");
    }
    assert!(!errors.contains(SECRET), "{errors}");
}

/// Values that are shown when they are wrong, but for what stands before the `@`.
fn quotes(name: &str) {
    let (code, _, errors) = checked(&[(name, "ftp://keel:hunter2hunter2@payments.example.com")]);
    assert_eq!(code, Some(78), "{name}: {errors}");
    assert!(!errors.contains(SECRET), "{name}: {errors}");
}

#[test]
fn an_address_with_a_password_in_it_is_not_quoted_when_it_is_wrong() {
    quotes("OTEL_EXPORTER_OTLP_ENDPOINT");
    quotes("OTEL_EXPORTER_OTLP_HEADERS");
    quotes("APP__SHOP__PAYMENTS__URL");
}

#[test]
fn no_committed_file_holds_a_secret_but_the_one_of_the_tests() {
    for (name, text) in FILES.iter().filter(|(name, _)| *name != "test") {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let secret = ["pepper", "token", "dsn", "url", "system_url", "migration_url"];
            let Some((key, value)) = line.split_once(" = ").filter(|(key, _)| secret.contains(key)) else { continue };
            // The address of the shop's payment provider is no secret.
            assert!(value == "\"\"" || value.starts_with("\"http://127.0.0.1"), "config/{name}.toml: {key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_a_browser_elsewhere_gets_nothing_and_no_header_tells_what_runs_here() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    for (method, expected) in [(reqwest::Method::GET, 200), (reqwest::Method::OPTIONS, 405)] {
        let request = app.request(method, "/v1/tenant", &acme.key).header("origin", "https://evil.example");
        let answer = crate::support::Answer::of(request.header("access-control-request-method", "GET")).await;
        assert_eq!(answer.status, expected, "{}", answer.text);
        let cors = answer.headers.keys().filter(|name| name.as_str().starts_with("access-control-"));
        assert_eq!(cors.count(), 0, "{:?}", answer.headers);
    }
    for path in ["/v1/tenant", "/v1/nothing", "/docs", "/openapi.json", "/health/live"] {
        let answer = app.get(path, &acme.key).await;
        for name in ["server", "x-powered-by", "via", "server-timing"] {
            assert_eq!(answer.header(name), "", "{path}: {name}");
        }
    }
    app.stop().await;
}
