//! What a runbook may not do without saying so, or without having shown it: the blocks that end what others do, and those
//! that need a number or a name which somebody has to see first.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::{Files, cluster};
use crate::drills::blocks::{self, Block};

/// What ends what others do: `make runbook` shows it with its values and asks twice.
static DESTROYS: LazyLock<Regex> = LazyLock::new(|| {
    let commands = [
        r"\brollout (undo|restart)\b",
        r"\bkubectl\b.* (delete|drain)\b",
        r"\bpart (restart|kill)\b",
        r"\bpg_(terminate|cancel)_backend\b",
        r"\bapi-key revoke\b",
        r"(?i)^\s*(delete from|truncate|drop)\b",
        r"(?i)\b(unlink|flushall|flushdb)\b",
        // Not to let one go on, and not to end what the block itself began.
        r#"\bkill (-KILL|-9|-TERM|-s |"?\$[A-EG-Z])"#,
    ];
    pattern(&format!("(?m){}", commands.join("|")))
});
/// What changes, and what an earlier block of the same step shows: the values to fill in come from there.
static SHOWN_FIRST: LazyLock<[(Regex, Regex); 4]> = LazyLock::new(|| {
    [
        (r"\bapi-key revoke\b", r"\bapi-key list\b"),
        (r"\brollout undo\b", r"\brollout history\b"),
        (r"\bpatch (hpa|horizontalpodautoscaler)\b", r"\bget hpa\b"),
        (r"(?m)^\s*delete from (\w+)", r"(?m)^\s*from \w+"),
    ]
    .map(|(changes, shows)| (pattern(changes), pattern(shows)))
});
static SQL_ENDS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bpg_(terminate|cancel)_backend\b"));
static OWN: [&str; 2] = ["pid <> pg_backend_pid()", "application_name <> current_setting('application_name')"];
static REPLICAS: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?:--replicas[= ]|(?:min|max)Replicas"?: ?)(\d+)"#));

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

pub fn problems(files: &Files) -> Vec<String> {
    let most = most_replicas(files);
    let mut problems = Vec::new();
    for (folder, name, text) in files.runbooks() {
        let blocks = blocks::all(text);
        for (at, block) in blocks.iter().enumerate() {
            let before: Vec<&Block> = blocks[..at].iter().filter(|other| other.id == block.id).collect();
            let found = of_block(block, &before).into_iter().chain(too_many(block, most));
            problems.extend(found.map(|what| format!("runbooks/{folder}/{name}.md:{}: {what}", block.line)));
        }
    }
    problems
}

fn of_block(block: &Block, before: &[&Block]) -> Vec<String> {
    let mut problems = Vec::new();
    if DESTROYS.is_match(&block.text) && !block.has("destructive") {
        problems.push("the block destroys, and its fence does not say so".to_owned());
    }
    if block.text.contains("kill %") {
        problems.push("`kill %` may hit another job of that shell: FORWARD=$!; …; kill \"$FORWARD\"".to_owned());
    }
    for (changes, shows) in SHOWN_FIRST.iter() {
        let Some(found) = changes.find(&block.text) else { continue };
        if !before.iter().any(|other| shows.is_match(&other.text) && !other.has("destructive")) {
            problems.push(format!("no block before `{}` shows what it is about", found.as_str().trim()));
        }
    }
    if block.has("destructive") && SHOWN_FIRST.iter().take(3).any(|(_, shows)| shows.is_match(&block.text)) {
        problems.push("it shows and destroys in one go: two blocks".to_owned());
    }
    if SQL_ENDS.is_match(&block.text) {
        problems.extend(ends_sessions(&block.text, before.last().map(|other| other.text.as_str())));
    }
    problems
}

/// SQL that ends sessions: those that the block before it showed, of a role, and never a person's own.
fn ends_sessions(sql: &str, before: Option<&str>) -> Vec<String> {
    let rows = |sql: &str| -> Option<String> {
        let (_, rows) = sql.split_once("from ")?;
        let rows = rows.split("order by").next().unwrap_or_default();
        Some(rows.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches(';').to_owned())
    };
    let mut problems = Vec::new();
    if before.and_then(rows) != rows(sql) {
        problems.push("the block before it does not show the same rows".to_owned());
    }
    let missing = OWN.iter().filter(|own| !sql.contains(**own));
    problems.extend(missing.map(|own| format!("it may end a session of one's own: no `{own}`")));
    if !sql.contains("usename = '$ROLE'") && !sql.contains("usename in (") {
        problems.push("it names no role".to_owned());
    }
    problems
}

/// A number of instances that stands there as it is would be refused, or not be what the overlay wants.
fn too_many(block: &Block, most: u64) -> Vec<String> {
    let numbers = REPLICAS.captures_iter(&block.text).filter_map(|found| found[1].parse::<u64>().ok());
    numbers
        .filter(|number| *number > most)
        .map(|number| format!("{number} instances, and the autoscaler of an overlay allows {most}"))
        .collect()
}

/// The smallest maximum of the service's autoscalers: what is right everywhere.
fn most_replicas(files: &Files) -> u64 {
    let documents = files.below("deploy/kubernetes/", ".yaml");
    let documents = documents.flat_map(|(_, text)| cluster::documents(text));
    let of_service = documents.filter(|document| document["kind"] == "HorizontalPodAutoscaler");
    of_service.filter_map(|document| document["spec"]["maxReplicas"].as_u64()).min().unwrap_or_default()
}

#[test]
fn the_smallest_maximum_is_found() {
    assert_eq!(most_replicas(&Files::checkout()), 3);
    let small: Value = serde_json::json!({"kind": "HorizontalPodAutoscaler", "spec": {"maxReplicas": 2}});
    let mut files = Files::checkout();
    files.0.insert("deploy/kubernetes/overlays/x.yaml".to_owned(), small.to_string());
    assert_eq!(most_replicas(&files), 2);
}
