# shellcheck shell=bash
# What every script shares: messages, edits of files, the instance's directory, locks, ports, secrets. Sourced, never run.
# Processes are in process.sh.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
readonly ROOT
readonly SCRIPTS=$ROOT/scripts
readonly LOCAL=$ROOT/.local
# The npm and PyPI packages, and everything else to unpack, come in these versions only for these machines.
MACHINE=$(uname -m)
readonly MACHINE

say() {
  printf 'keel: %s\n' "$*"
}

die() {
  printf 'keel: %s\n' "$*" >&2
  exit 1
}

have() {
  command -v "$1" >/dev/null 2>&1
}

# edit <file> <perl code on the whole text>…: each must change something; where one does not, the script is older than the file.
edit() {
  local file=$1 code before
  shift
  for code in "$@"; do
    before=$(git hash-object "$file")
    perl -0777 -pi -e "$code" "$file"
    [[ $(git hash-object "$file") != "$before" ]] ||
      die "$file is not as ${0##*/} expects, which has to be brought up to date: $code changes nothing"
  done
}

# Sets INSTANCE and INSTANCE_DIR.
use_instance() {
  [[ ${1:-} =~ ^[a-z][a-z0-9_-]{0,30}$ ]] || die "an instance name is a lower-case word (run, test), not '${1:-}'"
  [[ $1 != packages && $1 != tools ]] || die "'$1' is a directory of .local, not an instance"
  INSTANCE=$1
  INSTANCE_DIR=$LOCAL/$1
  mkdir -p "$INSTANCE_DIR" 2>/dev/null && [[ -w $INSTANCE_DIR ]] ||
    die ".local/$INSTANCE is not writable for $(id -un): remove .local as the user who made it"
}

# Runs a command while holding a lock. It runs in a subshell with the lock's descriptor closed, because a
# server started inside would inherit it and hold the lock for as long as it lives.
with_lock() {
  local lock=$1
  shift
  if have flock; then
    (
      flock -w 600 9 || die "another process has held ${lock#"$ROOT"/} for ten minutes"
      "$@" 9>&-
    ) 9>"$lock"
  else
    (
      until mkdir "$lock.d" 2>/dev/null; do
        lock_is_held "$lock.d" || rm -rf "$lock.d"
        sleep 0.2
      done
      trap 'rm -rf "$lock.d"' EXIT
      printf '%s' "$BASHPID" >"$lock.d/pid"
      "$@"
    )
  fi
}

lock_is_held() {
  local pid
  # The holder writes its pid a moment after it made the directory.
  [[ -s $1/pid ]] || sleep 1
  pid=$(cat "$1/pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null
}

port_is_taken() {
  (exec 3<>"/dev/tcp/${2:-127.0.0.1}/$1") 2>/dev/null
}

# Prints the whole answer to a request, which has to ask for the end of the connection: <host> <port> <request>.
ask_tcp() {
  (
    exec 2>/dev/null 3<>"/dev/tcp/$1/$2" || exit 1
    printf '%s' "$3" >&3
    timeout 5 cat <&3
  )
}

# The port remembered in a file when it is free, else another one, remembered from now on. Below 32768, where
# outgoing connections take theirs.
free_port() {
  local file=$1 port
  port=$(cat "$file" 2>/dev/null || true)
  while [[ ! $port =~ ^[0-9]+$ ]] || port_is_taken "$port"; do
    port=$((20000 + RANDOM % 12000))
  done
  printf '%s\n' "$port" >"$file"
  printf '%s' "$port"
}

# The instance's secret of this name, made on first use.
secret() {
  local file=$INSTANCE_DIR/secrets value
  value=$(sed -n "s/^$1=//p" "$file" 2>/dev/null || true)
  if [[ -z $value ]]; then
    value=$(LC_ALL=C tr -dc 'A-Za-z0-9' < <(head -c 1024 /dev/urandom))
    value=${value:0:32}
    (umask 077 && printf '%s=%s\n' "$1" "$value" >>"$file")
  fi
  printf '%s' "$value"
}

# Different for each checkout and instance on this machine.
checkout_hash() {
  local sum
  sum=$(printf '%s:%s' "$ROOT" "$INSTANCE" | sha256sum)
  printf '%s' "${sum:0:8}"
}
