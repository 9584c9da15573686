# shellcheck shell=bash
# Those who use an instance's services (run.sh, test.sh) and what happens when one of them dies without a word. Each
# has a directory .local/<instance>/users/<pid>: who it is, its watcher, and the process groups it started.
# Sourced after process.sh.

supervisor_directory() {
  printf '%s/users/%s' "$INSTANCE_DIR" "$1"
}

# The living supervisors' pids, without the given one. The dead whose watcher died too (a reboot) are buried here.
living_supervisors() {
  local directory pid
  for directory in "$INSTANCE_DIR"/users/*; do
    [[ -d $directory ]] || continue
    pid=${directory##*/}
    if [[ $pid == "${1:-}" ]]; then
      continue
    elif recorded_is_alive "$directory/identity"; then
      printf '%s\n' "$pid"
    elif ! recorded_is_alive "$directory/watcher"; then
      end_children "$pid"
      forget_supervisor "$pid"
    fi
  done
}

register_supervisor() {
  with_lock "$INSTANCE_DIR/users.lock" add_supervisor "$@"
}

add_supervisor() {
  local pid=$1 parent=${2:-0} mode=${3:-} others directory
  others=$(living_supervisors "$pid")
  [[ $mode != alone || -z $others ]] || die "already running, pid ${others%%$'\n'*}"
  directory=$(supervisor_directory "$pid")
  mkdir -p "$directory"
  process_identity "$pid" >"$directory/identity"
  if ((parent)); then
    process_identity "$parent" >"$directory/parent"
  fi
  start_detached "$directory/watcher" /dev/null "$SCRIPTS/services.sh" watcher "$INSTANCE" "$pid"
}

# Runs detached, for as long as the supervisor lives.
watch_supervisor() {
  local pid=$1 directory
  directory=$(supervisor_directory "$pid")
  while recorded_is_alive "$directory/identity"; do
    if [[ -s $directory/parent ]] && ! recorded_is_alive "$directory/parent"; then
      signal_recorded process "$directory/identity" TERM
    fi
    sleep 1
  done
  # The supervisor took leave by itself.
  [[ -d $directory ]] || return 0
  down "$pid"
}

# TERM first: the service drains its requests, which takes its time.
end_children() {
  stop_recorded group "$(supervisor_directory "$1")/children" TERM 40 KILL
}

forget_supervisor() {
  local directory
  directory=$(supervisor_directory "$1")
  if [[ $(cut -d' ' -f1 "$directory/watcher" 2>/dev/null) != "$$" ]]; then
    stop_recorded group "$directory/watcher" TERM 2 KILL
  fi
  rm -rf "$directory"
}
