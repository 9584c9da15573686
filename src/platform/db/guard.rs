//! The boot self-test: a database role that could see across tenants, or a tenant table without
//! row-level security, keeps the service from becoming ready.

use sqlx::PgConnection;

use super::{Db, migrations};

/// Why the database can't be used yet; the code is what readiness shows.
#[derive(Debug)]
pub struct Refusal {
    pub code: &'static str,
    pub detail: String,
}

impl Refusal {
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
        if let Some(why) = unsafe_role {
            return Err(Refusal::new("unsafe_role", format!("the {name} role {why}")));
        }
    }
    let mut connection =
        db.0.runtime.acquire().await.map_err(|error| Refusal::new("unreachable", error.to_string()))?;
    let tables = unprotected(&mut connection).await.map_err(|error| Refusal::new("unreachable", error.to_string()))?;
    if !tables.is_empty() {
        return Err(Refusal::new(
            "unprotected_table",
            format!("row-level security is not enabled, forced and given a policy on: {}", tables.join(", ")),
        ));
    }
    Ok(())
}

async fn role(connection: &mut PgConnection) -> Result<Option<&'static str>, sqlx::Error> {
    let (superuser, bypass, owner): (bool, bool, bool) = sqlx::query_as(
        r#"
        select r.rolsuper,
               r.rolbypassrls,
               exists (
                   select 1
                   from pg_class c
                   join pg_namespace n on n.oid = c.relnamespace
                   where n.nspname = 'public'
                     and c.relkind in ('r', 'p')
                     and pg_has_role(r.oid, c.relowner, 'member')
               )
        from pg_roles r
        where r.rolname = current_user
        "#,
    )
    .fetch_one(connection)
    .await?;
    Ok(match (superuser, bypass, owner) {
        (true, _, _) => Some("is a superuser; use one made with NOSUPERUSER"),
        (_, true, _) => Some("bypasses row-level security; use one made with NOBYPASSRLS"),
        (_, _, true) => {
            Some("owns tables or is a member of their owner; give the owner to DATABASE_MIGRATION_URL only")
        }
        _ => None,
    })
}

/// Tables with a `tenant_id` that any of the three protections lacks.
///
/// # Errors
/// When the catalogue can't be read.
pub async fn unprotected(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        r#"
        select c.relname::text
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
        where n.nspname not in ('pg_catalog', 'information_schema')
          and c.relkind in ('r', 'p')
          and not (
              c.relrowsecurity
              and c.relforcerowsecurity
              and exists (select 1 from pg_policy p where p.polrelid = c.oid)
          )
        order by 1
        limit 100
        "#,
    )
    .fetch_all(connection)
    .await
}
