//! The SQL of the cheat-sheets, on a database in trouble: a transaction that is idle and holds a row, a statement that
//! waits for it, one that takes long. What looks finds it, as a role that may no more than the page says; what ends
//! sessions ends these and no others.

use regex::Regex;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::sheets::{Block, blocks};
use crate::support::{eventually, services};

const TRACE: &str = "0123456789abcdef0123456789abcdef";
const CORRELATION: &str = "cheat-sheet";
const HOLD: &str = "begin; update fault_rows set payload = payload where id = 1";

/// What a page says, for now and here: nothing has lasted long in a test.
pub fn filled_in(block: &Block) -> String {
    let waits = Regex::new("interval '[0-9]+ [a-z]+'").unwrap();
    let text = block.text.replace("TRACE_ID", TRACE).replace("CORRELATION_ID", CORRELATION);
    waits.replace_all(&text, "interval '0 seconds'").into_owned()
}

fn ends_sessions(block: &Block) -> bool {
    ["pg_terminate_backend", "pg_cancel_backend"].iter().any(|function| block.text.contains(function))
}

pub async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

pub async fn admin(database: &str) -> PgConnection {
    services::connect("TEST_ADMIN_DATABASE_URL", database).await
}

/// A session of the service as it is inside a request, without the limits that would end it before the test does.
async fn session(url: &str, database: &str, application: &str, sql: &str) -> (i32, PgConnection) {
    let mut session = services::connect(url, database).await;
    let limits = "set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0";
    execute(&mut session, &format!("{limits}; set application_name = '{application}'; {sql}")).await;
    let pid = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut session).await.unwrap();
    (pid, session)
}

/// A new tenant, with a job that waits and one that is dead, a stuck key and a line of the audit log.
pub async fn tenant(database: &str) -> Uuid {
    let tenant = Uuid::now_v7();
    let mut system = services::connect("DATABASE_SYSTEM_URL", database).await;
    execute(
        &mut system,
        &format!(
            "insert into tenants (id, slug) values ('{tenant}', 'acme');
             insert into audit_log (tenant_id, id, actor, action) values ('{tenant}', gen_random_uuid(), 'cli', 'x')"
        ),
    )
    .await;
    let mut runtime = services::connect("DATABASE_URL", database).await;
    execute(
        &mut runtime,
        &format!(
            "begin; set local app.tenant_id = '{tenant}';
             insert into jobs (tenant_id, id, queue, kind, payload, request_id, correlation_id, dead_at)
             select '{tenant}', gen_random_uuid(), 'faults', 'faults.nothing', '{{}}', 'r', '{CORRELATION}', dead
             from unnest(array[null, now()]) as dead;
             insert into idempotency_keys (tenant_id, key, fingerprint) values ('{tenant}', 'k', '');
             commit"
        ),
    )
    .await;
    tenant
}

struct Trouble {
    database: String,
    /// Whoever looks, and ends.
    role: String,
    /// What is wrong, by pid: holds a row and does nothing, waits for that row, takes long.
    wrong: [i32; 3],
    /// As idle as the first: of the operator's own program, and of no role of the service.
    innocent: [i32; 2],
    _idle: Vec<PgConnection>,
    _busy: JoinSet<()>,
}

impl Trouble {
    async fn new() -> Self {
        let database = services::database().await;
        tenant(&database).await;
        let service = format!("00-{TRACE}-0123456789abcdef-01");
        let (holds, idle) = session("DATABASE_URL", &database, &service, HOLD).await;
        let (colleague, program) = session("DATABASE_URL", &database, "psql", "begin; select 1").await;
        let (stranger, report) = session("DATABASE_MIGRATION_URL", &database, "report", "begin; select 1").await;
        let mut busy = JoinSet::new();
        let mut wrong = vec![holds];
        for (url, sql) in [("DATABASE_URL", HOLD), ("DATABASE_SYSTEM_URL", "select pg_sleep(60)")] {
            let (pid, mut session) = session(url, &database, &service, "").await;
            wrong.push(pid);
            busy.spawn(async move {
                let _until_it_is_ended = sqlx::raw_sql(sql).execute(&mut session).await;
                // A session that lives is not ended, whatever became of its statement.
                std::future::pending::<()>().await;
            });
        }
        let mut admin = admin(&database).await;
        let role = format!("keel_test_{}", Uuid::now_v7().simple());
        execute(&mut admin, &format!("create role {role} in role pg_monitor, pg_signal_backend")).await;
        let wrong = <[i32; 3]>::try_from(wrong).unwrap();
        let trouble = Self {
            database,
            role,
            wrong,
            innocent: [colleague, stranger],
            _idle: vec![idle, program, report],
            _busy: busy,
        };
        eventually("the trouble", || async {
            let mut admin = self::admin(&trouble.database).await;
            let waits: Vec<i32> = sqlx::query_scalar("select pg_blocking_pids($1)")
                .bind(trouble.wrong[1])
                .fetch_one(&mut admin)
                .await
                .unwrap();
            (waits == [trouble.wrong[0]] && trouble.state(&mut admin, trouble.wrong[2]).await == "active").then_some(())
        })
        .await;
        trouble
    }

    async fn state(&self, admin: &mut PgConnection, pid: i32) -> String {
        let sql = "select state from pg_stat_activity where pid = $1 and datname = $2";
        let state = sqlx::query_scalar(sql).bind(pid).bind(&self.database).fetch_optional(admin).await.unwrap();
        state.unwrap_or_else(|| "ended".to_owned())
    }

    /// As the operator's `psql` is.
    async fn operator(&self, block: &Block) -> PgConnection {
        let mut operator = match &*block.word {
            "" => {
                let mut admin = admin(&self.database).await;
                execute(&mut admin, &format!("set role {}", self.role)).await;
                admin
            }
            "system" => services::connect("DATABASE_SYSTEM_URL", &self.database).await,
            other => panic!("{}: what role is {other}?", block.place),
        };
        execute(&mut operator, "set application_name = 'psql'").await;
        operator
    }

    async fn end(self) {
        services::drop_database(&self.database).await;
        services::admin().await.execute(AssertSqlSafe(format!("drop role {}", self.role))).await.unwrap();
    }
}

/// Those of the platform; the example's have a word of their own.
fn platform() -> Vec<Block> {
    blocks("sql").into_iter().filter(|block| block.word != "admin").collect()
}

/// Whether the server collects statistics of statements; asks for the extension.
async fn has_statements(database: &str) -> bool {
    let mut admin = admin(database).await;
    let loaded: String = sqlx::query_scalar("show shared_preload_libraries").fetch_one(&mut admin).await.unwrap();
    let created = admin.execute("create extension if not exists pg_stat_statements").await;
    loaded.contains("pg_stat_statements") && created.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_finds_the_trouble() {
    let trouble = Trouble::new().await;
    let statements = has_statements(&trouble.database).await;
    for block in platform().iter().filter(|block| !ends_sessions(block)) {
        if block.text.contains("pg_stat_statements") && !statements {
            eprintln!("SKIPPED: {}: this server has no pg_stat_statements", block.place);
            continue;
        }
        let mut operator = trouble.operator(block).await;
        let rows = sqlx::raw_sql(AssertSqlSafe(filled_in(block))).fetch_all(&mut operator).await;
        let rows = rows.unwrap_or_else(|error| panic!("{}: {error}", block.place));
        assert!(!rows.is_empty(), "{} finds nothing:\n{}", block.place, filled_in(block));
    }
    trouble.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_sessions_shows_them_first_and_ends_no_others() {
    let all = platform();
    let mut tried = 0;
    for (index, block) in all.iter().enumerate().filter(|(_, block)| ends_sessions(block)) {
        let condition = |block: &Block| block.text.split_once("from ").map(|(_, condition)| condition.to_owned());
        assert_eq!(
            condition(&all[index - 1]),
            condition(block),
            "{}: the block before it shows the same rows",
            block.place
        );
        let own = ["pid <> pg_backend_pid()", "application_name <> current_setting('application_name')"];
        assert!(own.iter().all(|part| block.text.contains(part)), "{}: {own:?}", block.place);

        let trouble = Trouble::new().await;
        let mut operator = trouble.operator(block).await;
        let rows = sqlx::raw_sql(AssertSqlSafe(filled_in(block))).fetch_all(&mut operator).await;
        let rows = rows.unwrap_or_else(|error| panic!("{}: {error}", block.place));
        let ended: Vec<i32> = rows.iter().map(|row| row.get("pid")).collect();
        assert!(!ended.is_empty(), "{} ends nothing", block.place);
        assert!(ended.iter().all(|pid| trouble.wrong.contains(pid)), "{} ends {ended:?}", block.place);
        assert!(rows.iter().all(|row| row.get::<bool, _>(1)), "{}: not all ended", block.place);
        let mut admin = admin(&trouble.database).await;
        let cancels = block.text.contains("pg_cancel_backend");
        for pid in ended {
            eventually("the end", || async {
                let mut admin = self::admin(&trouble.database).await;
                let state = trouble.state(&mut admin, pid).await;
                (if cancels { state.starts_with("idle") } else { state == "ended" }).then_some(())
            })
            .await;
        }
        for pid in trouble.innocent {
            assert_eq!(trouble.state(&mut admin, pid).await, "idle in transaction", "{}", block.place);
        }
        operator.ping().await.unwrap();
        drop(operator);
        trouble.end().await;
        tried += 1;
    }
    assert!(tried >= 3, "{tried}");
}
