//! What pages claim of the tree: files that they name, tests that hold a rule, and for each page with commands who runs
//! them, or why nobody does.

use std::collections::BTreeSet;

use super::{caught, none, page, pages, parts};
use crate::repo::{File, files, root};

/// Pages whose commands are executed, with what does it; and those whose commands are only looked at
/// (`wrong_commands`), with the reason. By the beginning of the path; the first that fits counts.
const COMMANDS: &[(&str, Run)] = &[
    ("CONTRIBUTING.md", Run::Not("two are README.md's; the third is tried by tests/it/repo/habits/hooks.rs")),
    ("README.md", Run::By("scripts/walk.sh")),
    ("docs/ADDING.md", Run::By("scripts/clones.sh")),
    ("docs/CLONING.md", Run::By("scripts/tour.sh")),
    ("docs/cost.md", Run::Not("a bench takes minutes and a machine of its own")),
    ("docs/deploy.md", Run::Not("they want a cluster or a registry; the page says which of them have run")),
    ("docs/options.md", Run::By("scripts/features.sh")),
    ("docs/observability.md", Run::Not("the story of one incident; drills do the like on a stack of their own")),
    ("docs/queries", Run::By("tests/it/dashboards/sheets.rs")),
    ("docs/scaling.md", Run::Not("a bench takes minutes and a machine of its own")),
    ("docs/tour.md", Run::By("scripts/tour.sh")),
    ("docs/upgrading.md", Run::By("tests/it/repo/upgrading.rs")),
    ("runbooks/README.md", Run::Not("they start the walk through a document, which tests/it/repo/runbook.rs tries")),
    ("runbooks/cluster/", Run::Not("they want a cluster")),
    ("runbooks/", Run::By("tests/it/drills/mod.rs")),
];

enum Run {
    By(&'static str),
    Not(&'static str),
}

/// Named, and not there: with the reason.
const ABSENT: &[(&str, &str)] = &[("src/domain", "it is there once the example is stripped")];

/// Folders that a page means when it names a path.
const FOLDERS: [&str; 8] = ["src/", "tests/", "docs/", "deploy/", "runbooks/", "scripts/", "migrations/", "config/"];

/// Empty where there is no such file.
fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

fn unexplained_commands(pages: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for page in pages {
        let fences = parts(&page.text).1;
        if !fences.iter().any(|fence| matches!(fence.language, "sh" | "bash")) {
            continue;
        }
        let known = COMMANDS.iter().find(|(path, _)| page.path.starts_with(path));
        match known {
            None => problems.push(format!("{}: who runs its commands? Say it in COMMANDS", page.path)),
            Some((path, Run::By(what))) if !read(what).contains(path) => {
                problems.push(format!("{}: {what}, which should run it, does not name it", page.path));
            }
            Some((_, Run::Not(why))) => assert!(!why.is_empty()),
            Some(_) => {}
        }
    }
    problems
}

/// Code spans of a page that are paths of the tree.
fn named_paths(page: &File) -> Vec<(usize, &str)> {
    let prose = parts(&page.text).0;
    let spans =
        prose.into_iter().flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |c| (number, c)));
    let plain = |path: &str| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    spans.filter(|(_, path)| FOLDERS.iter().any(|folder| path.starts_with(folder)) && plain(path)).collect()
}

fn absent_paths(pages: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for page in pages.iter().filter(|page| page.path.starts_with("docs/") || page.path == "README.md") {
        for (number, path) in named_paths(page) {
            if !root().join(path).exists() && !ABSENT.iter().any(|(absent, _)| path == *absent) {
                problems.push(format!("{}:{number}: `{path}` is not there", page.path));
            }
        }
    }
    problems
}

/// The tests that a page says hold a rule: code spans in the second column of the table with the head `| rule | test |`.
fn absent_tests(page: &File, layering: &str) -> Vec<String> {
    let table = page.text.lines().skip_while(|line| *line != "| rule | test |").skip(2);
    let rows: Vec<&str> = table.take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 5, "{}: where is the table of the rules?", page.path);
    let named = rows.iter().filter_map(|row| row.split('|').nth(2)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
    named
        .filter(|name| !layering.contains(&format!("fn {name}()")))
        .map(|name| format!("{}: no test is called `{name}`", page.path))
        .collect()
}

fn layering() -> String {
    read("tests/it/repo/layering.rs")
}

#[test]
fn every_page_with_commands_says_who_runs_them() {
    none(&unexplained_commands(&pages()));
}

#[test]
fn every_path_that_a_page_names_is_there() {
    let pages = pages();
    none(&absent_paths(&pages));
    let named: usize = pages.iter().map(|page| named_paths(page).len()).sum();
    assert!(named > 50, "only {named} paths were looked at");
}

#[test]
fn every_rule_of_the_map_has_its_test() {
    let map = pages().into_iter().find(|page| page.path == "docs/ARCHITECTURE.md").unwrap();
    none(&absent_tests(&map, &layering()));
}

/// `scripts/tour.sh` and the pages agree on which are run.
#[test]
fn the_tour_runs_all_blocks_in_bash() {
    let script = read("scripts/tour.sh");
    let list = script.lines().find_map(|line| line.strip_prefix("readonly PAGES=(")).unwrap();
    let run: BTreeSet<String> = list.trim_end_matches(')').split(' ').map(str::to_owned).collect();
    let in_bash = |page: &File| parts(&page.text).1.iter().any(|fence| fence.language == "bash");
    let written: BTreeSet<String> = files(&["docs"])
        .iter()
        .filter(|file| file.path.ends_with(".md") && in_bash(file))
        .map(|f| f.path.clone())
        .collect();
    assert_eq!(run, written, "blocks in `bash` are those that scripts/tour.sh runs; `sh` is for readers");
}

#[test]
fn a_claim_without_ground_is_caught() {
    let text = "`src/nowhere.rs` and `tests/it/main.rs`, `docs/*.md`\n```sh\n`src/no`\nmake run\n```\n";
    caught(&absent_paths(&page("docs/x.md", text)), &["src/nowhere.rs"]);
    caught(&unexplained_commands(&page("docs/x.md", text)), &["docs/x.md: who runs its commands?"]);
    let rows = "| `a_test` | `sql_is_in_stores_only` |\n".repeat(6);
    let table = format!("| rule | test |\n|---|---|\n{rows}| x | `nobody_looks` |\n");
    caught(&absent_tests(&page("docs/x.md", &table)[0], &layering()), &["nobody_looks"]);
}
