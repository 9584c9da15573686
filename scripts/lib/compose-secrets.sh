# shellcheck shell=bash
# The secrets of deploy/compose.yaml: made once, never printed, never in the tree. Sourced after common.sh.
#
# A file for each, as the containers mount them. Whoever runs inside has another user id than you, so the files have to
# be readable for all; the directory around them is for you alone, and the engine mounts past it.

readonly COMPOSE_DIR=$LOCAL/compose
readonly COMPOSE_SECRETS=$COMPOSE_DIR/secrets

make_secrets() {
  local owner app system redis
  if [[ ! -d $COMPOSE_SECRETS ]] && data_is_there; then
    die "the volumes of an earlier 'make up' are there, but not its passwords (.local/compose): DATA=gone make down" \
      "throws the data away"
  fi
  mkdir -p "$COMPOSE_SECRETS"
  chmod 700 "$COMPOSE_DIR" "$COMPOSE_SECRETS"
  random_secret postgres-password owner-password app-password system-password exporter-password redis-password \
    auth-pepper admin-token grafana-password
  owner=$(<"$COMPOSE_SECRETS/owner-password")
  app=$(<"$COMPOSE_SECRETS/app-password")
  system=$(<"$COMPOSE_SECRETS/system-password")
  redis=$(<"$COMPOSE_SECRETS/redis-password")
  secret_file database-migration-url "postgres://keel_owner:$owner@postgres:5432/keel"
  secret_file database-url "postgres://keel_app:$app@postgres:5432/keel"
  secret_file database-system-url "postgres://keel_system:$system@postgres:5432/keel"
  secret_file redis-url "redis://:$redis@redis:6379/0"
  secret_file redis-auth "requirepass $redis"
  secret_file redis-exporter "{\"redis://redis:6379\": \"$redis\"}"
  # Where alerts go. Write your own URL into the file, and it stays.
  local severity
  for severity in page ticket info watchdog; do
    secret_file "alert-$severity-url" "http://alert-sink:8080/cgi-bin/alert?$severity"
  done
}

# Letters and digits only, which need no quoting in a URL, in SQL or in Redis's file.
random_secret() {
  local name value
  for name in "$@"; do
    [[ ! -s $COMPOSE_SECRETS/$name ]] || continue
    value=$(LC_ALL=C tr -dc 'A-Za-z0-9' < <(head -c 2048 /dev/urandom))
    secret_file "$name" "${value:0:40}"
  done
}

# What is there stays: a container has it mounted.
secret_file() {
  local file=$COMPOSE_SECRETS/$1
  [[ ! -s $file ]] || return 0
  printf '%s\n' "$2" >"$file"
  chmod 644 "$file"
}

data_is_there() {
  have docker && [[ -n $(docker volume ls --quiet --filter label=com.docker.compose.project=keel \
    --filter label=com.docker.compose.volume=postgres 2>/dev/null) ]]
}
