//! Postgres: one session for each role, all at the same time, and why there may be none. What their
//! answers mean is in `schema` and `server`.

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};

use super::{
    Bounds, Clock, Finding, Status, endpoints, schema, server,
    store::{self, Applied, Facts},
};
use crate::{
    config::Config,
    platform::{
        config::Secret,
        db::{self, guard},
    },
};

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct Gap {
    status: Status,
    detail: String,
    mend: String,
}

impl Gap {
    pub fn finding(&self, check: &'static str) -> Finding {
        Finding { check, status: self.status, detail: self.detail.clone(), mend: self.mend.clone() }
    }
}

pub type Answer<T> = Result<T, Gap>;

/// One role's session and all it could tell.
pub struct Session {
    connected: Finding,
    pub version: Option<u32>,
    pub facts: Answer<Facts>,
    pub dangers: Answer<Vec<&'static str>>,
    pub unprotected: Answer<Vec<String>>,
    pub applied: Answer<Vec<Applied>>,
    clock: Answer<Clock>,
}

pub async fn check(config: &Config, replicas: u32, bounds: &Bounds) -> Vec<Finding> {
    let database = &config.database;
    let (runtime, system, owner) = tokio::join!(
        session("postgres.runtime", "DATABASE_URL", database.url.as_ref(), bounds),
        session("postgres.system", "DATABASE_SYSTEM_URL", database.system_url.as_ref(), bounds),
        session("postgres.owner", "DATABASE_MIGRATION_URL", database.migration_url.as_ref(), bounds),
    );
    let mut found = vec![runtime.connected.clone(), system.connected.clone(), owner.connected];
    found.extend(server::server(&runtime, &system));
    found.extend(schema::roles(&runtime, &system));
    found.extend(server::timeouts(&runtime, &system, config.http.request_timeout));
    found.push(schema::row_security(&runtime));
    found.extend(schema::migrations(&runtime));
    found.extend(server::capacity(&runtime, &system, database, replicas));
    found.push(match &runtime.clock {
        Ok(clock) => clock.finding("postgres.clock", "the clock of Postgres"),
        Err(gap) => gap.finding("postgres.clock"),
    });
    found
}

async fn session(check: &'static str, variable: &str, url: Option<&Secret>, bounds: &Bounds) -> Session {
    let (connected, connection) = match url {
        None => (Finding::skip(check, format!("no {variable}: only `keel migrate` needs it")), None),
        Some(url) => connect(check, variable, url, bounds).await,
    };
    let version = connection.as_ref().and_then(PgConnection::server_version_num);
    let gap = Gap { status: Status::Skip, detail: format!("{check} has no connection"), mend: String::new() };
    let mut asking = Asking { connection: connection.ok_or(gap), bounds };
    let clock = asking.ask(store::clock).await;
    let facts = asking.ask(store::facts).await;
    let dangers = asking.ask(guard::role).await;
    let role = facts.as_ref().map(|facts| facts.role.clone()).unwrap_or_default();
    let unprotected = asking.ask(async |connection| guard::unprotected(connection, &role).await).await;
    let applied = asking.ask(store::applied).await;
    if let Ok(connection) = asking.connection {
        let _already_gone = bounds.within(connection.close()).await;
    }
    let mut connected = connected;
    if let Ok(clock) = &clock {
        connected.detail += &format!(", {:.1} ms", clock.round_trip * 1e3);
    }
    Session { connected, version, facts, dangers, unprotected, applied, clock }
}

async fn connect(
    check: &'static str,
    variable: &str,
    url: &Secret,
    bounds: &Bounds,
) -> (Finding, Option<PgConnection>) {
    let options = match db::options(url) {
        Ok(options) => options,
        Err(fault) => return (Finding::fail(check, fault, format!("correct {variable}")), None),
    };
    let who = format!("{} as {}", place(&options), options.get_username());
    let (detail, mend) = match bounds.within(options.connect()).await {
        Some(Ok(connection)) => {
            let version =
                connection.server_version_num().map(|number| format!(", Postgres {}", server::version(number)));
            return (Finding::ok(check, who + &version.unwrap_or_default()), Some(connection));
        }
        Some(Err(error)) => refusal(&error, variable, bounds),
        None => (
            format!("no answer within {}", bounds.seconds()),
            format!(
                "look for a firewall that drops packets, an overloaded server, another service's port in {variable}"
            ),
        ),
    };
    (Finding::fail(check, format!("{who}: {detail}"), mend), None)
}

fn place(options: &PgConnectOptions) -> String {
    let server = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    format!("{server}/{}", options.get_database().unwrap_or(options.get_username()))
}

/// What is wrong, and the way out.
fn refusal(error: &sqlx::Error, variable: &str, bounds: &Bounds) -> (String, String) {
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    let (what, mend) = match (&*code, error) {
        ("28P01", _) => ("the password is wrong, or there is no such role", "correct user and password in {url}"),
        ("28000", _) => (
            "the server lets nobody in like this",
            "correct the user in {url}, or allow role, database, address and TLS in pg_hba.conf",
        ),
        ("3D000", _) => {
            ("there is no such database", "correct the name in {url}, or create it: createdb -O <owner> <name>")
        }
        ("42501", _) => {
            ("the role may not connect to this database", "grant connect on database … to the role of {url}")
        }
        ("53300", _) => (
            "too many connections",
            "close idle ones (pg_stat_activity), lower database.max_connections or replicas, raise the limit of server or role",
        ),
        ("57P03", _) => ("the server is starting, stopping or recovering", "wait, and look at its log if it lasts"),
        (_, sqlx::Error::Tls(_)) => (
            "",
            "turn ssl on at the server; or correct sslmode and sslrootcert in {url} (sslmode=disable only on a trusted network)",
        ),
        (_, sqlx::Error::Io(error)) => endpoints::io(error.kind(), &error.to_string()),
        _ => ("", "look at the server's log; is it Postgres, and is {url} right?"),
    };
    let detail = match (what, error) {
        ("", sqlx::Error::Database(error)) => format!("postgres {code}: {}", bounds.quote(error.message())),
        ("", sqlx::Error::Tls(error)) => format!("no TLS: {}", bounds.quote(error)),
        ("", error) => bounds.quote(error),
        (what, _) => what.to_owned(),
    };
    (detail, mend.replace("{url}", variable))
}

struct Asking<'a> {
    connection: Answer<PgConnection>,
    bounds: &'a Bounds,
}

impl Asking<'_> {
    /// After one silence nothing more is asked: the rest of the report is worth more than the wait.
    async fn ask<T>(&mut self, question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>) -> Answer<T> {
        let connection = self.connection.as_mut().map_err(|gap| gap.clone())?;
        let error = match self.bounds.within(question(connection)).await {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => Some(error),
            None => None,
        };
        if let Some(error) = error {
            let (detail, mend) = refusal(&error, "the URL", self.bounds);
            return Err(Gap { status: Status::Fail, detail: format!("can't be asked: {detail}"), mend });
        }
        let detail = format!("the server stopped answering, for {}", self.bounds.seconds());
        let mend = "look at its load and locks (pg_stat_activity), then ask again".to_owned();
        self.connection = Err(Gap { status: Status::Skip, detail: detail.clone(), mend: String::new() });
        Err(Gap { status: Status::Fail, detail, mend })
    }
}
