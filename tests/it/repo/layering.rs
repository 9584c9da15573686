//! Who may name whom, and how large a file may be (src/lib.rs draws the map).

use super::{File, files};

/// Lines of code that contain one of these, as `file: line`.
fn naming<'a>(files: impl IntoIterator<Item = &'a File>, words: &[&str]) -> Vec<String> {
    files
        .into_iter()
        .flat_map(|file| {
            file.code()
                .into_iter()
                .filter(|line| words.iter().any(|word| line.contains(word)))
                .map(|line| format!("{}: {line}", file.path))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[track_caller]
fn none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}\n{}", found.join("\n"));
}

#[test]
fn the_platform_names_nothing_above_it() {
    let all = files(&["src"]);
    let platform = all.iter().filter(|file| file.is_in("src/platform"));
    let found = naming(platform, &["crate::shop", "crate::app", "crate::cli", "crate::config::", "crate::config;"]);
    none("src/platform is the half that stays: what it needs from above comes as an argument", &found);
}

#[test]
fn the_domain_names_nothing_above_it() {
    let all = files(&["src/shop"]);
    none(
        "src/shop is wired in src/app/mod.rs, not the other way round",
        &naming(&all, &["crate::app", "crate::cli", "crate::config::"]),
    );
}

#[test]
fn siblings_meet_only_through_their_mod() {
    let all = files(&["src/shop"]);
    let mut found = Vec::new();
    for file in &all {
        let Some(resource) =
            file.path.strip_prefix("src/shop/").and_then(|rest| rest.split_once('/')).map(|(name, _)| name)
        else {
            continue;
        };
        for line in file.code() {
            let inner = ["::http", "::store", "::model", "::service"];
            let other = line.contains("crate::shop::") && !line.contains(&format!("crate::shop::{resource}"));
            if other && inner.iter().any(|room| line.contains(room)) {
                found.push(format!("{}: {line}", file.path));
            }
        }
    }
    none("a resource uses another's mod.rs, never its rooms", &found);
}

#[test]
fn inside_a_resource_the_direction_is_http_store_model() {
    let all = files(&["src/shop"]);
    let named = |suffix: &str| all.iter().filter(|file| file.path.ends_with(suffix)).collect::<Vec<_>>();
    none("store.rs is SQL only: no HTTP", &naming(named("/store.rs"), &["super::http", "axum", "platform::http"]));
    none(
        "model.rs is pure: no HTTP, no SQL, no clock, no environment",
        &naming(
            named("/model.rs"),
            &["super::", "axum", "sqlx::query", "tokio", "platform::http", "platform::db", "Utc::now"],
        ),
    );
}

#[test]
fn sql_is_in_stores_only() {
    let all = files(&["src"]);
    let allowed = |file: &File| file.path.ends_with("/store.rs") || file.is_in("src/platform/db");
    let found = naming(all.iter().filter(|file| !allowed(file)), &["sqlx::query", "sqlx::raw_sql"]);
    none("SQL lives in store.rs (and the mechanics of the database in src/platform/db)", &found);
}

#[test]
fn axum_is_at_the_edges_only() {
    let all = files(&["src"]);
    let edge = |file: &File| {
        file.path.ends_with("/http.rs")
            || file.is_in("src/platform/http")
            || file.is_in("src/platform/admin")
            || file.is_in("src/platform/faults")
            || ["src/app/mod.rs", "src/platform/telemetry/propagation.rs"].contains(&file.path.as_str())
    };
    let found = naming(all.iter().filter(|file| !edge(file)), &[" axum::", "(axum::", "<axum::", "&axum::"]);
    none("axum belongs to http.rs files and the edge; pass plain types further in", &found);
}

#[test]
fn opentelemetry_sdks_are_in_telemetry_only() {
    let all = files(&["src"]);
    let found = naming(
        all.iter().filter(|file| !file.is_in("src/platform/telemetry")),
        &["opentelemetry_sdk", "opentelemetry_otlp", "tracing_opentelemetry", "tonic::"],
    );
    none("SDK crates stay in src/platform/telemetry; elsewhere the opentelemetry API", &found);
}

#[test]
fn the_domain_reaches_data_through_its_tenant_only() {
    let found = naming(&files(&["src/shop"]), &["redis::", "SystemTx", "runtime_pool", "PgPool", "PgConnection"]);
    none("tenant data is behind TenantTx and the typed caches; work that outlives a request is a job", &found);
}

#[test]
fn instrument_always_skips_arguments() {
    let found: Vec<String> =
        naming(&files(&["src"]), &["instrument("]).into_iter().filter(|line| !line.contains("skip_all")).collect();
    none("#[instrument] records every argument unless skip_all (trap 11)", &found);
}

#[test]
fn the_word_of_the_example_marks_all_of_it() {
    let glue = ["src/lib.rs", "src/config/mod.rs", "src/app/mod.rs", "src/cli/mod.rs", "src/cli/serve.rs"];
    let all = files(&["src", "migrations", "config", "scripts"]);
    let word = ["sh", "op"].concat();
    // Without the example the word is free.
    if !super::root().join("src").join(&word).is_dir() {
        return;
    }
    let marked = |file: &File| file.path.contains(&word) || glue.contains(&file.path.as_str());
    let found: Vec<String> = all
        .iter()
        .filter(|file| !marked(file) && file.path != "config/default.toml")
        // It takes the word out, itself included.
        .filter(|file| !file.path.starts_with("scripts/strip-example"))
        .flat_map(|file| {
            file.text
                .lines()
                .filter(|line| {
                    let section = file.is_in("config") && line.starts_with(&format!("[{word}"));
                    !section && line.to_lowercase().split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part == word)
                })
                .map(|line| format!("{}: {line}", file.path))
                .collect::<Vec<_>>()
        })
        .collect();
    none("the example is whole in its folders, so that it can be stripped", &found);
}

#[test]
fn every_file_says_what_lives_there_and_none_is_too_long() {
    for file in files(&["src", "tests"]).iter().filter(|file| file.path.ends_with(".rs")) {
        assert!(file.text.starts_with("//!"), "{}: begins with //! and what lives there", file.path);
        let lines = file.code().len();
        assert!(
            !file.is_in("src") || lines <= 300,
            "{}: {lines} code lines, 300 are the ceiling; is it one room?",
            file.path
        );
    }
}

/// Whole in themselves, each behind one call: who reads the platform can leave them for the day they are
/// needed, and who does not want them deletes them (ADR 10; the numbers are of ADR 13 and 36).
const APART: [&str; 13] = [
    "src/platform/faults/",
    "src/platform/admin/debug.rs",
    "src/platform/http/base_path.rs",
    "src/platform/http/server/",
    "src/platform/resources.rs",
    "src/platform/telemetry/catalogue.rs",
    "src/platform/telemetry/logs/otlp.rs",
    "src/platform/telemetry/logs/pretty.rs",
    "src/platform/telemetry/off.rs",
    "src/platform/telemetry/otlp/",
    "src/platform/telemetry/profile/",
    "src/platform/telemetry/redact/",
    "src/platform/telemetry/sentry/",
];

#[test]
fn the_platform_can_be_read_in_an_afternoon() {
    let all = files(&["src/platform"]);
    let (apart, core): (Vec<_>, Vec<_>) =
        all.iter().partition(|file| APART.iter().any(|place| file.path.starts_with(place)));
    let lines = |files: &[&super::File]| files.iter().map(|file| file.code().len()).sum::<usize>();
    assert!(lines(&core) <= 9_700, "the core of src/platform has {} code lines, 9,700 are the ceiling", lines(&core));
    assert!(lines(&apart) <= 5_000, "what stands apart has {} code lines, 5,000 are the ceiling", lines(&apart));
}

#[test]
fn there_is_one_opentelemetry() {
    let lock = std::fs::read_to_string(super::root().join("Cargo.lock")).unwrap();
    for name in ["opentelemetry", "opentelemetry_sdk", "tracing-opentelemetry", "tokio", "hyper", "axum"] {
        let count = lock.matches(&format!("name = \"{name}\"\n")).count();
        assert_eq!(count, 1, "{name} is {count} times in Cargo.lock: two versions are two globals");
    }
}
