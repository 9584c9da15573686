-- What a tenant sells. Money is in minor units of its currency.
create table products (
    tenant_id uuid not null,
    id uuid not null,
    sku text not null,
    name text not null,
    description text,
    price_minor bigint not null,
    currency text not null,
    stock integer not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint products_pkey primary key (tenant_id, id),
    constraint products_tenant_id_fkey foreign key (tenant_id) references tenants (id),
    constraint products_tenant_id_sku_key unique (tenant_id, sku),
    constraint products_price_minor_check check (price_minor >= 0),
    constraint products_stock_check check (stock >= 0)
);

select protect_tenant_table('products');
