//! Secrets in files, written anew while the service runs: pepper, database password, admin token. Nothing fails
//! meanwhile, and what can't be used is told and left.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use keel::platform::config::Secret;
use reqwest::{Method, header::AUTHORIZATION};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::{
    Answer, TestApp,
    client::Client,
    eventually,
    process::{Service, run, settings, text},
    services, things,
};

const OLD: &str = "the-old-pepper-of-more-than-thirty-two-characters";
const NEW: &str = "another-pepper-of-more-than-thirty-two-letters-1";

struct Files(tempfile::TempDir);

impl Files {
    /// As a mounted secret is replaced: written beside, then moved over.
    fn write(&self, name: &str, value: &str) -> PathBuf {
        let (path, beside) = (self.0.path().join(name), self.0.path().join(format!("{name}.new")));
        std::fs::write(&beside, format!("{value}\n")).unwrap();
        std::fs::rename(beside, &path).unwrap();
        path
    }
}

/// The keys named by each `secrets_rotated` so far.
fn rotated(service: &Service) -> Vec<String> {
    let lines = service.lines();
    let lines = lines.iter().filter(|line| line["message"] == "secrets_rotated");
    lines.map(|line| line["keys"].as_str().unwrap().to_owned()).collect()
}

async fn wait_for(service: &Service, count: usize, keys: &str) {
    eventually(keys, || async { (rotated(service).len() >= count).then_some(()) }).await;
    assert_eq!(rotated(service)[count - 1], keys);
}

fn key(variables: &BTreeMap<String, String>, name: &str) -> String {
    let made = run(&["api-key", "create", "--tenant", "acme", "--scope", "write", "--name", name], variables);
    assert!(made.status.success(), "{}", text(&made.stderr));
    text(&made.stdout).trim().to_owned()
}

async fn set_level(admin: &Client, token: &str) -> u16 {
    let request = admin.request(Method::PUT, "/log-level?ttl=1s", "").header(AUTHORIZATION, format!("Bearer {token}"));
    Answer::of(request.body("info")).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pepper_and_a_token_are_rotated_without_a_restart_and_no_key_dies() {
    let (database, files) = (services::database().await, Files(tempfile::tempdir().unwrap()));
    let mut tools = settings(&database);
    tools.insert("APP__AUTH__PEPPER".to_owned(), OLD.to_owned());
    assert!(run(&["tenant", "create", "acme"], &tools).status.success());
    let (used, unused) = (key(&tools, "used"), key(&tools, "unused"));
    let mut variables = settings(&database);
    for (name, value) in [("pepper", OLD), ("previous", ""), ("token", "token-1")] {
        let path = files.write(name, value).to_str().unwrap().to_owned();
        let variable = match name {
            "pepper" => "APP__AUTH__PEPPER_FILE",
            "previous" => "APP__AUTH__PREVIOUS_PEPPER_FILE",
            _ => "APP__ADMIN__TOKEN_FILE",
        };
        variables.insert(variable.to_owned(), path);
    }
    variables.insert("APP__AUTH__KEY_CACHE_TTL".to_owned(), "20ms".to_owned());
    variables.insert("APP__LIFECYCLE__SECRETS_INTERVAL".to_owned(), "50ms".to_owned());
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) }).await;
    public.get("/v1/tenant", &used).await.ok(200);
    assert_eq!((set_level(&admin, "token-1").await, set_level(&admin, "token-2").await), (200, 401));

    // First what comes is accepted, everywhere; then it is used.
    files.write("previous", NEW);
    wait_for(&service, 1, "auth.pepper").await;
    public.get("/v1/tenant", &used).await.ok(200);
    files.write("pepper", NEW);
    files.write("previous", OLD);
    wait_for(&service, 2, "auth.pepper").await;
    public.get("/v1/tenant", &used).await.ok(200);
    tools.insert("APP__AUTH__PEPPER".to_owned(), NEW.to_owned());
    let made_since = key(&tools, "new");
    public.get("/v1/tenant", &made_since).await.ok(200);
    files.write("previous", "");
    wait_for(&service, 3, "auth.pepper").await;
    eventually("the cache of keys has forgotten", || async {
        (public.get("/v1/tenant", &unused).await.status == 401).then_some(())
    })
    .await;
    // A key that was used meanwhile was hashed anew.
    public.get("/v1/tenant", &used).await.ok(200);

    files.write("token", "token-2");
    wait_for(&service, 4, "admin.token").await;
    assert_eq!((set_level(&admin, "token-1").await, set_level(&admin, "token-2").await), (401, 200));

    // What can't be used is told, once, and what is in use stays.
    std::fs::remove_file(files.0.path().join("pepper")).unwrap();
    let told = service.line("secrets_not_rotated").await;
    assert!(told["error"].as_str().unwrap().contains("auth.pepper"), "{told}");
    public.get("/v1/tenant", &used).await.ok(200);
    files.write("pepper", NEW);
    files.write("token", "token-3");
    wait_for(&service, 5, "admin.token").await;
    let lines = service.lines();
    let events = lines.iter().filter(|line| line["event"] == "secrets_rotated").count();
    assert_eq!(events, 5, "each is a security event");
    for secret in [OLD, NEW, "token-1", "token-2", "token-3"] {
        assert!(!Value::from(lines.clone()).to_string().contains(secret), "{secret} in the log");
    }
    service.signal("TERM");
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
    services::drop_database(&database).await;
}

/// The first page's cursor while the pepper of its time is in use, then with another in front of it, then without it.
pub async fn a_cursor_lives_as_long_as_its_pepper(app: &TestApp, list: &str, key: &str) {
    let page = app.get(&format!("{list}?limit=1"), key).await.ok(200);
    let next = format!("{list}?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
    app.get(&next, key).await.ok(200);
    let hashes = async || {
        let mut system = services::connect("DATABASE_SYSTEM_URL", &app.database).await;
        let sql = "select secret_hash from api_keys order by key_id";
        sqlx::query_scalar::<_, Vec<u8>>(sql).fetch_all(&mut system).await.unwrap()
    };
    let before = hashes().await;
    let mut config = app.config.clone();
    config.auth.previous_pepper = config.auth.pepper.replace(Secret::new(NEW.to_owned()));
    assert_eq!(app.running.app.rotate(&config).unwrap(), ["auth.pepper"]);
    // The key has to live longer than the cursor: with its next use it is hashed anew.
    eventually("the key of the new pepper", || async {
        app.get(&next, key).await.ok(200);
        (hashes().await != before).then_some(())
    })
    .await;
    config.auth.previous_pepper = None;
    assert_eq!(app.running.app.rotate(&config).unwrap(), ["auth.pepper"]);
    app.get(&next, key).await.problem(400, "invalid_cursor");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_good_until_the_pepper_of_its_time_is_gone() {
    let app = TestApp::with_things(&[("APP__AUTH__KEY_CACHE_TTL", "20ms")]).await;
    let acme = app.tenant("acme").await;
    for n in 0..3 {
        things::make(&app, &acme, &format!("oak {n}")).await;
    }
    a_cursor_lives_as_long_as_its_pepper(&app, things::PATH, &acme.key).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_password_is_rotated_without_a_failed_request() {
    let (database, files) = (services::database().await, Files(tempfile::tempdir().unwrap()));
    let mut variables = settings(&database);
    // A role of this test's own, in the place of the runtime role.
    let role = format!("rotating_{}", uuid::Uuid::now_v7().simple());
    let mut admin_connection = services::admin().await;
    for sql in [
        format!("create role {role} login password 'first' in role {}", services::role("RUNTIME")),
        format!("alter role {role} set statement_timeout = '3s'"),
        format!("alter role {role} set lock_timeout = '1s'"),
        format!("alter role {role} set idle_in_transaction_session_timeout = '5s'"),
    ] {
        admin_connection.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    assert!(run(&["tenant", "create", "acme"], &variables).status.success());
    let key = key(&variables, "test");
    let plain = variables.remove("DATABASE_URL").unwrap();
    let url = |password: &str| {
        let mut url = reqwest::Url::parse(&plain).unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some(password)).unwrap();
        url.to_string()
    };
    let path = files.write("url", &url("first")).to_str().unwrap().to_owned();
    variables.insert("DATABASE_URL_FILE".to_owned(), path);
    variables.insert("APP__LIFECYCLE__SECRETS_INTERVAL".to_owned(), "0s".to_owned());
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) }).await;
    public.get("/v1/tenant", &key).await.ok(200);
    admin_connection.execute(AssertSqlSafe(format!("alter role {role} password 'second'"))).await.unwrap();
    // Sessions that exist live on.
    for _ in 0..20 {
        public.get("/v1/tenant", &key).await.ok(200);
    }
    files.write("url", &url("second"));
    service.signal("HUP");
    wait_for(&service, 1, "database.url").await;
    let ended = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'");
    admin_connection.execute(AssertSqlSafe(ended)).await.unwrap();
    for _ in 0..20 {
        public.get("/v1/tenant", &key).await.ok(200);
    }
    service.signal("TERM");
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
    services::drop_database(&database).await;
    admin_connection.execute(AssertSqlSafe(format!("drop role {role}"))).await.unwrap();
}
