//! Tenants don't meet: over every route of the document, and in SQL that forgets them.

use std::collections::BTreeMap;

use keel::platform::db::TenantTx;
use regex::Regex;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestApp, services, things};

/// A body that the route takes, made from its schema.
fn sample(api: &Value, schema: &Value, ids: &BTreeMap<String, String>, n: usize) -> Value {
    if let Some(name) = schema["$ref"].as_str() {
        return sample(api, &api["components"]["schemas"][name.rsplit('/').next().unwrap()], ids, n);
    }
    if let Some(options) = schema["oneOf"].as_array() {
        let option = options.iter().find(|option| option["type"] != "null").unwrap();
        return sample(api, option, ids, n);
    }
    if !schema["example"].is_null() {
        return match &schema["example"] {
            Value::String(text) if text.contains('@') => json!(format!("{n}{text}")),
            Value::String(text) if text.ends_with("-1") => json!(format!("{text}{n}")),
            other => other.clone(),
        };
    }
    let kinds = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    match kinds.iter().find_map(|kind| kind.as_str().filter(|kind| *kind != "null")).unwrap_or("object") {
        "integer" => json!(1),
        "boolean" => json!(true),
        "array" => json!([sample(api, &schema["items"], ids, n)]),
        "string" if schema["format"] == "uuid" => json!("00000000-0000-7000-8000-000000000001"),
        "string" => json!(format!("text{n}")),
        _ => {
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            properties
                .iter()
                .map(|(name, schema)| {
                    // `product_id` is the id of the product that was made before.
                    let other = name.strip_suffix("_id").and_then(|resource| ids.get(&format!("/v1/{resource}s")));
                    (name.clone(), other.map_or_else(|| sample(api, schema, ids, n), |id| json!(id)))
                })
                .collect()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_every_route_a_foreign_id_looks_like_an_unknown_one() {
    let app = TestApp::start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let api = app.get("/openapi.json", "").await.ok(200);
    let paths = api["paths"].as_object().unwrap();

    // One resource of globex for every collection that can be posted to; what refers to another comes last.
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    let mut collections: Vec<_> = paths.iter().filter(|(path, _)| !path.contains('{')).collect();
    collections.sort_by_key(|(_, operations)| operations["post"].to_string().contains("idempotency-key"));
    for (path, operations) in collections {
        let schema = &operations["post"]["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        let body = sample(&api, schema, &ids, 1);
        let request = app.request(Method::POST, path, &globex.key).header("idempotency-key", path).json(&body);
        ids.insert(path.clone(), Answer::of(request).await.ok(201)["id"].as_str().unwrap().to_owned());
    }
    assert!(ids.len() >= 3, "the shop has three: {ids:?}");

    let mut checked = 0;
    for (path, operations) in paths.iter().filter(|(path, _)| path.contains('{')) {
        let collection = path.split_once("/{").unwrap().0;
        let own = ids.get(collection).unwrap_or_else(|| panic!("{path}: nothing creates {collection}"));
        let start = path.find('{').unwrap();
        let end = path.find('}').unwrap() + 1;
        let fill = |id: &str| format!("{}{id}{}", &path[..start], &path[end..]);
        for (method, operation) in operations.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let ask = async |id: &str| {
                let mut request = app.request(method.clone(), &fill(id), &acme.key);
                if !schema.is_null() {
                    request = request.json(&sample(&api, schema, &ids, 2));
                }
                Answer::of(request).await
            };
            let foreign = ask(own).await;
            let unknown = ask("01890000-0000-7000-8000-00000000000a").await;
            assert_eq!(foreign.status, 404, "{method} {path}: {}", foreign.text);
            let strip = |answer: &Answer| {
                let mut body = answer.json();
                body["request_id"] = Value::Null;
                body["trace_id"] = Value::Null;
                let mut headers: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
                headers.sort();
                (answer.status, body, headers)
            };
            assert_eq!(strip(&foreign), strip(&unknown), "{method} {path}");
            checked += 1;
        }
    }
    println!("{checked} operations on single resources");
    assert!(checked >= 4, "the shop has more: {checked} operations on single resources");
    // All of it is still there for its owner.
    for (collection, id) in &ids {
        app.get(&format!("{collection}/{id}"), &globex.key).await.ok(200);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_route_wants_a_key_and_its_scope() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let api = app.get("/openapi.json", "").await.ok(200);
    let mut writes = 0;
    let parameter = Regex::new(r"\{\w+\}").unwrap();
    for (path, operations) in api["paths"].as_object().unwrap() {
        let address = parameter.replace_all(path, "x").into_owned();
        for (method, operation) in operations.as_object().unwrap() {
            let scope = operation["security"][0]["api_key"][0].as_str();
            let scope = scope.unwrap_or_else(|| panic!("{method} {path} declares no scope"));
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            Answer::of(app.request(method.clone(), &address, "")).await.problem(401, "missing_api_key");
            let reader = Answer::of(app.request(method.clone(), &address, &acme.read_key)).await;
            if scope == "write" {
                reader.problem(403, "missing_scope");
                writes += 1;
            } else {
                assert_ne!(reader.status, 403, "{method} {path}");
            }
        }
    }
    println!("{writes} operations that write");
    assert!(writes >= 4, "the shop has more: {writes}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_that_forgets_the_tenant_sees_and_changes_nothing() {
    let app = TestApp::with_things(&[]).await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    for tenant in [&acme, &globex] {
        things::make(&app, tenant, "oak").await;
    }
    let mut bare = services::connect("DATABASE_URL", &app.database).await;
    let count = "select count(*) from test_things";
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut bare).await.unwrap(), 0, "no tenant, no rows");
    // Every table that the service reads and that has a tenant's rows.
    let readable = "select c.relname::text from pg_class c where c.relkind = 'r' and has_table_privilege(c.oid, 'select')
        and (c.oid = 'tenants'::regclass or exists (select from pg_attribute a where a.attrelid = c.oid and attname = 'tenant_id'))";
    let tables: Vec<String> = sqlx::query_scalar(readable).fetch_all(&mut bare).await.unwrap();
    for table in ["test_things", "tenants", "idempotency_keys"] {
        assert!(tables.iter().any(|known| known == table), "{table} in {tables:?}");
    }
    for table in tables {
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(&mut bare)
            .await
            .unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    let mut tx = TenantTx::begin(app.running.app.db(), acme.id).await.unwrap();
    assert_eq!(
        sqlx::query_scalar::<_, i64>(count).fetch_one(tx.traced("SELECT test_things")).await.unwrap(),
        1,
        "no where clause, own rows"
    );
    let changed =
        sqlx::query("update test_things set name = 'x'").execute(tx.traced("UPDATE test_things")).await.unwrap();
    assert_eq!(changed.rows_affected(), 1);
    let foreign = sqlx::query("insert into test_things (tenant_id, id, name, amount) values ($1, $2, 'x', 1)")
        .bind(globex.id.as_uuid())
        .bind(uuid::Uuid::now_v7())
        .execute(tx.traced("INSERT test_things"))
        .await
        .unwrap_err();
    assert_eq!(foreign.as_database_error().unwrap().code().unwrap(), "42501", "row-level security refuses it");
    drop(tx);
    // The tenant does not outlive its transaction on the connection.
    let setting: Option<String> =
        sqlx::query_scalar("select current_setting('app.tenant_id', true)").fetch_one(&mut bare).await.unwrap();
    assert!(setting.unwrap_or_default().is_empty());
    for forbidden in [
        "select * from api_keys",
        "select * from audit_log",
        "insert into tenants (id, slug) values (gen_random_uuid(), 'x')",
        "truncate test_things",
        "create table x (id int)",
    ] {
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(forbidden)).execute(&mut bare).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501", "{forbidden}");
    }
    drop(bare);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_transaction_leaves_nothing_behind() {
    let app = TestApp::with_things(&[("APP__DATABASE__MAX_CONNECTIONS", "1")]).await;
    let acme = app.tenant("acme").await;
    for round in 0..20 {
        let mut tx = TenantTx::begin(app.running.app.db(), acme.id).await.unwrap();
        let insert = "insert into test_things (tenant_id, id, name, amount) values ($1, gen_random_uuid(), 'x', 1)";
        if round % 2 == 0 {
            sqlx::query(insert).bind(acme.id.as_uuid()).execute(tx.traced("INSERT test_things")).await.unwrap();
        } else {
            // Cut in the middle of a statement: the connection can't be reused.
            let sleeping = sqlx::query("select pg_sleep(2)").execute(tx.traced("SELECT pg_sleep"));
            assert!(tokio::time::timeout(std::time::Duration::from_millis(20), sleeping).await.is_err());
        }
        drop(tx);
    }
    let mut tx = TenantTx::begin(app.running.app.db(), acme.id).await.unwrap();
    assert_eq!(
        sqlx::query_scalar::<_, i64>("select count(*) from test_things")
            .fetch_one(tx.traced("SELECT test_things"))
            .await
            .unwrap(),
        0
    );
    drop(tx);
    crate::support::eventually("no session left in a transaction", || async {
        let idle = "select count(*) from pg_stat_activity where datname = $1 and state like 'idle in transaction%'";
        let left: i64 =
            sqlx::query_scalar(idle).bind(&app.database).fetch_one(&mut services::admin().await).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_in_which_a_statement_failed_cannot_be_committed() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let mut tx = TenantTx::begin(app.running.app.db(), acme.id).await.unwrap();
    sqlx::query("select 1 / 0").execute(tx.traced("SELECT nothing")).await.unwrap_err();
    // Postgres would answer COMMIT with ROLLBACK, and no error.
    assert!(tx.commit().await.is_err());
    app.stop().await;
}
