//! The schema keeps tenants apart by its form, not by care: checked on the migrated database.

use keel::platform::db::guard;

use crate::support::services;

#[tokio::test(flavor = "multi_thread")]
async fn every_tenant_table_is_protected_and_keyed_by_its_tenant() {
    let database = services::database().await;
    let mut owner = services::connect("DATABASE_MIGRATION_URL", &database).await;
    assert_eq!(guard::unprotected(&mut owner, &services::role("RUNTIME")).await.unwrap(), Vec::<String>::new());
    let tables: i64 =
        sqlx::query_scalar("select count(*) from information_schema.columns where column_name = 'tenant_id'")
            .fetch_one(&mut owner)
            .await
            .unwrap();
    assert!(tables >= 4, "{tables}");

    // Primary keys, unique and foreign keys begin with the tenant; a global unique tells one tenant
    // what another has, a foreign key without the tenant accepts another's row.
    let loose: Vec<String> = sqlx::query_scalar(
        r#"
        select c.conrelid::regclass || '.' || c.conname
        from pg_constraint c
        join pg_attribute t on t.attrelid = c.conrelid and t.attname = 'tenant_id'
        where c.contype in ('p', 'u', 'f') and c.conkey[1] <> t.attnum
        union all
        select i.indrelid::regclass || '.' || i.indexrelid::regclass
        from pg_index i
        join pg_attribute t on t.attrelid = i.indrelid and t.attname = 'tenant_id'
        where i.indisunique and i.indkey[0] <> t.attnum
        "#,
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert_eq!(loose, Vec::<String>::new(), "put tenant_id first");

    let unnamed: Vec<String> = sqlx::query_scalar(
        r#"
        select c.relname::text
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
        where c.relkind in ('v', 'm', 'f')
        union all
        select p.proname::text
        from pg_proc p
        join pg_namespace n on n.oid = p.pronamespace and n.nspname = 'public'
        where p.prosecdef
        "#,
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert_eq!(
        unnamed,
        Vec::<String>::new(),
        "views and security-definer functions run as their owner and see across tenants"
    );
    drop(owner);
    services::drop_database(&database).await;
}

#[test]
fn a_table_with_a_tenant_is_protected_in_the_migration_that_makes_it() {
    for file in super::files(&["migrations"]) {
        let text = file.text.to_lowercase();
        for table in text.split("create table ").skip(1) {
            let name = table.split([' ', '(']).next().unwrap();
            let body = table.split(");").next().unwrap();
            let protected = [format!("protect_tenant_table('{name}'"), format!("open_to_system('{name}'")];
            assert!(
                !body.contains("tenant_id uuid") || protected.iter().any(|call| text.contains(call)),
                "{}: {name} has a tenant_id; add: select protect_tenant_table('{name}');",
                file.path
            );
        }
    }
}
