#!/usr/bin/env bash
# Database and roles for the service inside a new Postgres: the same that scripts/lib/provision.sh makes for
# `make run`, and a role for the exporter. The postgres image runs it once, on an empty volume, as a superuser over the
# socket. Passwords come from files; what is there already is kept, so it may also be run by hand:
#   docker compose -f deploy/compose.yaml exec postgres bash /docker-entrypoint-initdb.d/keel.sh
set -euo pipefail

readonly SECRETS=${SECRETS:-/run/secrets}

sql() {
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname="$1"
}

# psql reads the password by itself: as an argument it would be in the list of processes, and with :'…' it is quoted.
role() {
  cat <<SQL
select 'create role $1 login nosuperuser nobypassrls nocreaterole'
 where not exists (select from pg_roles where rolname = '$1') \gexec
\set password \`cat '$SECRETS/$2'\`
alter role $1 with nocreatedb password :'password';
SQL
}

{
  role keel_owner owner-password
  role keel_app app-password
  role keel_system system-password
  role keel_exporter exporter-password
  # The service refuses to be ready without these: a statement must not outlive the request that waits for it.
  for name in keel_app keel_system; do
    cat <<SQL
alter role $name set statement_timeout = '3s';
alter role $name set lock_timeout = '1s';
alter role $name set idle_in_transaction_session_timeout = '5s';
SQL
  done
  cat <<SQL
alter role keel_exporter set statement_timeout = '5s';
grant pg_monitor to keel_exporter;
select 'create database keel owner keel_owner encoding ''UTF8'' template template0'
 where not exists (select from pg_database where datname = 'keel') \gexec
SQL
} | sql postgres

database=keel
sql "$database" <<SQL
alter database keel owner to keel_owner;
revoke all on database keel from public;
grant connect on database keel to keel_app, keel_system, keel_exporter;
alter schema public owner to keel_owner;
revoke create on schema public from public;
-- What the exporter reads. The extension lets everybody, so that must be taken back.
create extension if not exists pg_stat_statements;
revoke all on pg_stat_statements, pg_stat_statements_info from public;
revoke all on function pg_stat_statements(boolean), pg_stat_statements_info() from public;
grant select on pg_stat_statements, pg_stat_statements_info to pg_monitor;
grant execute on function pg_stat_statements(boolean), pg_stat_statements_info() to pg_monitor;
SQL
