//! The boot self-test: a database role that could see across tenants, or a tenant table without
//! row-level security, keeps the service from becoming ready.

use std::time::Duration;

use sqlx::PgConnection;

use super::{Db, migrations};

/// Why the database can't be used yet; the code is what readiness shows.
#[derive(Debug)]
pub struct Refusal {
    pub code: &'static str,
    pub detail: String,
}

impl Refusal {
    /// A server that takes connections and says nothing.
    pub fn silent() -> Self {
        Self::new("timeout", "the database does not answer")
    }

    fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Reachable, migrated, and safe.
///
/// # Errors
/// The first reason that it is not.
pub async fn check(db: &Db) -> Result<(), Refusal> {
    let missing = migrations::missing(db).await.map_err(|error| Refusal::new("unreachable", error.to_string()))?;
    if !missing.is_empty() {
        return Err(Refusal::new("migrations_missing", format!("run `keel migrate`; missing: {missing:?}")));
    }
    for (name, pool) in [("runtime", &db.0.runtime), ("system", &db.0.system)] {
        let mut connection = pool.acquire().await.map_err(|error| Refusal::new("unreachable", error.to_string()))?;
        let unsafe_role =
            role(&mut connection).await.map_err(|error| Refusal::new("unreachable", error.to_string()))?;
        let timeout = statement_timeout(&mut connection).await;
        pool.set_statement_timeout(timeout.map_err(|error| Refusal::new("unreachable", error.to_string()))?);
        connection.give_back();
        if let Some(why) = unsafe_role.first() {
            return Err(Refusal::new("unsafe_role", format!("the {name} role {why}")));
        }
    }
    let mut connection =
        db.0.runtime.acquire().await.map_err(|error| Refusal::new("unreachable", error.to_string()))?;
    let runtime: String = sqlx::query_scalar("select current_user::text")
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| Refusal::new("unreachable", error.to_string()))?;
    let tables =
        unprotected(&mut connection, &runtime).await.map_err(|error| Refusal::new("unreachable", error.to_string()))?;
    connection.give_back();
    if !tables.is_empty() {
        return Err(Refusal::new(
            "unprotected_table",
            format!("row-level security is not enabled, forced and given a policy on: {}", tables.join(", ")),
        ));
    }
    Ok(())
}

async fn statement_timeout(connection: &mut PgConnection) -> Result<Duration, sqlx::Error> {
    let millis: i64 =
        sqlx::query_scalar("select s.setting::bigint from pg_settings s where s.name = 'statement_timeout'")
            .fetch_one(connection)
            .await?;
    Ok(Duration::from_millis(millis.unsigned_abs()))
}

/// The one reason of [`role`] that is no privilege.
pub const UNLIMITED: &str = "has no limits: alter role … set statement_timeout = '3s', set lock_timeout = '1s', \
     set idle_in_transaction_session_timeout = '5s'";

/// What makes the session's role unsafe, the worst first.
///
/// # Errors
/// When the catalogue can't be read.
pub async fn role(connection: &mut PgConnection) -> Result<Vec<&'static str>, sqlx::Error> {
    let (superuser, bypass, owner, unlimited): (bool, bool, bool, bool) = sqlx::query_as(
        r#"
        select exists (select 1 from pg_roles s where s.rolsuper and pg_has_role(r.oid, s.oid, 'member')),
               exists (select 1 from pg_roles s where s.rolbypassrls and pg_has_role(r.oid, s.oid, 'member')),
               exists (
                   select 1
                   from pg_class c
                   join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
                   where c.relkind in ('r', 'p') and pg_has_role(r.oid, c.relowner, 'member')
               ),
               '0' in (
                   current_setting('statement_timeout'),
                   current_setting('lock_timeout'),
                   current_setting('idle_in_transaction_session_timeout')
               )
        from pg_roles r
        where r.rolname = current_user
        "#,
    )
    .fetch_one(connection)
    .await?;
    let reasons = [
        (superuser, "is a superuser or can become one; use one made with NOSUPERUSER"),
        // A superuser is all of it.
        (
            bypass && !superuser,
            "bypasses row-level security or can become one that does; use one made with NOBYPASSRLS",
        ),
        (
            owner && !superuser,
            "owns tables or is a member of their owner; give the owner to DATABASE_MIGRATION_URL only",
        ),
        (unlimited, UNLIMITED),
    ];
    Ok(reasons.into_iter().filter(|(is, _)| *is).map(|(_, why)| why).collect())
}

/// Tables with a `tenant_id` that lack a protection, or have a policy for `role` (or for all) that
/// says anything but "the rows of the running tenant".
///
/// # Errors
/// When the catalogue can't be read.
pub async fn unprotected(connection: &mut PgConnection, role: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        r#"
        select c.relname::text
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
        where n.nspname not in ('pg_catalog', 'information_schema')
          and c.relkind in ('r', 'p')
          and (
              not c.relrowsecurity
              or not c.relforcerowsecurity
              or not exists (select 1 from pg_policy p where p.polrelid = c.oid)
              or exists (
                  select 1
                  from pg_policy p
                  where p.polrelid = c.oid
                    and (0 = any (p.polroles) or exists (
                        select 1 from pg_roles r where r.rolname = $1 and r.oid = any (p.polroles)
                    ))
                    and (
                        coalesce(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
                            is distinct from '(tenant_id = current_tenant())'
                        or coalesce(pg_get_expr(p.polwithcheck, p.polrelid), pg_get_expr(p.polqual, p.polrelid))
                            is distinct from '(tenant_id = current_tenant())'
                    )
              )
          )
        order by 1
        limit 100
        "#,
    )
    .bind(role)
    .fetch_all(connection)
    .await
}
