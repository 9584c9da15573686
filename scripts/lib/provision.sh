# shellcheck shell=bash
# The database and the roles inside a server, private or given, and the URLs that lead there. Sourced after
# common.sh.

# What the service and its tests are told about the database.
readonly DATABASE_VARIABLES=(
  DATABASE_URL DATABASE_SYSTEM_URL DATABASE_MIGRATION_URL TEST_ADMIN_DATABASE_URL
  APP__DATABASE__RUNTIME_ROLE APP__DATABASE__SYSTEM_ROLE
)

# Sets the names of the database and the roles; a suffix keeps checkouts apart that share a server.
name_database_objects() {
  DATABASE_NAME=keel$1
  OWNER_ROLE=keel_owner$1
  APP__DATABASE__RUNTIME_ROLE=keel_app$1
  APP__DATABASE__SYSTEM_ROLE=keel_system$1
}

# <scheme> <host and port> <query> -> the URLs of the three roles.
set_database_urls() {
  local scheme=$1 server=$2 query=$3
  DATABASE_URL=$scheme$APP__DATABASE__RUNTIME_ROLE:$(secret runtime)@$server/$DATABASE_NAME$query
  DATABASE_SYSTEM_URL=$scheme$APP__DATABASE__SYSTEM_ROLE:$(secret system)@$server/$DATABASE_NAME$query
  DATABASE_MIGRATION_URL=$scheme$OWNER_ROLE:$(secret owner)@$server/$DATABASE_NAME$query
}

# Creates what is missing and sets what is there. The argument is a function that runs the SQL of its input in the
# database it is told.
provision_database() {
  local run_sql=$1 found
  roles_sql | "$run_sql" postgres >/dev/null || die_of_sql
  found=$(printf "select 'found' from pg_database where datname = '%s';\n" "$DATABASE_NAME" | "$run_sql" postgres)
  if [[ $found != *found* ]]; then
    printf "create database %s owner %s encoding 'UTF8' template template0;\n" "$DATABASE_NAME" "$OWNER_ROLE" |
      "$run_sql" postgres >/dev/null || die_of_sql
  fi
  database_sql | "$run_sql" "$DATABASE_NAME" >/dev/null || die_of_sql
}

# In the SQL below an empty line ends each statement (see sql_in_single_user_mode).
roles_sql() {
  local role createdb=nocreatedb
  if [[ $INSTANCE == test ]]; then
    createdb=createdb
  fi
  role_sql "$OWNER_ROLE" "$(secret owner)" "$createdb"
  role_sql "$APP__DATABASE__RUNTIME_ROLE" "$(secret runtime)" nocreatedb
  role_sql "$APP__DATABASE__SYSTEM_ROLE" "$(secret system)" nocreatedb
  for role in "$APP__DATABASE__RUNTIME_ROLE" "$APP__DATABASE__SYSTEM_ROLE"; do
    cat <<SQL
alter role $role set statement_timeout = '3s';

alter role $role set lock_timeout = '1s';

alter role $role set idle_in_transaction_session_timeout = '5s';

SQL
  done
  if [[ $POSTGRES_SOURCE == environment ]]; then
    # An administrator who is no superuser hands ownership only to a role of his own.
    cat <<SQL
do \$\$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant $OWNER_ROLE to %I', current_user);
  end if;
end
\$\$;

SQL
  else
    printf "alter role postgres with password '%s';\n\n" "$(secret postgres)"
  fi
}

role_sql() {
  cat <<SQL
do \$\$
begin
  if not exists (select from pg_roles where rolname = '$1') then
    create role $1 login nosuperuser nobypassrls nocreaterole;
  end if;
end
\$\$;

alter role $1 with $3 password '$2';

SQL
}

database_sql() {
  cat <<SQL
alter database $DATABASE_NAME owner to $OWNER_ROLE;

revoke all on database $DATABASE_NAME from public;

grant connect on database $DATABASE_NAME to $APP__DATABASE__RUNTIME_ROLE, $APP__DATABASE__SYSTEM_ROLE;

alter schema public owner to $OWNER_ROLE;

revoke create on schema public from public;

SQL
}

# --- A server given in the environment ----------------------------------------------------------------------------

# Three URLs are used as they are; one is an administrator's, who makes database and roles for this checkout.
use_given_postgres() {
  check_url_answers DATABASE_URL "$DATABASE_URL" 5432
  if [[ -n ${DATABASE_SYSTEM_URL:-} && -n ${DATABASE_MIGRATION_URL:-} ]]; then
    APP__DATABASE__RUNTIME_ROLE=$(url_user "$DATABASE_URL")
    APP__DATABASE__SYSTEM_ROLE=$(url_user "$DATABASE_SYSTEM_URL")
    TEST_ADMIN_DATABASE_URL=${TEST_ADMIN_DATABASE_URL:-$DATABASE_MIGRATION_URL}
    return
  fi
  [[ -z ${DATABASE_SYSTEM_URL:-}${DATABASE_MIGRATION_URL:-} ]] ||
    die "give DATABASE_URL alone (administrative) or with both DATABASE_SYSTEM_URL and DATABASE_MIGRATION_URL"
  have psql || die "DATABASE_URL alone is administrative: psql is needed to create the database and roles there"
  TEST_ADMIN_DATABASE_URL=$DATABASE_URL
  name_database_objects "_$(checkout_hash)"
  provision_database sql_as_administrator
  [[ $TEST_ADMIN_DATABASE_URL =~ ^(postgres(ql)?://)([^@/?]*@)?([^/?]*)(/[^?]*)?(\?.*)?$ ]] || die_of_sql
  set_database_urls "${BASH_REMATCH[1]}" "${BASH_REMATCH[4]}" "${BASH_REMATCH[6]}"
  say "postgres from the environment, database $DATABASE_NAME"
}

# The administrator's own database may have any name: where SQL has to run elsewhere, its name is replaced.
sql_as_administrator() {
  local url=$TEST_ADMIN_DATABASE_URL
  if [[ $1 == "$DATABASE_NAME" ]]; then
    url=$(sed -E "s|^([a-z]+://[^/?]*)(/[^?]*)?|\1/$1|" <<<"$url")
  fi
  psql --no-psqlrc --quiet --tuples-only --set=ON_ERROR_STOP=1 --dbname="$url" 2>"$INSTANCE_DIR/psql.log"
}

url_user() {
  local user
  user=$(sed -E 's|^[a-z]+://([^:@/?]*).*|\1|' <<<"$1")
  printf '%b' "${user//%/\\x}"
}

die_of_sql() {
  if [[ $POSTGRES_SOURCE == environment ]]; then
    die "the server of DATABASE_URL refuses: $(tail -n1 "$INSTANCE_DIR/psql.log" 2>/dev/null)"
  fi
  die_of_data "Postgres refuses to set up database and roles"
}
