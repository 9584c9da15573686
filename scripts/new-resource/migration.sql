-- Widgets of a tenant. The call at the end enables and forces row-level security, with its policy and the grants.
create table widgets (
    tenant_id uuid not null,
    id uuid not null,
    number text not null,
    name text not null,
    note text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint widgets_pkey primary key (tenant_id, id),
    constraint widgets_tenant_id_fkey foreign key (tenant_id) references tenants (id),
    constraint widgets_tenant_id_number_key unique (tenant_id, number)
);

select protect_tenant_table('widgets');
