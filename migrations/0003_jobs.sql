-- Background jobs and idempotency keys. Both are written in the transaction of the effect, as the
-- tenant; the system role claims jobs and removes what has expired.
create table jobs (
    tenant_id uuid not null,
    id uuid not null,
    queue text not null,
    kind text not null,
    payload jsonb not null,
    request_id text not null,
    correlation_id text not null,
    traceparent text,
    attempts integer not null default 0,
    run_at timestamptz not null default now(),
    locked_until timestamptz,
    last_error text,
    dead_at timestamptz,
    created_at timestamptz not null default now(),
    constraint jobs_pkey primary key (tenant_id, id),
    constraint jobs_tenant_id_fkey foreign key (tenant_id) references tenants (id)
);

-- Claiming reads the oldest runnable ones of a queue, across tenants.
create index jobs_queue_run_at_idx on jobs (queue, run_at) where dead_at is null;
create index jobs_dead_at_idx on jobs (dead_at) where dead_at is not null;

select protect_tenant_table('jobs', 'select, insert, delete');
select open_to_system('jobs', 'select, update, delete');

create table idempotency_keys (
    tenant_id uuid not null,
    key text not null,
    fingerprint bytea not null,
    status integer,
    body text,
    created_at timestamptz not null default now(),
    completed_at timestamptz,
    constraint idempotency_keys_pkey primary key (tenant_id, key),
    constraint idempotency_keys_tenant_id_fkey foreign key (tenant_id) references tenants (id)
);

create index idempotency_keys_created_at_idx on idempotency_keys (created_at);

select protect_tenant_table('idempotency_keys', 'select, insert, update');
-- Update, because rows are locked before they are deleted.
select open_to_system('idempotency_keys', 'select, update, delete');
