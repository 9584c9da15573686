//! Verdicts on roles, row-level security and migrations.

use super::{
    Finding, or_ok,
    postgres::Session,
    store::{Applied, Facts},
};
use crate::platform::db::{guard, migrations::MIGRATOR};

pub fn roles(runtime: &Session, system: &Session) -> Vec<Finding> {
    const CHECK: &str = "postgres.roles";
    let mut found = Vec::new();
    for (name, session) in [("runtime", runtime), ("system", system)] {
        match &session.dangers {
            // Missing limits are told one by one, with the statement that sets them, in `server`.
            Ok(dangers) => found.extend(dangers.iter().filter(|why| **why != guard::UNLIMITED).map(|why| {
                let (what, mend) = why.split_once("; ").unwrap_or((why, ""));
                Finding::fail(CHECK, format!("the {name} role {}{what}", named(session)), mend)
            })),
            Err(gap) => found.push(gap.finding(CHECK)),
        }
    }
    if let (Ok(runtime), Ok(system)) = (&runtime.facts, &system.facts) {
        if runtime.role == system.role {
            found.push(Finding::fail(
                CHECK,
                format!("runtime and system are one role, {}: it sees the keys and jobs of all tenants", runtime.role),
                "give DATABASE_SYSTEM_URL a role of its own",
            ));
        }
        let place = |facts: &Facts| (facts.database.clone(), facts.server_started.to_bits());
        if place(runtime) != place(system) {
            found.push(Finding::fail(
                CHECK,
                format!("two databases: runtime reaches {}, system {}", runtime.database, system.database),
                "let DATABASE_URL and DATABASE_SYSTEM_URL name the same server and database",
            ));
        }
        let detail =
            format!("{} and {}: no superuser, no owner, bound by row-level security", runtime.role, system.role);
        return or_ok(found, CHECK, detail);
    }
    found
}

/// Whether it is a role to give timeouts to, and not one to replace.
pub fn is_own(session: &Session) -> bool {
    session.dangers.as_ref().map_or(true, |dangers| dangers.iter().all(|why| *why == guard::UNLIMITED))
}

fn named(session: &Session) -> String {
    session.facts.as_ref().map(|facts| format!("{} ", facts.role)).unwrap_or_default()
}

pub fn row_security(runtime: &Session) -> Finding {
    const CHECK: &str = "postgres.rls";
    match &runtime.unprotected {
        Err(gap) => gap.finding(CHECK),
        Ok(_) if runtime.applied.as_ref().is_ok_and(Vec::is_empty) => Finding::skip(CHECK, "no schema yet"),
        Ok(tables) if tables.is_empty() => {
            Finding::ok(CHECK, "enabled and forced, with its policy, on every table with tenant_id")
        }
        Ok(tables) => Finding::fail(
            CHECK,
            format!("not enabled, forced and given the tenant's policy on: {}", tables.join(", ")),
            format!("in a migration: select protect_tenant_table('{}')", tables[0]),
        ),
    }
}

pub fn migrations(runtime: &Session) -> Vec<Finding> {
    match &runtime.applied {
        Ok(applied) => judge(applied),
        Err(gap) => vec![gap.finding(MIGRATIONS)],
    }
}

const MIGRATIONS: &str = "postgres.migrations";

fn judge(applied: &[Applied]) -> Vec<Finding> {
    let row = |version: i64| applied.iter().find(|row| row.version == version);
    let ours = |version: i64| MIGRATOR.iter().any(|migration| migration.version == version);
    let all: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
    let missing: Vec<i64> = all.iter().copied().filter(|version| row(*version).is_none()).collect();
    let broken: Vec<i64> = applied.iter().filter(|row| !row.success).map(|row| row.version).collect();
    let newer: Vec<i64> = applied.iter().map(|row| row.version).filter(|version| !ours(*version)).collect();
    let other: Vec<i64> = MIGRATOR
        .iter()
        .filter(|migration| row(migration.version).is_some_and(|row| *row.checksum != *migration.checksum))
        .map(|migration| migration.version)
        .collect();
    let mut found = Vec::new();
    if !missing.is_empty() {
        let mend = "run `keel migrate` with DATABASE_MIGRATION_URL";
        found.push(Finding::fail(MIGRATIONS, format!("missing: {missing:?}"), mend));
    }
    if !broken.is_empty() {
        let mend = "mend by hand what it left behind, delete its row of _sqlx_migrations, run `keel migrate`";
        found.push(Finding::fail(MIGRATIONS, format!("began and did not finish: {broken:?}"), mend));
    }
    if !other.is_empty() {
        let mend = "restore the files as they were applied, and put the change into a new migration";
        found.push(Finding::fail(MIGRATIONS, format!("applied with another content: {other:?}"), mend));
    }
    if !newer.is_empty() {
        let mend = "fine during a rollout or after a rollback; else deploy the release that brought them";
        found.push(Finding::warn(MIGRATIONS, format!("not known to this binary: {newer:?}"), mend));
    }
    or_ok(found, MIGRATIONS, format!("all {} applied, none changed", all.len()))
}

#[cfg(test)]
mod tests {
    use super::{Applied, MIGRATOR, judge};
    use crate::cli::doctor::Status;

    #[test]
    fn each_way_that_a_schema_can_differ_is_told() {
        let mut applied: Vec<Applied> = MIGRATOR
            .iter()
            .map(|migration| Applied {
                version: migration.version,
                checksum: migration.checksum.to_vec(),
                success: true,
            })
            .collect();
        assert_eq!(judge(&applied)[0].status, Status::Ok);
        applied.push(Applied { version: 9999, checksum: Vec::new(), success: true });
        assert_eq!((judge(&applied)[0].status, judge(&applied).len()), (Status::Warn, 1));
        applied[0].checksum[0] ^= 1;
        applied[1].success = false;
        applied.remove(2);
        let details: Vec<_> = judge(&applied).into_iter().map(|finding| finding.detail).collect();
        assert_eq!(
            details,
            [
                "missing: [3]",
                "began and did not finish: [2]",
                "applied with another content: [1]",
                "not known to this binary: [9999]"
            ]
        );
    }
}
