//! The catalogue: what the code emits, what `keel catalogue` says and what docs/telemetry.md lists
//! are the same.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{TestApp, process};

fn catalogue() -> Value {
    let output = process::run(&["catalogue"], &std::collections::BTreeMap::new());
    assert!(output.status.success(), "{}", process::text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_docs_list_every_metric_with_its_labels_and_no_other() {
    let docs = std::fs::read_to_string(super::root().join("docs/telemetry.md")).unwrap();
    let documented: BTreeSet<(String, String, String)> = docs
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let kind = *cells.get(2)?;
            ["counter", "gauge", "histogram"]
                .contains(&kind)
                .then(|| (cells[1].trim_matches('`').to_owned(), kind.to_owned(), cells[3].replace('`', "")))
        })
        .collect();
    let emitted: BTreeSet<(String, String, String)> = catalogue()["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| {
            let labels: Vec<&str> =
                metric["labels"].as_array().unwrap().iter().map(|label| label.as_str().unwrap()).collect();
            (
                metric["name"].as_str().unwrap().to_owned(),
                metric["kind"].as_str().unwrap().to_owned(),
                labels.join(", "),
            )
        })
        .collect();
    let missing: Vec<_> = emitted.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&emitted).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/telemetry.md lacks {missing:#?}\nand lists, though the code has not, {stale:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_exposes_what_the_catalogue_says_and_nothing_else() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    app.get("/v1/tenant", &acme.key).await.ok(200);
    let known: BTreeSet<String> = catalogue()["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| metric["name"].as_str().unwrap().to_owned())
        .collect();
    let text = app.metrics().await;
    for gauge in
        catalogue()["metrics"].as_array().unwrap().iter().filter(|metric| metric["labels"] == serde_json::json!([]))
    {
        let name = gauge["name"].as_str().unwrap();
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is in the catalogue and not exposed");
    }
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(known.contains(name), "{name} is not in the catalogue");
    }
    app.stop().await;
}

/// The events of a file: name and fields of each `tracing::` macro.
fn events(source: &str) -> Vec<(String, Vec<String>)> {
    let levels = ["error", "warn", "info", "debug", "trace"].map(|level| format!("tracing::{level}!("));
    let mut found = Vec::new();
    for start in levels.iter().flat_map(|level| source.match_indices(level.as_str()).map(|(at, text)| at + text.len()))
    {
        let (mut depth, mut quoted, mut escaped) = (1, false, false);
        let (mut parts, mut part) = (Vec::new(), String::new());
        for c in source[start..].chars() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '(' | '[' | '{' if !quoted => depth += 1,
                ')' | ']' | '}' if !quoted => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if c == ',' && depth == 1 && !quoted {
                parts.push(std::mem::take(&mut part));
            } else {
                part.push(c);
            }
        }
        parts.push(part);
        let parts: Vec<&str> = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
        let name = parts
            .iter()
            .find(|part| part.starts_with('"'))
            .unwrap_or_else(|| panic!("an event without a name: {parts:?}"));
        let fields = parts.iter().filter(|part| !part.starts_with('"'));
        let fields =
            fields.map(|part| part.split('=').next().unwrap().trim().trim_start_matches(['%', '?']).to_owned());
        found.push((name.trim_matches('"').to_owned(), fields.collect()));
    }
    found
}

#[test]
fn every_log_event_and_every_span_of_the_code_is_in_the_catalogue_and_no_other() {
    let mut emitted: std::collections::BTreeMap<String, BTreeSet<String>> = std::collections::BTreeMap::new();
    let mut opened = BTreeSet::new();
    for file in super::files(&["src"]).iter().filter(|file| file.path.ends_with(".rs")) {
        let source = file.text.split("#[cfg(test)]").next().unwrap();
        for (name, fields) in events(source) {
            let snake = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(snake, "{}: \"{name}\" is no event name: snake_case, values in fields", file.path);
            emitted.entry(name).or_default().extend(fields);
        }
        for part in source.split("instrument(name = \"").skip(1) {
            opened.insert(part.split('"').next().unwrap().to_owned());
        }
    }
    let catalogue = catalogue();
    let of = |row: &Value| {
        row["fields"].as_array().unwrap().iter().map(|field| field.as_str().unwrap().to_owned()).collect()
    };
    let declared: std::collections::BTreeMap<String, BTreeSet<String>> = catalogue["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap().to_owned(), of(row)))
        .collect();
    for (name, fields) in &emitted {
        assert_eq!(declared.get(name), Some(fields), "{name}: the code has these fields, the catalogue those");
    }
    let stale: Vec<_> = declared.keys().filter(|name| !emitted.contains_key(*name)).collect();
    assert!(stale.is_empty(), "in the catalogue and nowhere else: {stale:?}");
    let named: BTreeSet<String> = catalogue["spans"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["kind"] == "internal")
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(opened, named, "spans of #[instrument]");
}

#[test]
fn the_docs_are_what_the_command_prints() {
    let output = process::run(&["catalogue", "--markdown"], &std::collections::BTreeMap::new());
    let docs = std::fs::read_to_string(super::root().join("docs/telemetry.md")).unwrap();
    assert_eq!(process::text(&output.stdout), docs, "docs/telemetry.md is old: make docs");
}

#[test]
fn the_resource_names_the_sdk_that_is_built_in() {
    let source = std::fs::read_to_string(super::root().join("src/platform/telemetry/traces.rs")).unwrap();
    let lock = std::fs::read_to_string(super::root().join("Cargo.lock")).unwrap();
    let version = lock.split("name = \"opentelemetry_sdk\"\nversion = \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(
        source.contains(&format!("(\"telemetry.sdk.version\", \"{version}\"")),
        "telemetry.sdk.version is {version}"
    );
}
