//! API1 (and ASVS 8.2.2): the matrix of ids. `platform::tenancy` shows that a foreign id looks like an
//! unknown one with a good body; here every id meets every kind of body, ids and cursors come in
//! other places than the path, the owner's copy is looked at afterwards, and the time it takes.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::document::{Api, UNKNOWN, at_least};
use crate::support::Answer;

/// What a caller can tell two answers apart by: ids and clocks taken out.
pub fn visible(answer: &Answer) -> (u16, Value, Vec<(String, String)>) {
    let mut body = if answer.text.is_empty() { Value::Null } else { answer.json() };
    for id in ["request_id", "trace_id"] {
        if body.get(id).is_some() {
            body[id] = "…".into();
        }
    }
    let changes = ["x-request-id", "x-correlation-id", "x-trace-id", "date", "ratelimit-remaining", "ratelimit-reset"];
    let shown = answer.headers.iter().map(|(name, value)| {
        let value = if changes.contains(&name.as_str()) { "…" } else { value.to_str().unwrap() };
        (name.as_str().to_owned(), value.to_owned())
    });
    let mut headers: Vec<_> = shown.collect();
    headers.sort();
    (answer.status, body, headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_tells_own_ids_from_all_others_and_the_others_apart_from_nothing() {
    let app = super::start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let api = Api::of(&app).await;
    let theirs = api.seed(&app, &globex).await;
    let shown = async |collection: &str| {
        let path = format!("{collection}/{}", theirs[collection]);
        app.get(&path, &globex.key).await.ok(200)
    };
    let mut checked = 0;
    for operation in api.operations().iter().filter(|it| it.is_single()) {
        let name = format!("{} {}", operation.method, operation.path);
        let own = api.seed(&app, &acme).await;
        let before = shown(operation.collection()).await;
        let good = api.body(operation, &own);
        let broken = operation.body.iter().flat_map(|_| [json!({}), json!(null), json!([]), json!({"id": UNKNOWN})]);
        for body in std::iter::once(good.clone()).chain(broken.map(Some)) {
            let foreign = operation.send(&app, &acme.key, operation.id_in(&theirs), body.as_ref()).await;
            let unknown = operation.send(&app, &acme.key, UNKNOWN, body.as_ref()).await;
            assert_eq!(visible(&foreign), visible(&unknown), "{name} with {body:?}");
            assert!(foreign.status >= 400, "{name} with {body:?}: {}", foreign.text);
            if body == good {
                assert_eq!(foreign.status, 404, "{name}: {}", foreign.text);
            }
            // Also for who may only read.
            let reader = operation.send(&app, &acme.read_key, operation.id_in(&theirs), body.as_ref()).await;
            let expected = operation.send(&app, &acme.read_key, UNKNOWN, body.as_ref()).await;
            assert_eq!(visible(&reader), visible(&expected), "{name} with {body:?}");
        }
        assert_eq!(shown(operation.collection()).await, before, "{name} changed another tenant's resource");
        for malformed in ["x", "1", "-1", "*", "..%2f", "%00", &own[operation.collection()][..35], "0x1"] {
            operation.send(&app, &acme.key, malformed, good.as_ref()).await.problem(400, "malformed_id");
        }
        let done = operation.send(&app, &acme.key, operation.id_in(&own), good.as_ref()).await;
        assert!((200..300).contains(&done.status), "{name}: the owner may: {}", done.text);
        checked += 1;
    }
    at_least(5, checked, "operations on single resources");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_every_list_a_foreign_cursor_looks_like_a_forged_one() {
    let app = super::start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let api = Api::of(&app).await;
    for tenant in [&acme, &globex] {
        for _ in 0..2 {
            api.seed(&app, tenant).await;
        }
    }
    let operations = api.operations();
    let lists: Vec<_> = operations.iter().filter(|it| it.is_list).collect();
    at_least(3, lists.len(), "lists");
    let cursor = async |path: &str, key: &str| {
        let page = app.get(&format!("{path}?limit=1"), key).await.ok(200);
        page["next_cursor"].as_str().unwrap_or_else(|| panic!("{path} has two pages")).to_owned()
    };
    for list in &lists {
        let own = cursor(&list.path, &acme.key).await;
        let with = async |cursor: &str| app.get(&format!("{}?cursor={cursor}", list.path), &acme.key).await;
        with(&own).await.ok(200);
        let forged = with("A".repeat(own.len()).as_str()).await;
        forged.problem(400, "invalid_cursor");
        let mut bad = vec![cursor(&list.path, &globex.key).await, own[1..].to_owned(), format!("{own}A")];
        for other in lists.iter().filter(|other| other.path != list.path) {
            bad.push(cursor(&other.path, &acme.key).await);
        }
        // One bit of each of its characters.
        for at in 0..own.len() {
            let other = if own.as_bytes()[at] == b'A' { "B" } else { "A" };
            bad.push(format!("{}{other}{}", &own[..at], &own[at + 1..]));
        }
        for bad in bad {
            assert_eq!(visible(&with(&bad).await), visible(&forged), "{} {bad}", list.path);
        }
    }
    app.stop().await;
}

/// Loose on purpose: a shared machine is no laboratory. What it finds is a query more or less.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_id_takes_about_as_long_as_an_unknown_one() {
    const SAMPLES: usize = 300;
    let app = super::start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let api = Api::of(&app).await;
    let theirs = api.seed(&app, &globex).await;
    for operation in api.operations().iter().filter(|it| it.is_single() && it.method == Method::GET) {
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..SAMPLES {
            for (place, id) in [operation.id_in(&theirs), UNKNOWN].into_iter().enumerate() {
                let started = Instant::now();
                assert_eq!(app.get(&operation.address(id), &acme.key).await.status, 404);
                took[place].push(started.elapsed());
            }
        }
        let [foreign, unknown]: [Duration; 2] = took.map(|mut took| {
            took.sort();
            took[SAMPLES / 2]
        });
        println!("GET {}: foreign {foreign:?}, unknown {unknown:?} (medians of {SAMPLES})", operation.path);
        assert!(foreign < unknown * 2 && unknown < foreign * 2, "{}: {foreign:?}, {unknown:?}", operation.path);
    }
    app.stop().await;
}
