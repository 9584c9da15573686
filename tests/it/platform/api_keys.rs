//! API keys: one answer for all that is wrong, scopes, revocation, and the commands that manage them.

use std::time::{Duration, Instant};

use keel::platform::{
    db::SystemTx,
    tenancy::{api_key::ApiKey, store},
};

use crate::support::{TestApp, process, services, things};

#[tokio::test(flavor = "multi_thread")]
async fn unknown_wrong_and_revoked_keys_get_the_same_answer() {
    let app = TestApp::with(&[("APP__AUTH__KEY_CACHE_TTL", "100ms")]).await;
    let acme = app.tenant("acme").await;
    let id = ApiKey::parse(&acme.key).unwrap().id.to_owned();
    let wrong = format!("ak_{id}_{}", "x".repeat(32));
    let unknown = format!("ak_{}_{}", "y".repeat(12), "x".repeat(32));
    app.get("/v1/tenant", &acme.key).await.ok(200);

    let mut tx = SystemTx::begin(app.running.app.db()).await.unwrap();
    assert!(store::revoke_key(&mut tx, acme.id.as_uuid(), &id).await.unwrap());
    tx.commit().await.unwrap();
    let revoked = Instant::now();
    let refused = crate::support::eventually("the revocation", || async {
        let answer = app.get("/v1/tenant", &acme.key).await;
        (answer.status == 401).then_some(answer)
    })
    .await;
    assert!(revoked.elapsed() < Duration::from_secs(5));

    let mut answers = vec![refused];
    for key in [&wrong, &unknown, "ak_", "nonsense", "ak_é"] {
        answers.push(app.get("/v1/tenant", key).await);
    }
    for answer in &answers {
        let mut body = answer.problem(401, "invalid_api_key");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        for id in ["request_id", "trace_id"] {
            body[id] = "".into();
        }
        let mut first = answers[0].json();
        for id in ["request_id", "trace_id"] {
            first[id] = "".into();
        }
        assert_eq!(body, first);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_the_scope_reads_and_does_not_write() {
    let app = TestApp::with_things(&[]).await;
    let acme = app.tenant("acme").await;
    app.get(things::PATH, &acme.read_key).await.ok(200);
    app.post(things::PATH, &acme.read_key, &things::thing("oak")).await.problem(403, "missing_scope");
    assert_eq!(app.get(things::PATH, &acme.key).await.ok(200)["data"], serde_json::json!([]), "nothing was written");
    app.post(things::PATH, &acme.key, &things::thing("oak")).await.ok(201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_unknown_key_is_one_query() {
    let app = TestApp::start().await;
    let key = format!("ak_{}_{}", "z".repeat(12), "x".repeat(32));
    for _ in 0..50 {
        app.get("/v1/tenant", &key).await.problem(401, "invalid_api_key");
    }
    assert_eq!(
        app.metric("db_client_operation_duration_seconds_count", &["db_query_summary=\"SELECT api_keys\""]).await,
        1.0
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_make_list_and_revoke_keys_and_leave_an_audit_trail() {
    let app = TestApp::with(&[("APP__AUTH__KEY_CACHE_TTL", "50ms")]).await;
    let settings = process::settings(&app.database);
    let run = |arguments: &[&str]| {
        let output = process::run(arguments, &settings);
        (output.status.code().unwrap(), process::text(&output.stdout), process::text(&output.stderr))
    };
    let (code, id, _) = run(&["tenant", "create", "initech"]);
    assert_eq!(code, 0);
    let (code, _, error) = run(&["tenant", "create", "initech"]);
    assert_eq!(code, 1);
    assert!(error.contains("A tenant with this name exists"), "{error}");
    assert_eq!(run(&["tenant", "create", "initech", "--if-not-exists"]).1, id);
    assert_eq!(run(&["tenant", "create", "Initech!"]).0, 1);
    assert!(run(&["tenant", "list"]).1.contains(&format!("{}\tinitech\t", id.trim())));

    let (code, key, _) = run(&["api-key", "create", "--tenant", "initech", "--scope", "write", "--name", "robot"]);
    assert_eq!(code, 0);
    app.get("/v1/tenant", key.trim()).await.ok(200);
    let key_id = ApiKey::parse(key.trim()).unwrap().id.to_owned();
    let (_, listed, _) = run(&["api-key", "list", "--tenant", "initech"]);
    assert!(listed.contains(&key_id) && listed.contains("robot") && !listed.contains(key.trim()), "{listed}");
    assert_eq!(run(&["api-key", "revoke", "--tenant", "initech", &key_id]).0, 0);
    assert_eq!(run(&["api-key", "revoke", "--tenant", "initech", &key_id]).0, 1);
    assert_eq!(run(&["api-key", "create", "--tenant", "nobody", "--name", "x"]).0, 1);
    crate::support::eventually("the revocation", || async {
        (app.get("/v1/tenant", key.trim()).await.status == 401).then_some(())
    })
    .await;

    let mut owner = services::connect("DATABASE_SYSTEM_URL", &app.database).await;
    let actions: Vec<String> =
        sqlx::query_scalar("select action from audit_log order by id").fetch_all(&mut owner).await.unwrap();
    assert_eq!(actions, ["tenant_created", "api_key_created", "api_key_revoked"]);
    drop(owner);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_told_its_limit_and_held_to_it() {
    let app = TestApp::with(&[("APP__RATE_LIMIT__PER_SECOND", "1"), ("APP__RATE_LIMIT__BURST", "3")]).await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    for left in ["2", "1", "0"] {
        let answer = app.get("/v1/tenant", &acme.key).await;
        answer.ok(200);
        assert_eq!((answer.header("ratelimit-limit"), answer.header("ratelimit-remaining")), ("3", left));
        assert!(answer.header("ratelimit-reset").parse::<u64>().unwrap() <= 3);
    }
    let denied = app.get("/v1/tenant", &acme.read_key).await;
    denied.problem(429, "rate_limited");
    assert_eq!(denied.header("retry-after"), "1", "another key of the same tenant is the same tenant");
    app.get("/v1/tenant", &globex.key).await.ok(200);
    assert_eq!(app.metric("rate_limit_decisions_total", &["decision=\"deny\""]).await, 1.0);
    app.stop().await;
}
