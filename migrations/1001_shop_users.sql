-- People of a tenant's shop.
create table users (
    tenant_id uuid not null,
    id uuid not null,
    email text not null,
    name text not null,
    source text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint users_pkey primary key (tenant_id, id),
    constraint users_tenant_id_fkey foreign key (tenant_id) references tenants (id),
    constraint users_tenant_id_email_key unique (tenant_id, email)
);

select protect_tenant_table('users');
