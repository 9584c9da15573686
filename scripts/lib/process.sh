# shellcheck shell=bash
# Processes that outlive the script which starts them. One is known by "pid start-time", so that a pid which the
# kernel has given to somebody else is never signalled. Sourced after common.sh.

# Prints "pid start-time"; without /proc only the pid.
process_identity() {
  local stat='' fields
  # The process may be gone by now.
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || true
  # The second field, a name in brackets, may contain blanks: count from behind it.
  read -ra fields <<<"${stat##*) }"
  printf '%s %s\n' "$1" "${fields[19]:-}"
}

process_is_alive() {
  local pid=$1 start=${2:-}
  if [[ ! -d /proc/self ]]; then
    kill -0 "$pid" 2>/dev/null
    return
  fi
  [[ -d /proc/$pid ]] || return 1
  [[ -z $start || "$(process_identity "$pid")" == "$pid $start" ]] || return 1
  # A zombie is dead; only its parent has not noticed.
  ! grep -qs '^State:[[:space:]]*Z' "/proc/$pid/status"
}

# Is the process recorded in this file alive?
recorded_is_alive() {
  local pid start
  [[ -s $1 ]] && read -r pid start <"$1" && process_is_alive "$pid" "$start"
}

# Starts a command in a session of its own, its output appended to a log. It records itself before it becomes the
# command, so that nothing is lost when the starting script is killed in between.
start_detached() {
  local record=$1 log=$2
  shift 2
  (
    process_identity "$BASHPID" >"$record"
    exec setsid "$@"
  ) </dev/null >>"$log" 2>&1 &
}

# Waits until a recorded process is ready: returns 1 when it dies first or the time is up.
await_ready() {
  local record=$1 seconds=$2 deadline
  shift 2
  deadline=$((SECONDS + seconds))
  # The record appears a moment after the start.
  sleep 0.05
  until "$@"; do
    recorded_is_alive "$record" && ((SECONDS < deadline)) || return 1
    sleep 0.05
  done
}

# Is there a living process in the group which this process leads or led? As long as there is, its pid is not given
# to anybody else.
group_is_alive() {
  local pid=$1 start=${2:-}
  # Not a bare return: in a trap that has the status from before the trap.
  process_is_alive "$pid" "$start" && return 0
  [[ -d /proc/self && ! -d /proc/$pid ]] && grep -qsE "^[0-9]+ \(.*\) [^Z] [0-9]+ $pid " /proc/[0-9]*/stat
}

# Signals the recorded processes or groups (one a line), waits, and uses the last resort on those that stay.
stop_recorded() {
  local kind=$1 record=$2 signal=$3 seconds=$4 last_resort=$5
  [[ -s $record ]] || return 0
  signal_recorded "$kind" "$record" "$signal"
  await_end "$kind" "$record" "$seconds" && return
  signal_recorded "$kind" "$record" "$last_resort"
  await_end "$kind" "$record" 5 || true
}

signal_recorded() {
  local kind=$1 record=$2 signal=$3 pid start sign=''
  if [[ $kind == group ]]; then
    sign=-
  fi
  while read -r pid start; do
    "${kind}_is_alive" "$pid" "$start" || continue
    kill -s "$signal" -- "$sign$pid" 2>/dev/null || true
  done <"$record"
}

await_end() {
  local kind=$1 record=$2 deadline=$((SECONDS + $3)) pid start
  while read -r pid start; do
    while "${kind}_is_alive" "$pid" "$start"; do
      ((SECONDS < deadline)) || return 1
      sleep 0.05
    done
  done <"$record"
}
