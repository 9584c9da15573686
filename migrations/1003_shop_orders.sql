-- Orders and what they hold. The price of a line is the price at the time of the order.
create table orders (
    tenant_id uuid not null,
    id uuid not null,
    status text not null,
    payment_method text not null,
    total_minor bigint not null,
    currency text not null,
    idempotency_key text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint orders_pkey primary key (tenant_id, id),
    constraint orders_tenant_id_fkey foreign key (tenant_id) references tenants (id),
    constraint orders_status_check
        check (status in ('placed', 'paid', 'payment_pending', 'payment_declined', 'cancelled')),
    constraint orders_total_minor_check check (total_minor >= 0)
);

select protect_tenant_table('orders');

create table order_lines (
    tenant_id uuid not null,
    order_id uuid not null,
    position integer not null,
    product_id uuid not null,
    quantity integer not null,
    price_minor bigint not null,
    constraint order_lines_pkey primary key (tenant_id, order_id, position),
    constraint order_lines_tenant_id_order_id_fkey foreign key (tenant_id, order_id) references orders (tenant_id, id),
    constraint order_lines_quantity_check check (quantity > 0)
);

-- No foreign key to products: a product may be deleted, its orders stay.
select protect_tenant_table('order_lines', 'select, insert');
