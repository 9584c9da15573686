//! API9: what is served is what is documented. axum can't list its routes, so the source is read for
//! them; and every documented one is asked. That docs/openapi.json is the served document is in
//! `platform::documents`, and that fault routes are off by default in `platform::errors`.

use std::{collections::BTreeSet, path::Path};

use regex::Regex;

use super::document::{Api, UNKNOWN};

/// A route as the source declares it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub path: String,
    pub methods: BTreeSet<String>,
    pub file: String,
}

fn sources(under: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests at the end of a file serve nothing.
            let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            found.push((path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), text));
        }
    }
}

fn files(under: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(under), &mut found);
    assert!(!found.is_empty(), "{under}");
    found
}

/// The text of the call that begins at `text`, to the bracket that closes it.
fn call(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return &text[..at],
            ')' => depth -= 1,
            _ => {}
        }
    }
    text
}

/// Plain routes (`.route("…", get(…))`) of all files under a directory.
pub fn routes_in(under: &str) -> BTreeSet<Route> {
    let route = Regex::new(r#"\.route(_service)?\(\s*"([^"]+)""#).unwrap();
    let method = Regex::new(r"\b(get|post|put|patch|delete|any|head|options|trace|connect)\(").unwrap();
    let mut found = BTreeSet::new();
    for (file, text) in files(under) {
        for at in route.captures_iter(&text) {
            let all = call(&text[at.get(0).unwrap().start()..]);
            // What the handler itself calls is no method of the route.
            let own = all.split("async").next().unwrap_or_default();
            let methods = method.captures_iter(own).map(|it| it[1].to_uppercase()).collect();
            found.insert(Route { path: at[2].to_owned(), methods, file: file.clone() });
        }
    }
    found
}

/// Documented handlers: `(METHOD path, name)` of each `#[utoipa::path(…)]`, and the names in `routes!(…)`.
fn handlers() -> (BTreeSet<(String, String)>, BTreeSet<String>) {
    let described = Regex::new(r"#\[utoipa::path\(").unwrap();
    let parts = Regex::new(r#"(?s)\(\s*(\w+),\s*path = "([^"]+)""#).unwrap();
    let function = Regex::new(r"async fn (\w+)").unwrap();
    let routed = Regex::new(r"(?s)routes!\(([^)]*)\)").unwrap();
    let (mut documented, mut served) = (BTreeSet::new(), BTreeSet::new());
    for (_, text) in files("src") {
        for at in described.find_iter(&text) {
            let rest = &text[at.start()..];
            let is = parts.captures(rest).unwrap();
            let name = function.captures(rest).unwrap()[1].to_owned();
            documented.insert((format!("{} {}", is[1].to_uppercase(), &is[2]), name));
        }
        for at in routed.captures_iter(&text) {
            served.extend(at[1].split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()));
        }
    }
    (documented, served)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_handler_in_the_source_is_routed_and_in_the_document_and_the_other_way_round() {
    let app = super::start().await;
    let api = Api::of(&app).await;
    let (described, routed) = handlers();
    let names: BTreeSet<String> = described.iter().map(|(_, name)| name.clone()).collect();
    assert_eq!(names, routed, "a handler that is described and not routed, or the other way round");
    let in_source: BTreeSet<String> = described.into_iter().map(|(operation, _)| operation).collect();
    let in_document: BTreeSet<String> =
        api.operations().iter().map(|it| format!("{} {}", it.method, it.path)).collect();
    assert_eq!(in_source, in_document);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_without_being_documented_is_this_and_no_more() {
    // Routers made by hand are documented nowhere: each file that makes one is known here, with its reason.
    let known = [
        // Another port; `functions` shows that the public one has nothing of it but the two probes.
        "src/platform/admin/debug.rs",
        "src/platform/admin/level.rs",
        "src/platform/admin/mod.rs",
        // Off unless `faults.enabled`, which production refuses.
        "src/platform/faults/mod.rs",
        // The document and its page.
        "src/platform/http/docs/mod.rs",
        "src/platform/http/docs/page.rs",
        // The shop's sandbox is another process.
        "src/shop/sandbox/http.rs",
    ];
    let by_hand: BTreeSet<String> = routes_in("src").into_iter().map(|route| route.file).collect();
    assert_eq!(by_hand.iter().map(String::as_str).collect::<Vec<_>>(), known, "routes outside the document");
    let docs: BTreeSet<String> = routes_in("src/platform/http").into_iter().map(|route| route.path).collect();
    assert_eq!(docs.iter().map(String::as_str).collect::<Vec<_>>(), ["/docs", "/docs/assets/{file}", "/openapi.json"]);
    let faults = routes_in("src/platform/faults");
    assert!(faults.len() >= 9 && faults.iter().all(|it| it.path.starts_with("/v1/faults/")), "{faults:#?}");
    // Other ways to serve something are not used; who uses one extends this test.
    for (file, text) in files("src") {
        for other in [".nest(", ".nest_service(", ".fallback_service(", "ServeDir", "ServeFile"] {
            assert!(!text.contains(other), "{file}: {other} serves paths that this test can't see");
        }
    }
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    for route in faults {
        for key in ["", &acme.key] {
            app.post(&route.path, key, &serde_json::json!(null)).await.problem(404, "route_not_found");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_route_is_served_and_its_neighbours_are_not() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let api = Api::of(&app).await;
    for operation in api.operations() {
        let answer = operation.send(&app, &acme.key, UNKNOWN, None).await;
        let code = answer.json()["code"].clone();
        assert!(code != "route_not_found" && code != "method_not_allowed", "{operation:?}: {}", answer.text);
        let address = operation.address(UNKNOWN);
        // Versions that were or will be, and what frameworks leave lying about.
        for neighbour in [
            address.replacen("/v1", "/v0", 1),
            address.replacen("/v1", "/v2", 1),
            address.replacen("/v1", "", 1),
            address.replacen("/v1", "/V1", 1),
            address.replacen("/v1", "/api/v1", 1),
            address.replacen("/v1", "/v1/internal", 1),
            format!("{address}/x/y"),
            format!("{address}.json"),
        ] {
            let answer = app.get(&neighbour, &acme.key).await;
            assert!(
                matches!(answer.status, 404 | 405) || answer.json()["code"] == "malformed_id",
                "{neighbour}: {}",
                answer.text
            );
        }
    }
    for path in
        ["/", "/v1", "/.env", "/.git/config", "/swagger.json", "/api-docs", "/graphql", "/actuator/env", "/debug/vars"]
    {
        app.get(path, &acme.key).await.problem(404, "route_not_found");
    }
    app.stop().await;
}
