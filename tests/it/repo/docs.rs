//! What the pages say against what is there: links and anchors, the commands in `sh` blocks, the names of metrics; in
//! `queries` the queries, in `claims` files, tests and who runs the commands. Each check looks at a list of pages and returns what is wrong, so that it can be shown a page
//! with a planted fault.

mod claims;
mod queries;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, OnceLock},
};

use serde_json::Value;

use super::{File, files, root};
use crate::support::process;

/// Pages whose metrics must exist; the generated reference is compared as a whole (catalogue.rs).
const NAMES_METRICS: [&str; 3] = ["docs/cost.md", "docs/observability.md", "docs/scaling.md"];
/// Beginnings of paths that a command may name.
const FOLDERS: [&str; 6] = ["scripts/", "deploy/", "docs/", "config/", "migrations/", "runbooks/"];

fn pages() -> Vec<File> {
    let mut pages = files(&[
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        ".github",
        "docs",
        "deploy",
        "runbooks",
        "tests",
    ]);
    pages.retain(|page| page.path.ends_with(".md"));
    pages
}

/// A fenced block: its language, the number of its first line, its lines.
struct Fence<'a> {
    language: &'a str,
    first: usize,
    lines: Vec<&'a str>,
}

/// The lines of a page outside of fences, with their numbers, and the fences.
fn parts(text: &str) -> (Vec<(usize, &str)>, Vec<Fence<'_>>) {
    let (mut prose, mut fences) = (Vec::new(), Vec::new());
    let mut open: Option<Fence<'_>> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Fence { language: language.trim(), first: number + 1, lines: Vec::new() });
            }
            (Some(_), Some(_)) => fences.extend(open.take()),
            (Some(fence), None) => fence.lines.push(line),
            (None, None) => prose.push((number, line)),
        }
    }
    fences.extend(open);
    (prose, fences)
}

// --- Links --------------------------------------------------------------------------------------------------------

/// The anchors of a page, as GitHub makes them of its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let (prose, _) = parts(text);
    let headings = prose.iter().filter_map(|(_, line)| line.trim_start_matches('#').strip_prefix(' ').zip(Some(line)));
    headings
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(heading, _)| {
            let slug: String = heading
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect();
            let times = seen.entry(slug.clone()).or_default();
            *times += 1;
            if *times == 1 { slug } else { format!("{slug}-{}", *times - 1) }
        })
        .collect()
}

/// The targets of `[text](target)` in a line, code left out.
fn targets(line: &str) -> Vec<&str> {
    let starts = line.match_indices("](").map(|(at, _)| at);
    starts
        .filter(|at| line[..*at].matches('`').count().is_multiple_of(2))
        .filter_map(|at| line[at + 2..].split(')').next())
        .collect()
}

/// A path relative to the folder of `page`, without `.` and `..`.
fn resolved(page: &str, target: &str) -> String {
    let mut path: Vec<&str> = page.split('/').collect();
    path.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.join("/")
}

fn broken_links(pages: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for page in pages {
        for (number, line) in parts(&page.text).0 {
            for target in targets(line) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let (path, anchor) =
                    target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
                let path = if path.is_empty() { page.path.clone() } else { resolved(&page.path, path) };
                let known = pages.iter().find(|other| other.path == path);
                if known.is_none() && !root().join(&path).exists() {
                    problems.push(format!("{}:{number}: ({target}) leads to {path}, which is not there", page.path));
                } else if let (Some(anchor), Some(known)) = (anchor, known)
                    && !anchors(&known.text).contains(anchor)
                {
                    problems.push(format!("{}:{number}: {path} has no heading for #{anchor}", page.path));
                }
            }
        }
    }
    problems
}

// --- Commands -----------------------------------------------------------------------------------------------------

fn make_targets() -> BTreeSet<String> {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let rules = makefile.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    rules.filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
}

/// What `keel <words> --help` prints; none if there is no such command.
pub fn help(words: &[&str]) -> Option<String> {
    static ASKED: OnceLock<Mutex<BTreeMap<String, Option<String>>>> = OnceLock::new();
    let mut asked = ASKED.get_or_init(Mutex::default).lock().unwrap();
    let answer = asked.entry(words.join(" ")).or_insert_with(|| {
        let output = process::run(&[words, &["--help"]].concat(), &BTreeMap::new());
        output.status.success().then(|| process::text(&output.stdout))
    });
    answer.clone()
}

/// What is wrong with the words after `keel`: commands first, then flags and values.
fn wrong_words(words: &[&str]) -> Option<String> {
    let mut command: Vec<&str> = Vec::new();
    let mut text = help(&[])?;
    for word in words {
        let is_word = word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
        if !is_word || !text.contains("\nCommands:\n") {
            break;
        }
        command.push(word);
        match help(&command) {
            Some(found) => text = found,
            None => return Some(format!("there is no `keel {}`", command.join(" "))),
        }
    }
    let flags = words.iter().filter(|word| word.starts_with("--") && word.len() > 2);
    for flag in flags.map(|word| word.split('=').next().unwrap_or(word)) {
        let known = text.split(|c: char| c.is_whitespace() || c == ',').any(|word| word == flag);
        if !known {
            return Some(format!("`keel {}` has no {flag}", command.join(" ")));
        }
    }
    None
}

/// The commands of a block: continued lines are one, comments are none; each pipe and each `;` begins another.
fn commands<'a>(fence: &Fence<'a>) -> Vec<(usize, Vec<&'a str>)> {
    let mut found = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    let mut quoted = false;
    for (number, line) in (fence.first..).zip(&fence.lines) {
        let code = if quoted { line } else { line.split(" #").next().unwrap_or(line) };
        let begins_comment = !quoted && code.trim_start().starts_with('#');
        let continued = code.trim_end().ends_with('\\');
        if !begins_comment {
            words.extend(code.split_whitespace().filter(|word| *word != "\\"));
            quoted ^= code.matches('\'').count() % 2 == 1;
        }
        if !quoted && !continued {
            let split = |word: &&str| matches!(*word, "|" | "&&" | "||" | ";");
            found.extend(words.split(split).filter(|part| !part.is_empty()).map(|part| (number, part.to_vec())));
            words.clear();
        }
    }
    found
}

fn wrong_command(words: &[&str], targets: &BTreeSet<String>) -> Option<String> {
    let is_setting = |word: &&&str| word.split_once('=').is_some_and(|(name, _)| name.chars().all(is_name));
    let words: Vec<&str> = words.iter().skip_while(is_setting).copied().collect();
    for word in &words {
        let path = word.trim_matches(['"', '\'', '(', ')']).trim_end_matches([',', ';']);
        let path = path.rsplit('=').next().unwrap_or(path);
        let named = FOLDERS.iter().any(|folder| path.starts_with(folder));
        if named && !path.contains(['<', '$', '*', '{']) && !root().join(path).exists() {
            return Some(format!("{path} is not there"));
        }
    }
    // Wherever it stands: after `kubectl exec … --`, after `docker compose run`.
    let ours = words.iter().position(|word| *word == "keel" || word.ends_with("/keel"));
    match words.first() {
        Some(&"make") => {
            let named = words[1..].iter().filter(|word| !word.contains('=') && !word.starts_with('-'));
            named.filter(|word| !targets.contains(**word)).map(|word| format!("there is no `make {word}`")).next()
        }
        Some(_) => {
            ours.filter(|at| *at == 0 || words[..*at].contains(&"--")).and_then(|at| wrong_words(&words[at + 1..]))
        }
        None => None,
    }
}

const fn is_name(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
}

fn wrong_commands(pages: &[File]) -> Vec<String> {
    let targets = make_targets();
    let mut problems = Vec::new();
    for page in pages {
        let (prose, fences) = parts(&page.text);
        let mut found: Vec<_> =
            fences.iter().filter(|fence| matches!(fence.language, "sh" | "bash")).flat_map(commands).collect();
        // `make x` in a sentence.
        for (number, line) in prose {
            let code = line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("make "));
            found.extend(code.map(|code| (number, code.split_whitespace().collect())));
        }
        for (number, words) in found {
            let wrong = wrong_command(&words, &targets);
            problems.extend(wrong.map(|wrong| format!("{}:{number}: {wrong}", page.path)));
        }
    }
    problems
}

// --- Metrics ------------------------------------------------------------------------------------------------------

/// Names that a page may use: series of the catalogue, and fields and names of its events.
struct Known {
    names: BTreeSet<String>,
    /// The first two words of each metric: who begins so means a metric.
    beginnings: BTreeSet<String>,
}

fn known() -> Known {
    let output = process::run(&["catalogue"], &BTreeMap::new());
    let catalogue: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (mut names, mut beginnings) = (BTreeSet::new(), BTreeSet::new());
    for metric in catalogue["metrics"].as_array().unwrap() {
        let name = text(&metric["name"]);
        beginnings.insert(name.split('_').take(2).collect::<Vec<_>>().join("_"));
        if metric["kind"] == "histogram" {
            names.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        }
        names.insert(name);
    }
    for event in catalogue["events"].as_array().unwrap() {
        names.insert(text(&event["name"]));
        names.extend(event["fields"].as_array().unwrap().iter().map(text));
    }
    Known { names, beginnings }
}

fn unknown_metrics(pages: &[File]) -> Vec<String> {
    let Known { names, beginnings } = known();
    let mut problems = Vec::new();
    for page in pages.iter().filter(|page| NAMES_METRICS.contains(&page.path.as_str())) {
        let (prose, fences) = parts(&page.text);
        let inline =
            prose.iter().flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |code| (*number, code)));
        // Output is what was seen then; commands and queries are what is asked now.
        let asked = fences.iter().filter(|fence| matches!(fence.language, "sh" | "promql"));
        let asked = asked.flat_map(|fence| (fence.first..).zip(fence.lines.iter().copied()));
        for (number, code) in inline.chain(asked) {
            for word in code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '.')) {
                let suffixed = ["_total", "_seconds", "_bytes", "_bucket"].iter().any(|suffix| word.ends_with(suffix));
                let beginning: Vec<&str> = word.split('_').take(2).collect();
                let ours = suffixed || beginnings.contains(&beginning.join("_"));
                // Other programs' metrics; rules have colons, settings dots.
                let foreign =
                    ["pg_", "redis_", "otelcol_", "kube_", "idle_"].iter().any(|other| word.starts_with(other));
                if ours && word.contains('_') && !word.contains([':', '.']) && !foreign && !names.contains(word) {
                    problems
                        .push(format!("{}:{number}: {word} is not in the catalogue (docs/telemetry.md)", page.path));
                }
            }
        }
    }
    problems
}

#[track_caller]
fn none(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A page that is not there, with this text.
fn page(path: &str, text: &str) -> Vec<File> {
    vec![File { path: path.to_owned(), text: text.to_owned() }]
}

#[track_caller]
fn caught(problems: &[String], named: &[&str]) {
    assert_eq!(problems.len(), named.len(), "{problems:#?}");
    for (problem, name) in problems.iter().zip(named) {
        assert!(problem.contains(name), "`{name}` is not in {problem}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    none(&broken_links(&pages()));
}

#[test]
fn every_command_of_the_pages_exists() {
    let mut problems = wrong_commands(&pages());
    // A tree without the example has no such script. What tells its history, and how to take later versions of the
    // template, names the template's.
    if !root().join("scripts/strip-example.sh").exists() {
        problems.retain(|problem| !problem.contains("strip-example"));
    }
    none(&problems);
}

#[test]
fn every_metric_of_the_guides_is_in_the_catalogue() {
    none(&unknown_metrics(&pages()));
}

#[test]
fn a_link_or_an_anchor_into_nothing_is_caught() {
    let text =
        "# One: `a_b` & two\n[x](nowhere.md) [y](#one-a_b--two) [z](#three) `[no](link.md)`\n```\n[no](link.md)\n```\n";
    caught(&broken_links(&page("docs/x.md", text)), &["docs/nowhere.md", "no heading for #three"]);
}

#[test]
fn a_command_that_is_not_there_is_caught() {
    let text = "`make nothing`\n```sh\nmake run   # and then\nA=1 make tset && scripts/none.sh\n\
                kubectl exec x -- /usr/local/bin/keel tenant make\nkeel doctor --replicas 3 --no-such-flag\n\
                keel api-key create --tenant acme \\\n  --scope write --name x\nkubectl apply -k deploy/nowhere\n```\n";
    caught(
        &wrong_commands(&page("docs/x.md", text)),
        &["make tset", "scripts/none.sh", "keel tenant make", "--no-such-flag", "deploy/nowhere", "make nothing"],
    );
}

#[test]
fn a_metric_that_is_not_there_is_caught() {
    let text = "`db_client_connection_maximum` and `request_bytes`, `http_requests_total{a=\"b\"}`\n```sh\n\
                curl -G $P --data-urlencode 'query=rate(jobs_dead_letters_total[5m]) / x_seconds_bucket'\n```\n\
                ```text\nold_total 1\n```\n";
    caught(
        &unknown_metrics(&page("docs/scaling.md", text)),
        &["db_client_connection_maximum", "http_requests_total", "x_seconds_bucket"],
    );
}
