//! Verdicts on the server and its limits: version, writes, timeouts, connections.

use std::time::Duration;

use super::{Finding, or_ok, postgres::Session, schema, store::Facts};
use crate::platform::db::DatabaseConfig;

/// Connections for people, backups and the next migration.
const RESERVE: i64 = 5;

/// The first minor release of each major one without CVE-2025-8713: before it, statistics showed rows
/// that row-level security hides.
const MENDED: [(u32, u32); 5] = [(13, 22), (14, 19), (15, 14), (16, 10), (17, 6)];

pub fn version(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

fn outdated(number: u32) -> Option<String> {
    let (major, minor) = (number / 10_000, number % 10_000);
    match MENDED.iter().find(|(known, _)| *known == major) {
        Some((_, mended)) if minor >= *mended => None,
        Some((_, mended)) => Some(format!("update to {major}.{mended} or later")),
        None if major > MENDED[4].0 => None,
        None => Some("update to a release that is still mended".to_owned()),
    }
}

pub fn server(runtime: &Session, system: &Session) -> Vec<Finding> {
    const CHECK: &str = "postgres.server";
    let known = [runtime, system].into_iter().filter_map(|session| session.facts.as_ref().ok());
    let mut found: Vec<Finding> =
        known.filter_map(read_only).map(|(what, mend)| Finding::fail(CHECK, what, mend)).collect();
    // One standby is one fault, whoever saw it.
    found.dedup_by(|a, b| a.detail == b.detail);
    let facts = match (&runtime.facts, &system.facts) {
        (Ok(facts), _) | (_, Ok(facts)) => facts,
        (Err(gap), _) => return vec![gap.finding(CHECK)],
    };
    let number = runtime.version.or(system.version).unwrap_or_default();
    if let Some(mend) = outdated(number).filter(|_| number > 0) {
        let what = format!("{}: statistics leak past row-level security (CVE-2025-8713)", version(number));
        found.push(Finding::warn(CHECK, what, mend));
    }
    or_ok(found, CHECK, format!("{}, takes writes, {} connections", version(number), facts.max_connections))
}

fn read_only(facts: &Facts) -> Option<(String, String)> {
    if facts.standby {
        let mend = "let the URLs name the primary, or promote this server";
        return Some(("a standby, which takes no writes".to_owned(), mend.to_owned()));
    }
    facts.read_only.then(|| {
        let mend = "reset default_transaction_read_only on role, database and server, and in the URL's options";
        (format!("{} has default_transaction_read_only: no writes", facts.role), mend.to_owned())
    })
}

pub fn timeouts(runtime: &Session, system: &Session, request: Duration) -> Vec<Finding> {
    const CHECK: &str = "postgres.timeouts";
    let request = millis(request);
    let (mut found, mut told) = (Vec::new(), Vec::new());
    for session in [runtime, system] {
        match &session.facts {
            Ok(facts) if !schema::is_own(session) => {
                found.push(Finding::skip(CHECK, format!("{} is the wrong role, see postgres.roles", facts.role)));
            }
            Ok(facts) => {
                found.extend(limits(facts, request).into_iter().map(|(fatal, what, mend)| {
                    if fatal { Finding::fail(CHECK, what, mend) } else { Finding::warn(CHECK, what, mend) }
                }));
                told.push(format!("{} {} ms > {} ms", facts.role, facts.statement_timeout, facts.lock_timeout));
            }
            Err(gap) => found.push(gap.finding(CHECK)),
        }
    }
    // One role in both places is one fault, and told in `schema`.
    found.dedup_by(|a, b| a.detail == b.detail);
    or_ok(found, CHECK, format!("request {request} ms > statement > lock: {}", told.join(", ")))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Whether it keeps the service from becoming ready, what is wrong, and the statement that mends it.
fn limits(facts: &Facts, request: i64) -> Vec<(bool, String, String)> {
    let Facts { role, statement_timeout: statement, lock_timeout: lock, idle_timeout: idle, .. } = facts;
    let statement_good = (request * 3 / 5).max(1);
    let lock_good = (if *statement > 0 { *statement } else { statement_good } / 3).max(1);
    let mend = |name: &str, value: i64| {
        format!("alter role {} set {name} = '{value}ms' (new sessions have it)", identifier(role))
    };
    let mut found = Vec::new();
    for (name, value, good) in [
        ("statement_timeout", *statement, statement_good),
        ("lock_timeout", *lock, lock_good),
        ("idle_in_transaction_session_timeout", *idle, request),
    ] {
        if value == 0 {
            found.push((true, format!("{role} has no {name}"), mend(name, good)));
        }
    }
    if *statement >= request {
        let what =
            format!("{role}: statement_timeout {statement} ms is not shorter than http.request_timeout, {request} ms");
        found.push((false, what, mend("statement_timeout", statement_good)));
    }
    if *statement > 0 && lock >= statement {
        let what = format!("{role}: lock_timeout {lock} ms is not shorter than statement_timeout, {statement} ms");
        found.push((false, what, mend("lock_timeout", lock_good)));
    }
    found
}

fn identifier(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

pub fn capacity(runtime: &Session, system: &Session, config: &DatabaseConfig, replicas: u32) -> Vec<Finding> {
    match (&runtime.facts, &system.facts) {
        (Ok(runtime), Ok(system)) => {
            fit(runtime, system, config.max_connections, config.system_max_connections, replicas)
        }
        (Err(gap), _) | (_, Err(gap)) => vec![gap.finding(CAPACITY)],
    }
}

const CAPACITY: &str = "postgres.capacity";

fn fit(runtime: &Facts, system: &Facts, pool: u32, system_pool: u32, replicas: u32) -> Vec<Finding> {
    let (each, count) = (i64::from(pool) + i64::from(system_pool), i64::from(replicas));
    let of = if count == 1 { "1 replica".to_owned() } else { format!("{count} replicas") };
    let needed = count * each + RESERVE;
    let usable = runtime.max_connections - runtime.reserved;
    let sum = format!("{of} × ({pool} + {system_pool}) + {RESERVE} in reserve = {needed}");
    // The limit at which 80 % are enough.
    let enough = |needed: i64| (needed * 5 + 3) / 4;
    let pools = "lower database.max_connections or the replicas, put a pooler in between, or";
    let limits = [
        (sum.clone(), needed, usable, format!("{pools} max_connections = {}", enough(needed) + runtime.reserved)),
        (
            format!("{of} × {pool} of {}", runtime.role),
            count * i64::from(pool),
            runtime.role_limit,
            format!("alter role {} connection limit {}", identifier(&runtime.role), enough(count * i64::from(pool))),
        ),
        (
            format!("{of} × {system_pool} of {}", system.role),
            count * i64::from(system_pool),
            system.role_limit,
            format!(
                "alter role {} connection limit {}",
                identifier(&system.role),
                enough(count * i64::from(system_pool))
            ),
        ),
        (
            format!("{sum} in {}", runtime.database),
            needed,
            runtime.database_limit,
            format!("alter database {} connection limit {}", identifier(&runtime.database), enough(needed)),
        ),
    ];
    // -1 is no limit.
    let found = limits.into_iter().filter(|(_, _, limit, _)| *limit >= 0).filter_map(|(what, needed, limit, mend)| {
        if needed > limit {
            Some(Finding::fail(CAPACITY, format!("{what}, of {limit} allowed"), mend))
        } else if needed * 5 > limit * 4 {
            Some(Finding::warn(CAPACITY, format!("{what}, more than 80 % of {limit}: a rollout runs more"), mend))
        } else {
            None
        }
    });
    or_ok(found.collect(), CAPACITY, format!("{sum}, of {usable} allowed"))
}

#[cfg(test)]
mod tests {
    use super::{Facts, fit, limits, outdated, version};
    use crate::cli::doctor::Status;

    fn facts() -> Facts {
        Facts {
            role: "app".to_owned(),
            database: "keel".to_owned(),
            server_started: 0.0,
            standby: false,
            read_only: false,
            statement_timeout: 3_000,
            lock_timeout: 1_000,
            idle_timeout: 5_000,
            max_connections: 100,
            reserved: 3,
            role_limit: -1,
            database_limit: -1,
        }
    }

    #[test]
    fn releases_before_the_mend_are_outdated() {
        let old = [120_022, 130_021, 150_013, 160_009, 170_005];
        assert!(old.into_iter().all(|number| outdated(number).is_some()));
        let new = [130_022, 150_014, 150_018, 160_010, 170_006, 180_000, 190_001];
        assert!(new.into_iter().all(|number| outdated(number).is_none()));
        assert_eq!(version(150_018), "15.18");
    }

    #[test]
    fn timeouts_nest() {
        let of = |statement_timeout, lock_timeout, idle_timeout| {
            let found = limits(&Facts { statement_timeout, lock_timeout, idle_timeout, ..facts() }, 5_000);
            found
                .into_iter()
                .map(|(fatal, _, mend)| (fatal, mend.replace(" (new sessions have it)", "")))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(3_000, 1_000, 5_000), []);
        assert_eq!(of(5_000, 1_000, 5_000), [(false, "alter role app set statement_timeout = '3000ms'".to_owned())]);
        assert_eq!(of(3_000, 3_000, 5_000), [(false, "alter role app set lock_timeout = '1000ms'".to_owned())]);
        assert_eq!(of(0, 1_000, 5_000), [(true, "alter role app set statement_timeout = '3000ms'".to_owned())]);
        assert_eq!(of(0, 0, 0).len(), 3);
    }

    #[test]
    fn pools_fit_the_server_the_roles_and_the_database() {
        let status = |replicas, max_connections, role_limit, database_limit| {
            let runtime = Facts { max_connections, role_limit, database_limit, ..facts() };
            let found = fit(&runtime, &facts(), 10, 4, replicas);
            found.iter().map(|finding| finding.status).collect::<Vec<_>>()
        };
        // 5 × 14 + 5 = 75 of 97: 77 %.
        assert_eq!(status(5, 100, -1, -1), [Status::Ok]);
        assert_eq!(status(6, 100, -1, -1), [Status::Warn]);
        assert_eq!(status(7, 100, -1, -1), [Status::Fail]);
        assert_eq!(status(2, 100, 19, -1), [Status::Fail]);
        assert_eq!(status(2, 100, 24, 1_000), [Status::Warn]);
        assert_eq!(status(2, 100, 25, 30), [Status::Fail]);
    }
}
