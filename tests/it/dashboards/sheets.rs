//! The cheat-sheets, `docs/queries*.md`: their fenced blocks, and what of them is tried on a running stack. SQL is in
//! `sql`, the names in LogQL in `logql`.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
};

use regex::Regex;
use serde_json::Value;

use super::answers::Asked;
use crate::{
    repo,
    support::{client::Tenant, process::text, stack::Stack},
};

/// What stands between two fences.
#[derive(Clone, Debug)]
pub struct Block {
    /// `docs/queries.md:12`, for messages.
    pub place: String,
    pub language: String,
    /// The word behind the language: a role, for SQL.
    pub word: String,
    pub text: String,
}

/// All blocks in this language.
pub fn blocks(language: &str) -> Vec<Block> {
    let mut found = Vec::new();
    for file in repo::files(&["docs"]).iter().filter(|file| file.path.starts_with("docs/queries")) {
        found.extend(in_file(&file.path, &file.text));
    }
    found.retain(|block: &Block| block.language == language);
    assert!(!found.is_empty(), "docs/queries*.md have no block of {language}");
    found
}

fn in_file(path: &str, markdown: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in markdown.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                let (language, word) = info.split_once(' ').unwrap_or((info, ""));
                let place = format!("{path}:{}", index + 1);
                open = Some(Block { place, language: language.to_owned(), word: word.to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => block.text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{path}: a fence is not closed");
    found
}

/// The queries of the PromQL blocks: an empty line ends one.
pub fn promql(tenant: &Tenant) -> Vec<Asked> {
    let mut queries = Vec::new();
    for block in blocks("promql") {
        for query in block.text.split("\n\n") {
            let lines: Vec<&str> = query.lines().filter(|line| !line.starts_with('#')).collect();
            let about = query.lines().next().unwrap_or_default().trim_start_matches("# ");
            let (document, line) = block.place.trim_start_matches("docs/").split_once(':').unwrap();
            queries.push(Asked {
                document: document.to_owned(),
                place: format!("from line {line}: {about}"),
                expr: lines.join("\n").replace("TENANT_ID", &tenant.id.to_string()),
            });
        }
    }
    queries
}

/// What is wrong with the commands on log lines and with the names in TraceQL, on what this stack really wrote.
pub fn problems(stack: &Stack, tenant: &Tenant) -> Vec<String> {
    let mut problems = commands(stack, tenant);
    problems.extend(attributes(stack));
    problems
}

fn commands(stack: &Stack, tenant: &Tenant) -> Vec<String> {
    if !Command::new("jq").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "jq is not installed, and CI may not skip the commands that need it");
        eprintln!("SKIPPED: the jq commands of docs/queries*.md: jq is not installed here");
        return Vec::new();
    }
    let lines: Vec<Value> = stack.instances.iter().flat_map(|instance| instance.lines()).collect();
    let log: String = lines.iter().filter(|line| line.is_object()).map(|line| format!("{line}\n")).collect();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("keel.log"), log).unwrap();
    let id = tenant.id.to_string();
    let request = lines
        .iter()
        .find(|line| line["message"] == "request_completed" && line["tenant_id"] == *id)
        .expect("a request of the tenant");
    let mut problems = Vec::new();
    for block in blocks("sh") {
        let command = block
            .text
            .replace("TENANT_ID", &id)
            .replace("CORRELATION_ID", request["correlation_id"].as_str().unwrap())
            .replace("TRACE_ID", request["trace_id"].as_str().unwrap());
        let output = Command::new("sh").args(["-c", &command]).current_dir(directory.path()).output().unwrap();
        let errors = text(&output.stderr);
        if output.stdout.is_empty() || !errors.is_empty() {
            problems.push(format!("{}: the command prints nothing of {} lines: {errors}", block.place, lines.len()));
        }
    }
    problems
}

fn attributes(stack: &Stack) -> Vec<String> {
    let spans = stack.collector.all();
    let mut known = BTreeSet::new();
    for seen in &spans {
        known.extend(seen.span.attributes.iter().map(|attribute| format!("span.{}", attribute.key)));
        known.extend(seen.resource.iter().map(|attribute| format!("resource.{}", attribute.key)));
        known.insert(format!("name = \"{}\"", seen.span.name));
    }
    let named = Regex::new(r#"\b(?:span|resource)\.[a-z0-9_.-]+|\bname = "[^"]*""#).unwrap();
    let mut problems = Vec::new();
    for block in blocks("traceql") {
        for name in named.find_iter(&block.text).map(|found| found.as_str()) {
            if !known.contains(name) {
                problems.push(format!("{}: no span of {} has `{name}`", block.place, spans.len()));
            }
        }
    }
    problems
}

#[test]
fn a_fence_begins_and_ends_a_block() {
    let blocks = in_file("a.md", "text\n```sql system\nselect 1;\n```\ntext\n```sh\nls\n```\n");
    let seen: Vec<_> = blocks.iter().map(|b| (&*b.place, &*b.language, &*b.word, &*b.text)).collect();
    assert_eq!(seen, [("a.md:2", "sql", "system", "select 1;\n"), ("a.md:6", "sh", "", "ls\n")]);
}
