//! Settings: layers, faults, secrets, and the documents made of them.

use std::{collections::BTreeMap, path::Path};

use keel::{
    config::{DECLARED, FILES, load},
    platform::config::{Sources, report},
};

use crate::support::process;

fn sources(variables: &[(&str, &str)]) -> Sources {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { directory: None, variables, built_in: FILES }
}

/// What `serve` needs at least, in production.
fn production(more: &[(&str, &str)]) -> Sources {
    let mut all = vec![
        ("APP_ENVIRONMENT", "production"),
        ("DATABASE_URL", "postgres://app:pw@db/keel?sslmode=verify-full"),
        ("DATABASE_SYSTEM_URL", "postgres://system:pw@db/keel?sslmode=verify-full"),
        ("APP__SHOP__PAYMENTS__URL", "https://payments.example.com"),
        ("APP__AUTH__PEPPER", "a-pepper-of-more-than-thirty-two-characters"),
    ];
    all.extend(more);
    sources(&all)
}

fn faults(sources: &Sources) -> Vec<String> {
    load(sources).servable().err().map(|faults| faults.lines().to_vec()).unwrap_or_default()
}

#[test]
fn later_layers_win_and_each_value_knows_its_source() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("default.toml"), FILES[0].1).unwrap();
    std::fs::write(directory.path().join("production.toml"), "[http]\nbody_limit = \"2MiB\"\nmax_connections = 7\n")
        .unwrap();
    let mut sources =
        production(&[("APP__HTTP__MAX_CONNECTIONS", "9"), ("RUST_LOG", "debug"), ("OTEL_SERVICE_NAME", "billing")]);
    sources.directory = Some(directory.path().to_owned());
    let loaded = load(&sources);
    let shown = report::show(&loaded.merged, DECLARED);
    assert!(shown.contains("request_timeout = \"5s\"  # config/default.toml"), "{shown}");
    assert!(shown.contains("body_limit = \"2MiB\"  # config/production.toml"), "{shown}");
    assert!(shown.contains("max_connections = \"9\"  # environment variable APP__HTTP__MAX_CONNECTIONS"), "{shown}");
    assert!(shown.contains("filter = \"debug\"  # environment variable RUST_LOG"), "{shown}");
    assert!(!shown.contains("pw@db") && !shown.contains("thirty-two"), "{shown}");
    let config = loaded.servable().unwrap();
    assert_eq!((config.http.max_connections, config.http.body_limit.0), (9, 2 << 20));
    assert_eq!((config.log.filter.as_str(), config.service.name.as_str()), ("debug", "billing"));
}

#[test]
fn all_faults_are_reported_at_once_each_with_the_way_out() {
    let found = faults(&sources(&[
        ("APP_ENVIRONMENT", "prod"),
        ("APP__HTTP__BIND", "8080"),
        ("APP__HTTP__REQUEST_TIMEOUT", "5"),
        ("APP__HTTP__BODY_LIMIT", "1MB"),
        ("APP__HTTP__MAX_CONECTIONS", "5"),
        ("APP__DATABASE__MAX_CONNECTIONS", "-1"),
        ("APP__DATABASE__SYSTEM_MAX_CONNECTIONS", "9999"),
        ("APP__FAULTS__ENABLED", "yes"),
        ("APP__ADMIN__READINESS__REQUIRES", "postgres,kafka"),
        ("APP__LOG__FORMAT", "xml"),
    ]));
    let expect = [
        "APP_ENVIRONMENT: expected development, test, staging or production, got \"prod\"",
        "http.bind: expected an address and a port such as 127.0.0.1:8080 or [::]:8080, got \"8080\" (from environment variable APP__HTTP__BIND)",
        "http.request_timeout: expected a duration with its unit",
        "http.body_limit: expected a size with its unit",
        "http.max_conections: unknown key (from environment variable APP__HTTP__MAX_CONECTIONS); did you mean http.max_connections?",
        "database.max_connections: expected an integer",
        "database.system_max_connections: 9999 is outside 1..=100",
        "faults.enabled: expected true or false, got \"yes\"",
        "admin.readiness.requires: expected postgres or redis, got \"kafka\"",
        "log.format: expected one of json pretty, got \"xml\"",
        "database.url: missing; set DATABASE_URL",
        "database.system_url: missing; set DATABASE_SYSTEM_URL",
        "auth.pepper: missing",
    ];
    for fault in expect {
        assert!(found.iter().any(|line| line.starts_with(fault)), "{fault}\nin {found:#?}");
    }
    assert_eq!(found.len(), expect.len(), "{found:#?}");
}

#[test]
fn production_refuses_what_is_unsafe() {
    assert_eq!(faults(&production(&[])), Vec::<String>::new());
    let cases = [
        (vec![("APP__FAULTS__ENABLED", "true")], "faults.enabled: fault routes may not exist in production"),
        (vec![("APP__AUTH__PEPPER", "short")], "auth.pepper: must be at least 32 characters"),
        (vec![("DATABASE_URL", "mysql://hunter2@db/x")], "database.url: not a Postgres URL"),
        (vec![("APP__ADMIN__BIND", "127.0.0.1:8080")], "admin.bind: 127.0.0.1:8080 is also http.bind"),
        (vec![("APP__HTTP__BASE_PATH", "/billing/")], "http.base_path: expected nothing or a path"),
        (vec![("APP__HTTP__CORS_ORIGINS", "example.com")], "http.cors_origins: expected an origin"),
        (
            vec![("APP__DATABASE__URL", "postgres://hunter2@db/x")],
            "database.url: set twice, by APP__DATABASE__URL and by DATABASE_URL",
        ),
    ];
    for (variables, expected) in cases {
        let found = faults(&production(&variables));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}\nin {found:#?}");
        assert!(!found[0].contains("hunter2"), "{found:#?}");
    }
}

#[test]
fn secrets_come_from_files_and_never_stand_in_committed_ones() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pepper");
    std::fs::write(&file, "0123456789012345678901234567890123456789\n").unwrap();
    let path = file.to_str().unwrap();
    let mut sources = production(&[("APP__AUTH__PEPPER_FILE", path)]);
    assert!(faults(&sources)[0].contains("set twice"), "both forms at once");
    sources.variables.remove("APP__AUTH__PEPPER");
    let config = load(&sources).servable().unwrap();
    assert_eq!(
        config.auth.pepper.unwrap().expose(),
        "0123456789012345678901234567890123456789",
        "digits stay digits, the end is trimmed"
    );
    assert!(!format!("{:?}", load(&sources).config).contains("012345"), "Debug shows no secret");
    sources.variables.insert("APP__AUTH__PEPPER_FILE".to_owned(), "/nonexistent".to_owned());
    assert!(faults(&sources)[0].starts_with("auth.pepper: APP__AUTH__PEPPER_FILE points to a file that can't be read"));

    std::fs::write(directory.path().join("default.toml"), FILES[0].1).unwrap();
    std::fs::write(directory.path().join("production.toml"), "[redis]\nurl = \"rediss://:hunter2@cache\"\n").unwrap();
    let mut sources = production(&[]);
    sources.directory = Some(directory.path().to_owned());
    let found = faults(&sources);
    assert!(
        found.len() == 1
            && found[0].starts_with("redis.url: a secret may not stand in config/production.toml; use APP__REDIS__URL"),
        "{found:#?}"
    );
    assert!(!found[0].contains("hunter2"));
}

#[test]
fn a_bad_configuration_exits_78_before_any_socket_and_prints_no_secret() {
    let mut variables: BTreeMap<String, String> = process::settings("nowhere");
    variables.insert("APP__HTTP__BIND".to_owned(), "nonsense".to_owned());
    variables.insert("DATABASE_URL".to_owned(), "postgres:hunter2".to_owned());
    for command in [&[][..], &["serve"], &["config", "check"]] {
        let output = process::run(command, &variables);
        let errors = process::text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{errors}");
        assert!(errors.contains("http.bind: expected") && errors.contains("2 fault(s)"), "{errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
        assert!(output.stdout.is_empty(), "no log line: nothing was started");
    }
    assert_eq!(process::run(&["serve", "--nonsense"], &variables).status.code(), Some(2));
    variables.remove("APP__HTTP__BIND");
    variables.remove("DATABASE_URL");
    variables.insert("DATABASE_URL".to_owned(), "postgres://a:b@localhost/c".to_owned());
    let output = process::run(&["config", "check"], &variables);
    assert_eq!(output.status.code(), Some(0), "{}", process::text(&output.stderr));
}

#[test]
fn what_serve_would_refuse_is_found_by_the_check() {
    let cases = [
        ("REDIS_URL", "nonsense-hunter2", "redis.url: not a Redis URL"),
        ("RUST_LOG", "a=b=c", "log.filter:"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER: expected otlp or none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_PROTOCOL: expected grpc or http/protobuf"),
        (
            "APP__DATABASE__ACQUIRE_TIMEOUT",
            "10s",
            "database.acquire_timeout: \"10s\" must be shorter than http.request_timeout",
        ),
        ("APP__SHOP__PAYMENTS__SETTLE_AFTER", "1s", "shop.payments.settle_after: \"1s\" must be longer than"),
        ("APP__SHOP__PAYMENTS__URL", "nowhere", "shop.payments.url: expected a URL"),
        ("APP__OUTBOUND__ALLOW_PRIVATE", "true", "outbound.allow_private:"),
    ];
    for (name, value, expected) in cases {
        let found = faults(&production(&[(name, value)]));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{name}={value}: {found:#?}");
        assert!(!found[0].contains("hunter2"));
    }
    let mut nowhere = production(&[]);
    nowhere.directory = Some("/nonexistent".into());
    assert_eq!(faults(&nowhere), ["APP_CONFIG_DIR: /nonexistent is not a directory"]);
}

#[test]
fn a_file_that_is_no_toml_is_named_by_its_line_and_not_quoted() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("production.toml"), "[redis]\nurl = \"redis://:hunter2@cache\n").unwrap();
    let mut broken = production(&[]);
    broken.directory = Some(directory.path().to_owned());
    let found = faults(&broken);
    assert!(found[0].starts_with("config/production.toml: TOML parse error at line 2"), "{found:#?}");
    assert!(!format!("{found:?}").contains("hunter2"), "{found:#?}");
}

#[test]
fn a_foreign_variable_that_is_no_text_is_no_fault() {
    use std::os::unix::ffi::OsStrExt as _;
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_keel"))
        .args(["config", "reference"])
        .env_clear()
        .env("FOREIGN", std::ffi::OsStr::from_bytes(b"\xff\xfe"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", process::text(&output.stderr));
}

#[test]
fn every_declared_key_has_a_documented_default_and_the_other_way_round() {
    let loaded = load(&sources(&[]));
    let lines: Vec<&str> = FILES[0].1.lines().collect();
    let mut section = String::new();
    let mut in_file = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            in_file.push(format!("{section}.{key}"));
            let above = lines[at - 1];
            let shared = above.contains(" = ") && lines[at - 2].starts_with('#');
            assert!(above.starts_with('#') || shared, "config/default.toml: {key} has no comment above it");
        }
    }
    let declared: Vec<String> = DECLARED
        .iter()
        .flat_map(|section| section.keys.iter().map(|key| format!("{}.{}", section.name, key.name)))
        .collect();
    assert_eq!(in_file, declared, "config/default.toml and the code list the same keys in the same order");
    for section in DECLARED {
        for key in section.keys {
            assert!(!key.doc.is_empty(), "{}.{} has no doc comment", section.name, key.name);
        }
    }
    let found: Vec<_> = loaded.faults.lines().to_vec();
    assert_eq!(found, Vec::<String>::new(), "every default parses and is in range");
}

#[test]
fn the_reference_in_the_docs_is_fresh() {
    let expected = report::reference(&load(&sources(&[])).merged, DECLARED);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == expected, "docs/configuration.md is old; run `make docs`");
}

/// Files of a clone or of an older version: what they leave out is as built in, and nothing is missing.
#[test]
fn a_section_that_the_files_leave_out_is_as_its_default() {
    let whole = FILES[0].1;
    let by_default = report::show(&load(&production(&[])).merged, DECLARED);
    for section in DECLARED {
        let heading = format!("[{}]\n", section.name);
        let start = whole.find(&heading).unwrap();
        let end = whole[start + 1..].find("\n[").map_or(whole.len(), |at| start + 1 + at + 1);
        let directory = tempfile::tempdir().unwrap();
        let rest = format!("{}{}", &whole[..start], &whole[end..]);
        assert!(!rest.contains(&heading), "{heading}");
        std::fs::write(directory.path().join("default.toml"), rest).unwrap();
        let mut without = production(&[]);
        without.directory = Some(directory.path().to_owned());
        assert_eq!(faults(&without), Vec::<String>::new(), "without {heading}");
        let shown = report::show(&load(&without).merged, DECLARED);
        assert_eq!(shown.replace("# built in\n", "# config/default.toml\n"), by_default, "without {heading}");
        assert!(shown.contains("# built in\n"), "{shown}");
    }
}

#[test]
fn production_goes_without_a_limit_only_where_that_is_said() {
    let unlimited = ("APP__RATE_LIMIT__PER_SECOND", "0");
    assert!(faults(&production(&[unlimited]))[0].contains("rate_limit.allow_unlimited"));
    assert_eq!(faults(&production(&[unlimited, ("APP__RATE_LIMIT__ALLOW_UNLIMITED", "true")])), Vec::<String>::new());
}
