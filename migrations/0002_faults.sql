-- The scratch table of the demo faults (src/platform/faults). No tenant's data, nothing refers to it.
create table fault_rows (
    id integer primary key,
    payload text not null
);

insert into fault_rows (id, payload)
select n, repeat('x', 100)
from generate_series(1, 200) as n;

do $$
begin
    execute format('grant select, update on fault_rows to %I', current_setting('app.runtime_role'));
end
$$;
