//! `make traffic` and k6: each route of the API is asked.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::none;

fn read(path: &str) -> String {
    std::fs::read_to_string(crate::repo::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of `folder` whose name has `part`, one after the other; a tree without a domain has none.
fn all(folder: &str, part: &str) -> String {
    let mut paths: Vec<_> =
        std::fs::read_dir(crate::repo::root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.file_name().unwrap().to_string_lossy().contains(part));
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

fn found(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).unwrap();
    pattern.captures_iter(text).map(|found| format!("{} {}", &found[1], &found[2])).collect()
}

/// The routes of the document.
fn documented() -> BTreeSet<String> {
    let document: Value = serde_json::from_str(&read("docs/openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    routes.collect()
}

fn faults() -> BTreeSet<String> {
    let routes = found(r#"\.route\("(/v1/faults/[a-z-]+)", (post)\("#, &read("src/platform/faults/mod.rs"));
    routes.iter().map(|route| format!("POST {}", route.split(' ').next().unwrap())).collect()
}

/// What a script sends against what there is, both ways.
fn problems(script: &str, wanted: &BTreeSet<String>, known: &BTreeSet<String>) -> Vec<String> {
    let sent = found(r"(?m)\b(?:send|leave) ([A-Z]+) '(/[^'?]*)", script);
    let mut problems: Vec<String> =
        wanted.difference(&sent).map(|route| format!("make traffic never sends {route}: add it")).collect();
    let wrong =
        sent.difference(known).filter(|route| !["PUT /v1/tenant", "GET /v1/no-such-route"].contains(&route.as_str()));
    problems.extend(wrong.map(|route| format!("make traffic sends {route}, which there is not")));
    problems
}

#[test]
fn traffic_reaches_every_route_and_every_fault() {
    let script = format!("{}{}", read("scripts/traffic.sh"), all("scripts/lib", "traffic-"));
    let wanted = &documented() | &faults();
    let known = &wanted | &BTreeSet::from(["GET /openapi.json".to_owned()]);
    assert!(faults().len() >= 9 && documented().contains("GET /v1/tenant"), "nothing to compare with");
    none(&problems(&script, &wanted, &known));
    let less = script.replace("send POST '/v1/faults/panic'", "true");
    assert_eq!(problems(&less, &wanted, &known), ["make traffic never sends POST /v1/faults/panic: add it"]);
    let other = script.replace("send GET '/v1/tenant' ''", "send GET '/v1/tenants' ''");
    assert_eq!(problems(&other, &wanted, &known), ["make traffic sends GET /v1/tenants, which there is not"]);
}

#[test]
fn k6_sends_only_to_routes_there_are() {
    let sent = found(r#"send\(\s*"([A-Z]+)",\s*"(/[^"?]*)"#, &all("deploy/k6", "traffic"));
    assert!(sent.contains("GET /v1/tenant"), "no call found: {sent:?}");
    let known = &documented() | &BTreeSet::from(["GET /v1/no-such-route".to_owned()]);
    assert!(sent.is_subset(&known), "not in docs/openapi.json: {:?}", sent.difference(&known));
}
