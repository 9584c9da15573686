//! `keel doctor`, on the built binary: silence where all is well, and for each fault the line that says
//! what is wrong and the way out.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::{
    collector::Collector,
    process::{run, settings, text},
    sentry_server::{Behaviour, SentryServer},
    services,
};

const SECRET: &str = "hunter2";

struct Report {
    code: Option<i32>,
    page: String,
}

impl Report {
    /// The only line of this check with this status.
    #[track_caller]
    fn line(&self, status: &str, check: &str) -> &str {
        let start = format!("{status:<4} {check} ");
        let found: Vec<&str> = self.page.lines().filter(|line| line.starts_with(&start)).collect();
        assert_eq!(found.len(), 1, "one line \"{start}\" in\n{}", self.page);
        found[0]
    }

    /// The check has failed, and its line says all of this.
    #[track_caller]
    fn failed(&self, check: &str, says: &[&str]) {
        let line = self.line("FAIL", check);
        assert_eq!(self.code, Some(1), "{}", self.page);
        assert!(line.contains("  → "), "no way out: {line}");
        for part in says {
            assert!(line.contains(part), "\"{part}\" in: {line}");
        }
    }

    fn with_status(&self, status: &str) -> Vec<&str> {
        self.page.lines().filter(|line| line.starts_with(status)).collect()
    }
}

fn doctor(variables: &BTreeMap<String, String>, arguments: &[&str]) -> Report {
    let output = run(&[&["doctor"], arguments].concat(), variables);
    let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!all.contains(SECRET), "{all}");
    Report { code: output.status.code(), page: text(&output.stdout) }
}

/// Settings of a healthy service, with some of them changed.
fn with(database: &str, changed: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut variables = settings(database);
    // Other tests use this machine too.
    variables.insert("APP__REDIS__OPERATION_TIMEOUT".to_owned(), "5s".to_owned());
    variables.extend(changed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    variables
}

fn url(variable: &str, database: &str) -> String {
    services::with_database(&services::variable(variable), database)
}

/// `url` with another password.
fn with_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (credentials, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    let user = credentials.split(':').next().unwrap();
    format!("{scheme}://{user}:{SECRET}@{host}")
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(all(feature = "otlp-grpc", feature = "sentry")), ignore = "needs `otlp-grpc` and `sentry`")]
async fn a_healthy_service_has_nothing_to_mend() {
    let database = services::database().await;
    let (collector, sentry) = (Collector::start(), SentryServer::start());
    let variables = with(
        &database,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &collector.endpoint),
            ("SENTRY_DSN", &sentry.dsn()),
        ],
    );
    let report = doctor(&variables, &[]);
    assert_eq!(report.code, Some(0), "{}", report.page);
    // The servers of this machine may be old.
    let wrong: Vec<_> =
        report.page.lines().filter(|line| !line.starts_with("ok ") && !line.starts_with("skip")).collect();
    let old = |line: &&str| ["warn postgres.server ", "warn redis "].iter().any(|start| line.starts_with(start));
    assert!(wrong.iter().all(old), "{}", report.page);
    let runtime = report.line("ok", "postgres.runtime");
    assert!(runtime.contains(&format!("/{database} as {}, Postgres ", services::role("RUNTIME"))), "{runtime}");
    assert!(runtime.ends_with(" ms"), "{runtime}");
    let checks: Vec<_> = report.page.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    let order = [
        "configuration",
        "build",
        "postgres.runtime",
        "postgres.system",
        "postgres.owner",
        "postgres.server",
        "postgres.roles",
        "postgres.timeouts",
        "postgres.rls",
        "postgres.migrations",
        "postgres.capacity",
        "postgres.clock",
        "redis",
        "redis.latency",
        "redis.writes",
        "redis.clock",
        "otlp.traces",
        "otlp.logs",
        "sentry",
    ];
    assert_eq!(checks, order);
    assert_eq!(collector.requests().len(), 2, "one export by HTTP, one by gRPC, both empty");
    assert!(collector.spans_received() == 0 && collector.faults().is_empty(), "{:?}", collector.faults());
    assert!(sentry.events().is_empty(), "no event was made up");

    let mut variables = with(&database, &[]);
    variables.remove("DATABASE_MIGRATION_URL");
    variables.remove("REDIS_URL");
    let report = doctor(&variables, &[]);
    assert_eq!((report.code, report.with_status("skip").len()), (Some(0), 5), "{}", report.page);
    assert_eq!(report.line("skip", "sentry"), "skip sentry              no SENTRY_DSN");

    let output = run(&["doctor", "--json"], &variables);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ok"], true);
    let checks = json["checks"].as_array().unwrap();
    assert!(checks.iter().any(|line| line["check"] == "postgres.rls" && line["status"] == "ok"), "{json}");
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_told_as_by_config_check_and_nothing_is_asked() {
    let mut variables = with("nowhere", &[("APP__HTTP__BIND", "nonsense"), ("REDIS_URL", "hunter2")]);
    variables.remove("DATABASE_URL");
    let output = run(&["doctor"], &variables);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{errors}");
    assert!(errors.contains("http.bind: expected") && errors.contains("3 fault(s)"), "{errors}");
    assert_eq!(errors, text(&run(&["config", "check"], &variables).stderr));
    assert!(output.stdout.is_empty() && !errors.contains(SECRET), "{errors}");
    assert_eq!(run(&["doctor", "--replicas", "0"], &variables).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "sentry"), ignore = "needs `sentry`")]
async fn with_everything_down_every_line_says_what_to_start() {
    let down = format!("postgres://keel:{SECRET}@127.0.0.1:1/keel");
    let variables = with(
        "nowhere",
        &[
            ("DATABASE_URL", &down),
            ("DATABASE_SYSTEM_URL", &down),
            ("DATABASE_MIGRATION_URL", &down),
            ("REDIS_URL", &format!("redis://:{SECRET}@127.0.0.1:1")),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization={SECRET}")),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("SENTRY_DSN", &format!("http://{SECRET}@127.0.0.1:1/42")),
        ],
    );
    let report = doctor(&variables, &[]);
    for (check, setting) in [
        ("postgres.runtime", "DATABASE_URL"),
        ("postgres.system", "DATABASE_SYSTEM_URL"),
        ("postgres.owner", "DATABASE_MIGRATION_URL"),
        ("redis", "REDIS_URL"),
        ("otlp.traces", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("otlp.logs", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("sentry", "SENTRY_DSN"),
    ] {
        report.failed(check, &["127.0.0.1:1", "refused: nothing listens there", setting]);
    }
    assert_eq!(report.with_status("FAIL").len(), 7, "what could not be asked is skipped:\n{}", report.page);
    report.line("skip", "postgres.rls");
    let json: Value = serde_json::from_slice(&run(&["doctor", "--json"], &variables).stdout).unwrap();
    assert_eq!(json["ok"], false);
    let runtime = json["checks"].as_array().unwrap().iter().find(|check| check["check"] == "postgres.runtime").unwrap();
    assert!(runtime["mend"].as_str().unwrap().contains("DATABASE_URL"), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(all(feature = "otlp-grpc", feature = "sentry")), ignore = "needs `otlp-grpc` and `sentry`")]
async fn a_server_that_never_answers_costs_no_more_than_the_timeout() {
    // The kernel takes the connections, nobody else does.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let postgres = format!("postgres://keel:{SECRET}@{address}/keel?sslmode=disable");
    let variables = with(
        "nowhere",
        &[
            ("DATABASE_URL", &postgres),
            ("DATABASE_SYSTEM_URL", &postgres),
            ("DATABASE_MIGRATION_URL", &postgres),
            ("REDIS_URL", &format!("redis://{address}")),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}")),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &format!("http://{address}")),
            ("SENTRY_DSN", &format!("http://{SECRET}@{address}/42")),
        ],
    );
    let started = Instant::now();
    let report = doctor(&variables, &["--timeout", "1"]);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    for check in ["postgres.runtime", "postgres.system", "postgres.owner", "redis", "sentry"] {
        report.failed(check, &["no answer within 1 s"]);
    }
    report.failed("otlp.traces", &["OTEL_EXPORTER_OTLP_PROTOCOL"]);
    report.line("FAIL", "otlp.logs");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_that_postgres_turns_one_away_has_its_own_words() {
    let database = services::database().await;
    let good = url("DATABASE_URL", &database);
    let cases = [
        (with_password(&good), vec!["the password is wrong", "correct user and password in DATABASE_URL"]),
        (url("DATABASE_URL", "keel_test_nowhere"), vec!["there is no such database", "createdb"]),
        (format!("postgres://keel:{SECRET}@no-such-host.invalid/keel"), vec!["no such host", "DNS"]),
        (format!("{good}?sslmode=require"), vec!["no TLS: ", "sslmode"]),
    ];
    for (wrong, says) in cases {
        let report = doctor(&with(&database, &[("DATABASE_URL", &wrong)]), &["--timeout", "20"]);
        if wrong.ends_with("sslmode=require") && !report.with_status("ok   postgres.runtime").is_empty() {
            continue; // This server speaks TLS.
        }
        report.failed("postgres.runtime", &says);
        report.line("ok", "postgres.system");
        report.line("skip", "postgres.rls");
    }
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_roles_and_missing_limits_are_named_with_the_statement_that_mends_them() {
    let database = services::database().await;
    let superuser = url("TEST_ADMIN_DATABASE_URL", &database);
    let report = doctor(&with(&database, &[("DATABASE_URL", &superuser)]), &[]);
    report.failed("postgres.roles", &["the runtime role", "superuser", "NOSUPERUSER"]);
    report.line("skip", "postgres.timeouts");

    let owner = url("DATABASE_MIGRATION_URL", &database);
    let report = doctor(&with(&database, &[("DATABASE_SYSTEM_URL", &owner)]), &[]);
    report.failed("postgres.roles", &["the system role", "owns tables", "DATABASE_MIGRATION_URL only"]);

    let system = url("DATABASE_SYSTEM_URL", &database);
    let report = doctor(&with(&database, &[("DATABASE_URL", &system)]), &[]);
    report.failed("postgres.roles", &["runtime and system are one role", "DATABASE_SYSTEM_URL"]);

    let role = services::role("RUNTIME");
    for (name, value, status) in [
        ("statement_timeout", "0", "FAIL"),
        ("lock_timeout", "0", "FAIL"),
        ("idle_in_transaction_session_timeout", "0", "FAIL"),
        ("statement_timeout", "5s", "warn"),
        ("lock_timeout", "3s", "warn"),
    ] {
        let changed = format!("{}?options=-c%20{name}%3D{value}", url("DATABASE_URL", &database));
        let report = doctor(&with(&database, &[("DATABASE_URL", &changed)]), &[]);
        let line = report.line(status, "postgres.timeouts");
        assert!(line.contains(&format!("  → alter role {role} set {name} = '")), "{line}");
        assert_eq!(report.code, Some(i32::from(status == "FAIL")), "{}", report.page);
        report.line("ok", "postgres.roles");
    }

    let changed = format!("{}?options=-c%20default_transaction_read_only%3Don", url("DATABASE_URL", &database));
    let report = doctor(&with(&database, &[("DATABASE_URL", &changed)]), &[]);
    report.failed("postgres.server", &["default_transaction_read_only"]);
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_schema_lacks_is_named() {
    let empty = services::empty_database().await;
    let report = doctor(&with(&empty, &[]), &[]);
    report.failed("postgres.migrations", &["missing: [1, 2, 3", "keel migrate"]);
    report.line("skip", "postgres.rls");
    services::drop_database(&empty).await;

    let database = services::database().await;
    let mut owner = services::connect("DATABASE_MIGRATION_URL", &database).await;
    let sql = "create table leaky (tenant_id uuid not null);
               update _sqlx_migrations set checksum = '\\x00' where version = 1;
               insert into _sqlx_migrations (version, description, success, checksum, execution_time)
               values (9999, 'later', true, '\\x00', 0)";
    owner.execute(AssertSqlSafe(sql)).await.unwrap();
    let report = doctor(&with(&database, &[]), &[]);
    report.failed("postgres.rls", &[": leaky", "select protect_tenant_table('leaky')"]);
    report.failed("postgres.migrations", &["applied with another content: [1]", "new migration"]);
    assert!(report.line("warn", "postgres.migrations").contains("not known to this binary: [9999]"));
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_that_the_server_cannot_hold_are_counted() {
    let database = services::database().await;
    let report = doctor(&with(&database, &[]), &["--replicas", "100000"]);
    report.failed("postgres.capacity", &["100000 replicas × (10 + 4) + 5 in reserve = 1400005", "max_connections = "]);
    services::connect("DATABASE_MIGRATION_URL", &database)
        .await
        .execute(AssertSqlSafe(format!("alter database {database} connection limit 20")))
        .await
        .unwrap();
    let report = doctor(&with(&database, &[]), &[]);
    assert!(report.line("warn", "postgres.capacity").contains("more than 80 % of 20"), "{}", report.page);
    services::drop_database(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "sentry"), ignore = "needs `sentry`")]
async fn redis_collector_and_sentry_are_told_apart_from_what_stands_in_for_them() {
    let database = services::database().await;
    let report = doctor(&with(&database, &[("REDIS_URL", &with_password(&services::variable("REDIS_URL")))]), &[]);
    report.failed("redis", &["the password is wrong or missing", "REDIS_URL"]);
    report.line("skip", "redis.writes");
    let report = doctor(&with(&database, &[("REDIS_URL", "redis://no-such-host.invalid")]), &["--timeout", "20"]);
    report.failed("redis", &["no such host", "DNS"]);

    let (collector, sentry) = (Collector::start(), SentryServer::start());
    collector.set(Behaviour::Refuse(401));
    sentry.set(Behaviour::Refuse(502));
    let variables =
        with(&database, &[("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()), ("SENTRY_DSN", &sentry.dsn())]);
    let report = doctor(&variables, &[]);
    report.failed("otlp.traces", &["401", "_HEADERS"]);
    assert!(report.line("warn", "sentry").contains("answers 502"), "{}", report.page);
    services::drop_database(&database).await;
}
