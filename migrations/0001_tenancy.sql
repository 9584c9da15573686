-- Tenants, their API keys and the audit log; and the functions that protect a tenant's table.
-- `app.runtime_role` and `app.system_role` are set by `keel migrate` (src/platform/db/migrations.rs).

-- The tenant of the running transaction; null without one, so that every comparison fails closed.
-- After a transaction the setting is '' and not null, hence nullif.
create function current_tenant() returns uuid
language sql stable
as $$ select nullif(current_setting('app.tenant_id', true), '')::uuid $$;

-- One call in each migration that makes a table with `tenant_id`: row-level security enabled and
-- forced, one policy for the runtime role, and its privileges.
create function protect_tenant_table(tenant_table regclass, privileges text default 'select, insert, update, delete')
returns void
language plpgsql
as $$
declare
    runtime_role text := current_setting('app.runtime_role');
begin
    execute format('alter table %s enable row level security', tenant_table);
    execute format('alter table %s force row level security', tenant_table);
    execute format(
        'create policy tenant on %s to %I using (tenant_id = current_tenant()) with check (tenant_id = current_tenant())',
        tenant_table, runtime_role
    );
    execute format('grant %s on %s to %I', privileges, tenant_table, runtime_role);
end
$$;

-- For the few tables that are read before a tenant is known.
create function open_to_system(system_table regclass, privileges text)
returns void
language plpgsql
as $$
declare
    system_role text := current_setting('app.system_role');
begin
    execute format('alter table %s enable row level security', system_table);
    execute format('alter table %s force row level security', system_table);
    execute format('create policy system on %s to %I using (true) with check (true)', system_table, system_role);
    execute format('grant %s on %s to %I', privileges, system_table, system_role);
end
$$;

create table tenants (
    id uuid primary key,
    slug text not null,
    webhook_url text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint tenants_slug_key unique (slug),
    constraint tenants_slug_check check (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$')
);

select open_to_system('tenants', 'select, insert, update');

-- A tenant may read its own row.
do $$
begin
    execute format(
        'create policy tenant on tenants for select to %I using (id = current_tenant())',
        current_setting('app.runtime_role')
    );
    execute format('grant select on tenants to %I', current_setting('app.runtime_role'));
end
$$;

create table api_keys (
    tenant_id uuid not null,
    key_id text not null,
    name text not null,
    scope text not null,
    secret_hash bytea not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz,
    constraint api_keys_pkey primary key (tenant_id, key_id),
    constraint api_keys_tenant_id_fkey foreign key (tenant_id) references tenants (id),
    constraint api_keys_scope_check check (scope in ('read', 'write'))
);

-- Authentication looks a key up before its tenant is known.
create index api_keys_key_id_idx on api_keys (key_id);

select open_to_system('api_keys', 'select, insert, update');

create table audit_log (
    tenant_id uuid not null,
    id uuid not null,
    actor text not null,
    action text not null,
    detail jsonb not null default '{}',
    created_at timestamptz not null default now(),
    constraint audit_log_pkey primary key (tenant_id, id),
    constraint audit_log_tenant_id_fkey foreign key (tenant_id) references tenants (id)
);

-- Insert only: an audit log that its writer can change proves nothing.
select open_to_system('audit_log', 'select, insert');
