# shellcheck shell=bash
# The life of run.sh and test.sh: what must be there first, children that never outlive the script, the end.
# Sourced after common.sh and process.sh.

readonly MINIMUM_FREE_MIB=${KEEL_MIN_FREE_MIB:-3072}

check_build_tools() {
  local free
  free=$(($(df -Pk "$ROOT" | awk 'NR == 2 { print $4 }') / 1024))
  ((free >= MINIMUM_FREE_MIB)) ||
    die "only $free MiB are free below $ROOT, the build wants $MINIMUM_FREE_MIB (KEEL_MIN_FREE_MIB overrides)"
  have cargo || die "cargo is not on PATH: install Rust (https://rustup.rs)"
  have cc || die "no C compiler (cc) on PATH: install one (Debian: apt-get install gcc libc6-dev)"
}

# supervise <instance> [alone]: from here on nothing outlives this script, whichever way it ends.
supervise() {
  local parent=0
  use_instance "$1"
  # A killed make leaves its recipe running: the recipe has to notice by itself.
  if [[ -n ${MAKELEVEL:-} ]]; then
    parent=$PPID
  fi
  "$SCRIPTS/services.sh" watch "$INSTANCE" "$$" "$parent" "${2:-}"
  trap finish EXIT
  trap 'stop_early 130' INT
  trap 'stop_early 129' HUP
  trap 'stop_early 143' TERM
}

stop_early() {
  # The terminal may be gone.
  trap '' PIPE
  say "stopping (Ctrl-C again kills at once)" || true
  exit "$1"
}

finish() {
  local status=$? down
  set +e
  trap '' PIPE HUP
  trap kill_children INT TERM
  # Bash's own words on a child that was killed are of no use.
  exec 3>&2 2>/dev/null
  # In the background, for a signal would wait for the end of a command in the foreground.
  "$SCRIPTS/services.sh" down "$INSTANCE" "$$" 2>&3 &
  down=$!
  while process_is_alive "$down"; do
    wait "$down"
  done
  exit "$status"
}

children_record() {
  printf '%s/users/%s/children' "$INSTANCE_DIR" "$$"
}

kill_children() {
  [[ ! -s $(children_record) ]] || signal_recorded group "$(children_record)" KILL
}

# Starts a command as the leader of a process group (so that the terminal's Ctrl-C does not reach it, only our one
# signal does) that ends with this script. Sets CHILD.
start_child() {
  set -m
  (
    process_identity "$BASHPID" >>"$(children_record)"
    # Children must not hold the lock on the ports for as long as they live.
    exec 8<&-
    exec "$@"
  ) </dev/null &
  CHILD=$!
  set +m
}

run_child() {
  start_child "$@"
  wait "$CHILD"
}

# Finds or starts the services and exports where they are.
start_services() {
  run_child "$SCRIPTS/services.sh" up "$INSTANCE"
  # shellcheck source=/dev/null
  source "$INSTANCE_DIR/env"
}
