//! API5: who may do what: every documented route for every kind of key, every method that is not
//! documented, and the admin listener's paths. `platform::tenancy` shows that a route wants a scope, with
//! ids that lead nowhere; here they lead somewhere, so that what must not happen could. That a wrong admin
//! token changes nothing is in `platform::lifecycle`.

use std::collections::BTreeSet;

use reqwest::{Method, header::AUTHORIZATION};
use serde_json::json;

use super::{
    document::{Api, UNKNOWN, at_least},
    inventory::routes_in,
};
use crate::support::{Answer, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn a_read_key_reads_and_a_write_key_does_all_on_every_route() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let api = Api::of(&app).await;
    let (mut reads, mut writes) = (0, 0);
    for operation in &api.operations() {
        let name = format!("{} {}", operation.method, operation.path);
        assert!(["read", "write"].contains(&operation.scope.as_str()), "{name} declares no scope");
        assert_eq!(operation.method == Method::GET, operation.scope == "read", "{name}: what changes something writes");
        let ids = api.seed(&app, &acme).await;
        let id = operation.id_in(&ids);
        let body = api.body(operation, &ids);
        let watched = if operation.is_single() {
            format!("{}/{id}", operation.collection())
        } else {
            format!("{}?limit=100", operation.collection()).replace("/v1/tenant?limit=100", "/v1/tenant")
        };
        let before = app.get(&watched, &acme.key).await.ok(200);
        let reader = operation.send(&app, &acme.read_key, id, body.as_ref()).await;
        if operation.scope == "write" {
            reader.problem(403, "missing_scope");
            // Before anything else is looked at: neither id nor body tell a reader more.
            operation.send(&app, &acme.read_key, UNKNOWN, Some(&json!({"x": 1}))).await.problem(403, "missing_scope");
            operation.send(&app, &acme.read_key, "x", None).await.problem(403, "missing_scope");
            assert_eq!(app.get(&watched, &acme.key).await.ok(200), before, "{name} by a reader");
            writes += 1;
        } else {
            reader.ok(200);
            reads += 1;
        }
        let writer = operation.send(&app, &acme.key, id, body.as_ref()).await;
        assert!((200..300).contains(&writer.status), "{name}: {}", writer.text);
    }
    at_least(6, reads, "operations that read");
    at_least(5, writes, "operations that write");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_documented_is_a_405_that_lists_those_that_are() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let api = Api::of(&app).await;
    let ids = api.seed(&app, &acme).await;
    let operations = api.operations();
    for path in api.paths() {
        let of_path: Vec<_> = operations.iter().filter(|it| it.path == path).collect();
        let address = of_path[0].address(of_path[0].id_in(&ids));
        let mut documented: BTreeSet<_> = of_path.iter().map(|it| it.method.to_string()).collect();
        // HEAD is GET without its body (RFC 9110 §9.3.2), and needs the same key.
        if documented.contains("GET") {
            documented.insert("HEAD".to_owned());
            assert_eq!(Answer::of(app.request(Method::HEAD, &address, "")).await.status, 401, "HEAD {path}");
            assert_eq!(Answer::of(app.request(Method::HEAD, &address, &acme.key)).await.status, 200, "HEAD {path}");
        }
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW", "get"] {
            if documented.contains(method) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = Answer::of(app.request(method.clone(), &address, &acme.key).json(&json!({}))).await;
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text);
            let allowed: BTreeSet<_> = answer.header("allow").split(',').map(|it| it.trim().to_owned()).collect();
            assert_eq!(allowed, documented, "{method} {path}");
            if method != Method::HEAD {
                answer.problem(405, "method_not_allowed");
            }
        }
        // A header is no method.
        for name in ["x-http-method-override", "x-method-override", "x-http-method"] {
            let request = app.request(Method::POST, &address, &acme.read_key).header(name, "GET");
            let answer = Answer::of(request.header("idempotency-key", "k").json(&json!({}))).await;
            assert!(matches!(answer.status, 403 | 405), "POST {path} as GET: {}", answer.text);
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_admin_listener_serves_is_nothing_on_the_public_port() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let both = ["/health/live", "/health/ready"];
    let admin: BTreeSet<String> = routes_in("src/platform/admin").into_iter().map(|route| route.path).collect();
    assert!(admin.len() >= 9, "{admin:?}");
    let mut checked = 0;
    for path in admin.iter().filter(|path| !both.contains(&path.as_str())) {
        let asked = app.admin.get(&format!("{path}?seconds=x"), "").await;
        assert!(!asked.text.contains("route_not_found"), "{path} is one of admin's");
        let doubled = format!("/{path}");
        let spellings = [
            path.clone(),
            format!("{path}/"),
            path.to_uppercase(),
            format!("/v1{path}"),
            doubled,
            format!("/docs/assets/..{path}"),
        ];
        for spelling in spellings {
            for method in [Method::GET, Method::PUT, Method::POST] {
                for key in ["", &acme.key] {
                    let answer = Answer::of(app.request(method.clone(), &spelling, key)).await;
                    assert_eq!(answer.status, 404, "{method} {spelling}: {}", answer.text);
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 100);
    // Nor is the API on admin's.
    for path in Api::of(&app).await.paths() {
        app.admin.get(path, &acme.key).await.problem_without_ids(404, "route_not_found");
    }
    // The probes that are on both say less here.
    let public = app.get("/health/ready", "").await.ok(200);
    assert_eq!(public, json!({"status": "ready"}), "status only");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_state_on_the_admin_listener_wants_its_token() {
    const TOKEN: &str = "an-admin-token-of-these-tests-only";
    let changes: Vec<_> = routes_in("src/platform/admin")
        .into_iter()
        .filter(|it| it.methods.iter().any(|method| method != "GET"))
        .collect();
    assert!(!changes.is_empty());
    let locked = super::start().await;
    let app = TestApp::with(&[("APP__ADMIN__TOKEN", TOKEN)]).await;
    let acme = app.tenant("acme").await;
    let now = app.admin.get("/log-level", "").await.ok(200);
    for route in changes {
        for method in route.methods.iter().filter(|method| *method != "GET") {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let with = async |value: &str| {
                let request = app.admin.request(method.clone(), &route.path, "").header(AUTHORIZATION, value);
                Answer::of(request.body("off")).await
            };
            for wrong in [
                "",
                "Bearer",
                "Bearer ",
                TOKEN,
                &format!("Basic {TOKEN}"),
                &format!("Bearer {}", &TOKEN[1..]),
                &format!("Bearer {TOKEN}x"),
                &format!("Bearer {}", TOKEN.to_uppercase()),
                &format!("Bearer {}", acme.key),
            ] {
                with(wrong).await.problem_without_ids(401, "invalid_admin_token");
            }
            let query = format!("{}?token={TOKEN}", route.path);
            let answer = Answer::of(app.admin.request(method.clone(), &query, "").body("off")).await;
            assert!(matches!(answer.status, 400 | 401), "a token in the query: {}", answer.text);
            // Without a token in the settings nobody can, not even with an empty one.
            for value in ["", "Bearer ", "Bearer x"] {
                let request = locked.admin.request(method.clone(), &route.path, "").header(AUTHORIZATION, value);
                Answer::of(request.body("off")).await.problem_without_ids(403, "admin_token_unset");
            }
        }
    }
    assert_eq!(app.admin.get("/log-level", "").await.ok(200), now, "nothing changed");
    app.stop().await;
    locked.stop().await;
}
