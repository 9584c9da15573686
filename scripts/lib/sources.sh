# shellcheck shell=bash
# Where a service may come from, and what is the same for both. Sourced after common.sh.

# The order in which a service is looked for; KEEL_SERVICES narrows it to one.
readonly SOURCES=(binaries docker debian npm-pypi)

check_forced_source() {
  [[ -z ${KEEL_SERVICES:-} || " ${SOURCES[*]} " == *" $KEEL_SERVICES "* ]] ||
    die "KEEL_SERVICES must be one of: ${SOURCES[*]} (it is '$KEEL_SERVICES')"
}

# Prints the first source for which the given function succeeds. Those functions leave what they found behind, in
# variables; so this one is not run in a subshell, and says its answer in SOURCE.
find_source() {
  local locate=$1
  for SOURCE in ${KEEL_SERVICES:-"${SOURCES[@]}"}; do
    "$locate" "$SOURCE" && return
  done
  return 1
}

# May a service that is already running from this source go on?
source_is_welcome() {
  [[ -z ${KEEL_SERVICES:-} || $KEEL_SERVICES == "$1" ]]
}

# A shell that has sourced an instance's env file offers us our own URLs back: they are not "given".
forget_own_urls() {
  local postgres redis
  read -r postgres redis <<<"${KEEL_SERVICES_SOURCE:-}"
  if [[ -n ${KEEL_SERVICES:-} || ${postgres:-environment} != environment ]]; then
    unset DATABASE_URL DATABASE_SYSTEM_URL DATABASE_MIGRATION_URL TEST_ADMIN_DATABASE_URL
  fi
  if [[ -n ${KEEL_SERVICES:-} || ${redis:-environment} != environment ]]; then
    unset REDIS_URL
  fi
}

# Fails with one line when nobody listens where a given URL points.
check_url_answers() {
  local name=$1 url=$2 default_port=$3 host port
  [[ $url =~ ^[a-z]+://([^@/]*@)?(\[[^]]+\]|[^:/?]*)(:([0-9]+))? ]] || die "$name is not a URL"
  host=${BASH_REMATCH[2]//[\[\]]/}
  port=${BASH_REMATCH[4]:-$default_port}
  # Without a host the URL means a unix socket.
  [[ -n $host ]] || return 0
  timeout 5 bash -c "exec 3<>'/dev/tcp/$host/$port'" 2>/dev/null ||
    die "nothing answers at $host:$port, where $name points"
}

# --- Docker -------------------------------------------------------------------------------------------------------

docker_has_image() {
  have docker && timeout 5 docker info >/dev/null 2>&1 || return 1
  docker image inspect "$1" >/dev/null 2>&1 && return
  say "pulling $1"
  docker pull --quiet "$1" >/dev/null
}

container_name() {
  printf 'keel-%s-%s-%s' "$(checkout_hash)" "$INSTANCE" "$1"
}

# Runs a service's container on a loopback port and waits for it: <service> <container port> <ready function>, then
# docker's and the image's arguments. Its volume has the container's name and outlives it.
run_container() {
  local service=$1 container_port=$2 ready=$3 name port deadline=$((SECONDS + 60))
  shift 3
  name=$(container_name "$service")
  port=$(free_port "$INSTANCE_DIR/$service.port")
  # A machine that lost power leaves a stopped container of this name.
  docker rm --force "$name" >/dev/null 2>&1 || true
  printf '%s\n' "$name" >"$INSTANCE_DIR/$service.container"
  docker run --detach --rm --name "$name" --publish "127.0.0.1:$port:$container_port" "$@" >/dev/null
  until "$ready"; do
    ((SECONDS < deadline)) || die "the container $name does not get ready (see docker logs $name)"
    sleep 0.2
  done
}

stop_container() {
  local record=$INSTANCE_DIR/$1.container
  [[ -s $record ]] || return 0
  docker stop --time 20 "$(cat "$record")" >/dev/null 2>&1 || true
  rm -f "$record"
}
