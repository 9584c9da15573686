//! Widgets: what a tenant does with them, what another tenant sees of them, and what telemetry says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{TestApp, client::Tenant, sinks::SHARED};

fn widget(number: &str) -> Value {
    json!({"number": number, "name": "First", "note": "Something to remember"})
}

/// Creates one and returns its path and its body.
async fn create(app: &TestApp, tenant: &Tenant, number: &str) -> (String, Value) {
    let created = app.post("/v1/widgets", &tenant.key, &widget(number)).await;
    let body = created.ok(201);
    let path = created.header("location").to_owned();
    assert_eq!(path, format!("/v1/widgets/{}", body["id"].as_str().unwrap()));
    (path, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_widget_is_created_once_read_changed_and_deleted() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (path, mut expected) = create(&app, &acme, "N-1").await;
    assert_eq!(app.get(&path, &acme.read_key).await.ok(200), expected);
    // Who asks again because no answer came makes no second one.
    app.post("/v1/widgets", &acme.key, &widget("N-1")).await.problem(409, "widget_number_taken");
    let patches = [json!({"number": "N-2"}), json!({"name": "Second"}), json!({"name": "Third", "note": null})];
    for patch in &patches {
        let changed = app.patch(&path, &acme.key, patch).await.ok(200);
        for (field, value) in patch.as_object().unwrap() {
            expected[field] = value.clone();
        }
        assert!(changed["updated_at"].as_str() > expected["updated_at"].as_str());
        expected["updated_at"] = changed["updated_at"].clone();
        assert_eq!(changed, expected, "after {patch}");
        assert_eq!(app.get(&path, &acme.key).await.ok(200), expected);
    }
    assert_eq!(app.patch(&path, &acme.key, &json!({})).await.ok(200), expected, "not even updated_at");
    create(&app, &acme, "N-9").await;
    app.patch(&path, &acme.key, &json!({"number": "N-9"})).await.problem(409, "widget_number_taken");
    assert_eq!(app.delete(&path, &acme.key).await.status, 204);
    app.get(&path, &acme.key).await.problem(404, "widget_not_found");
    app.patch(&path, &acme.key, &json!({"name": "Fourth"})).await.problem(404, "widget_not_found");
    app.delete(&path, &acme.key).await.problem(404, "widget_not_found");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_widget_that_breaks_rules_is_refused_with_all_its_fields() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let broken = json!({"number": "1 / 2", "name": " ", "note": ""});
    let refused = app.post("/v1/widgets", &acme.key, &broken).await.problem(422, "validation_failed");
    let fields: Vec<_> = refused["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["number", "name", "note"]);
    let unknown = json!({"number": "N-1", "name": "First", "colour": "red"});
    app.post("/v1/widgets", &acme.key, &unknown).await.problem(400, "malformed_json");
    app.post("/v1/widgets", &acme.read_key, &widget("N-1")).await.problem(403, "missing_scope");
    assert_eq!(app.get("/v1/widgets", &acme.key).await.ok(200)["data"], json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_widget_exactly_once_and_only_the_tenants_own() {
    let app = TestApp::start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    for n in 0..7 {
        create(&app, &acme, &format!("N-{n}")).await;
    }
    let (theirs, _) = create(&app, &globex, "N-0").await;
    for limit in [1, 3, 7, 100] {
        let (mut numbers, mut query) = (Vec::new(), format!("?limit={limit}"));
        loop {
            let page = app.get(&format!("/v1/widgets{query}"), &acme.key).await.ok(200);
            numbers.extend(page["data"].as_array().unwrap().iter().map(|one| one["number"].to_string()));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            query = format!("?limit={limit}&cursor={cursor}");
        }
        assert_eq!(numbers.len(), 7, "at limit {limit}");
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), 7);
        assert!(numbers.is_sorted(), "oldest first");
    }
    let first = app.get("/v1/widgets?limit=1", &acme.key).await.ok(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    app.get(&format!("/v1/widgets?cursor={cursor}"), &globex.key).await.problem(400, "invalid_cursor");
    // What is another's looks like what is not there, whatever is done to it.
    app.get(&theirs, &acme.key).await.problem(404, "widget_not_found");
    app.patch(&theirs, &acme.key, &json!({"name": "Mine"})).await.problem(404, "widget_not_found");
    app.delete(&theirs, &acme.key).await.problem(404, "widget_not_found");
    assert_eq!(app.get(&theirs, &globex.key).await.ok(200)["name"], "First");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_widgets_is_counted_logged_and_traced() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let counted = async |outcome: &str| {
        let (name, label) = ("domain_widgets_total", format!("outcome=\"{outcome}\""));
        assert!(app.metrics().await.contains(&format!("{name}{{{label}}}")), "{label} is there from the start");
        app.metric(name, &[&label]).await
    };
    for outcome in ["created", "changed", "deleted"] {
        assert_eq!(counted(outcome).await, 0.0, "{outcome}");
    }
    let created = app.post("/v1/widgets", &acme.key, &widget("N-1")).await;
    let path = created.header("location").to_owned();
    app.post("/v1/widgets", &acme.key, &widget("N-1")).await.problem(409, "widget_number_taken");
    app.patch(&path, &acme.key, &json!({})).await.ok(200);
    app.patch(&path, &acme.key, &json!({"name": "Second"})).await.ok(200);
    app.delete(&path, &acme.key).await;
    for outcome in ["created", "changed", "deleted"] {
        assert_eq!(counted(outcome).await, 1.0, "{outcome}: neither what was refused nor what changed nothing");
    }
    let lines = SHARED.logs("request_id", created.header("x-request-id")).await;
    let line = lines.iter().find(|line| line["message"] == "request_completed").unwrap();
    assert_eq!((&line["route"], &line["status"]), (&json!("/v1/widgets"), &json!(201)));
    assert_eq!(line["tenant_id"], json!(acme.id));
    let spans = SHARED.trace(created.header("x-trace-id"), 2).await;
    let names: BTreeSet<_> = spans.iter().map(|span| span.span.name.as_str()).collect();
    assert!(names.is_superset(&["POST /v1/widgets", "INSERT widgets"].into()), "{names:?}");
    app.stop().await;
}
