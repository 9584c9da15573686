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
