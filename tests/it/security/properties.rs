//! API3: what a client may set, and what it gets to see, property by property, from the document.
//! `platform::bad_input` shows one unknown field on one route.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::document::{Api, Ids, Operation, at_least};
use crate::support::Answer;

/// What tables have and answers don't, and spellings that a lax reader would take for a field.
const INTERNAL: [&str; 19] = [
    "tenant_id",
    "tenantId",
    "tenant",
    "role",
    "scope",
    "is_admin",
    "owner",
    "principal_id",
    "secret_hash",
    "hash",
    "idempotency_key",
    "total_minor",
    "price_minor",
    "deleted_at",
    "version",
    "__proto__",
    "constructor",
    "Name",
    "name ",
];

/// Bodies with one property too many, each with its name: those of the answer that the request does not
/// have, and the internal ones; in nested objects and in the entries of arrays too.
fn intruders(api: &Api, request: &Value, response: &Value, good: &Value) -> Vec<(String, Value)> {
    let (takes, gives) = (api.properties(request), api.properties(response));
    let mut found = Vec::new();
    let foreign = gives.keys().map(String::as_str).chain(INTERNAL).filter(|name| !takes.contains_key(*name));
    for name in foreign {
        let values = gives.get(name).map(|schema| api.sample(schema, &Ids::new()));
        for value in values.into_iter().chain([json!("x"), json!(null)]) {
            let mut body = good.clone();
            body[name] = value;
            found.push((name.to_owned(), body));
        }
    }
    for (name, schema) in takes {
        let inside = |of: &Value, to: &Value, value: &Value| intruders(api, of, to, value);
        let given = gives.get(&name).unwrap_or(&Value::Null);
        let nested = match api.kind(&schema).as_str() {
            "object" => inside(&schema, given, &good[&name]).into_iter().collect(),
            "array" => {
                let items = (&api.resolve(&schema)["items"], &api.resolve(given)["items"]);
                inside(items.0, items.1, &good[&name][0]).into_iter().map(|(it, value)| (it, json!([value]))).collect()
            }
            _ => Vec::new(),
        };
        for (intruder, value) in nested {
            let mut body = good.clone();
            body[&name] = value;
            found.push((intruder, body));
        }
    }
    found
}

fn success(operation: &Operation) -> Value {
    operation.answers.iter().find_map(|(status, schema)| schema.clone().filter(|_| *status < 300)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_answers_have_can_not_be_written_on_any_route() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let api = Api::of(&app).await;
    let ids = api.seed(&app, &acme).await;
    let state = async |path: &str| app.get(path, &acme.key).await.ok(200);
    let mut refused = 0;
    for operation in api.operations().iter().filter(|it| it.body.is_some()) {
        let good = api.body(operation, &ids).unwrap();
        let name = format!("{} {}", operation.method, operation.path);
        let watched = operation.address(operation.id_in(&ids));
        let before = state(&watched).await;
        let all = intruders(&api, operation.body.as_ref().unwrap(), &success(operation), &good);
        assert!(all.len() > INTERNAL.len(), "{name}: there is something to refuse");
        for (intruder, body) in all {
            let answer = operation.send(&app, &acme.key, operation.id_in(&ids), Some(&body)).await;
            let problem = answer.problem(400, "malformed_json");
            let named = problem["errors"][0]["message"].as_str().unwrap();
            assert!(named.contains(&format!("`{intruder}`")), "{name}: {intruder} is not named: {problem}");
            refused += 1;
        }
        assert_eq!(state(&watched).await, before, "{name} changed something");
    }
    at_least(200, refused, "refusals");
    assert_eq!(app.charges().await.len(), 1, "the order of the shop's seed");
    app.stop().await;
}

/// The same keys as in the schema, all the way down.
fn exactly(api: &Api, schema: &Value, value: &Value, at: &str) {
    let schema = api.resolve(schema);
    match value {
        Value::Object(fields) => {
            let known = api.properties(schema);
            let required: BTreeSet<&str> =
                schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect();
            for (name, value) in fields {
                let schema = known.get(name).unwrap_or_else(|| panic!("{at}.{name} is not in the document: {value}"));
                exactly(api, schema, value, &format!("{at}.{name}"));
            }
            for name in required {
                assert!(fields.contains_key(name), "{at}.{name} is missing");
            }
        }
        Value::Array(entries) => entries.iter().for_each(|entry| exactly(api, &schema["items"], entry, at)),
        _ => {
            let kind = api.kind(schema);
            let fits = match value {
                Value::Null => schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("null"))),
                Value::Bool(_) => kind == "boolean",
                Value::Number(number) => kind == "integer" && number.is_i64(),
                _ => kind == "string",
            };
            assert!(fits, "{at}: {value} is no {kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_documented_properties_and_no_other() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let api = Api::of(&app).await;
    let mut checked = 0;
    for operation in &api.operations() {
        let ids = api.seed(&app, &acme).await;
        let name = format!("{} {}", operation.method, operation.path);
        let mut answers = Vec::new();
        let body = api.body(operation, &ids);
        for key in [&acme.key, &acme.read_key] {
            answers.push(operation.send(&app, key, operation.id_in(&ids), body.as_ref()).await);
        }
        // And failures, of the kinds there are.
        answers.push(operation.send(&app, "", operation.id_in(&ids), body.as_ref()).await);
        answers.push(operation.send(&app, &acme.key, "x", Some(&json!({"x": 1}))).await);
        for answer in &answers {
            let schema = operation.answers.get(&answer.status);
            let schema =
                schema.unwrap_or_else(|| panic!("{name}: {} is not documented: {}", answer.status, answer.text));
            if answer.status < 300 {
                match schema {
                    Some(schema) => exactly(&api, schema, &answer.json(), &name),
                    None => assert_eq!(answer.text, "", "{name}: an answer without a body"),
                }
            } else {
                let problem = json!({"$ref": "#/components/schemas/ProblemBody"});
                exactly(&api, &problem, &answer.json(), &name);
            }
            checked += 1;
        }
    }
    at_least(40, checked, "answers");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_holds_what_is_kept_beside_the_data() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let api = Api::of(&app).await;
    let ids = api.seed(&app, &acme).await;
    let secrets = [acme.key.rsplit_once('_').unwrap().1, acme.read_key.rsplit_once('_').unwrap().1, "tok_ok"];
    for operation in api.operations().iter().filter(|it| it.method == Method::GET) {
        let address = operation.address(operation.id_in(&ids));
        let answer: Answer = app.get(&address, &acme.key).await;
        for secret in secrets {
            assert!(!answer.text.contains(secret), "{address}: {}", answer.text);
        }
        // The tenant's id is the business of one route.
        assert_eq!(answer.text.contains(&acme.id.to_string()), address == "/v1/tenant", "{address}");
    }
    app.stop().await;
}
