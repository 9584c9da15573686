//! Cargo features: Cargo.toml, the list that `make features` compiles, docs/options.md and what the binary says of
//! itself name the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use super::root;

type Combinations = BTreeMap<String, BTreeSet<String>>;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn set(text: &str) -> BTreeSet<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The features of Cargo.toml by name, with what each turns on.
fn declared() -> BTreeMap<String, String> {
    let manifest = read("Cargo.toml");
    let section = manifest.split("[features]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let lines = section.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(" = ")).map(|(name, on)| (name.to_owned(), on.to_owned())).collect()
}

fn by_default() -> BTreeSet<String> {
    set(&declared()["default"].replace(['[', ']', '"'], ""))
}

fn optional() -> BTreeSet<String> {
    declared().into_keys().filter(|name| name != "default").collect()
}

/// What the script compiles.
fn compiled() -> Combinations {
    let listed = Command::new(root().join("scripts/features.sh")).arg("list").output().unwrap();
    assert!(listed.status.success());
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed.lines().map(|line| line.split_once(' ').unwrap_or((line, ""))).map(|(a, b)| (a.to_owned(), set(b))).collect()
}

/// The cells of the tables below a heading of docs/options.md, the heads left out.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = read("docs/options.md");
    let part = page.split(&format!("\n{heading}\n")).nth(1).unwrap().split("\n#").next().unwrap();
    let rows = part.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('|').skip(1).map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

#[test]
fn every_combination_of_the_docs_is_compiled_and_no_other() {
    let told: Combinations = table("### Combinations").into_iter().map(|row| (row[0].clone(), set(&row[1]))).collect();
    assert_eq!(told, compiled(), "docs/options.md on the left, scripts/features.sh on the right");
}

#[test]
fn each_feature_is_documented_and_compiled_with_and_without() {
    let (all, compiled) = (optional(), compiled());
    let documented: BTreeSet<String> = table("## By a cargo feature").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(documented, all, "docs/options.md on the left, Cargo.toml on the right");
    assert_eq!(compiled["default"], by_default());
    assert_eq!((&compiled["none"], &compiled["all"]), (&BTreeSet::new(), &all));
    for feature in by_default() {
        let rest: BTreeSet<String> = by_default().into_iter().filter(|other| *other != feature).collect();
        assert_eq!(compiled.get(&format!("no-{feature}")), Some(&rest), "the defaults without {feature} alone");
    }
}

#[test]
fn the_binary_says_which_features_it_has() {
    let all = optional();
    let said: BTreeSet<String> = keel::platform::telemetry::build::features().into_iter().map(str::to_owned).collect();
    assert!(said.is_subset(&all), "{said:?}");
    let text = read("src/platform/telemetry/build.rs");
    let unsaid: Vec<_> = all.iter().filter(|name| !text.contains(&format!("cfg!(feature = \"{name}\")"))).collect();
    assert!(unsaid.is_empty(), "src/platform/telemetry/build.rs does not name {unsaid:?}");
}

#[test]
fn a_combination_that_is_not_there_is_refused() {
    let refused = Command::new(root().join("scripts/features.sh")).arg("no-such").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no combination 'no-such'"));
}
