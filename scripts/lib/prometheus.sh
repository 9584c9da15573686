# shellcheck shell=bash
# Prometheus, Alertmanager, their checkers and the exporters, for checks and drills: the one on PATH, else Debian's,
# unpacked into .local/packages. Nothing is installed, so no daemon is started. Sourced after common.sh and
# packages.sh.
#
# Debian's Alertmanager reads /usr/share/prometheus/alertmanager/default.tmpl, whatever it is told: unpacked it checks
# (amtool), but it runs only where that file is. alertmanager_to_run makes it think so.

readonly PROMETHEUS_TOOLS=(
  prometheus promtool alertmanager amtool prometheus-postgres-exporter prometheus-redis-exporter
)

# Prints the path of one of PROMETHEUS_TOOLS; returns 3 when it cannot be had here.
prometheus_tool() {
  local tool=$1 name directory path
  [[ " ${PROMETHEUS_TOOLS[*]} " == *" $tool "* ]] || die "prometheus_tool: one of ${PROMETHEUS_TOOLS[*]}, not '$tool'"
  for name in $(prometheus_tool_names "$tool"); do
    command -v "$name" && return
  done
  directory=$(package_directory prometheus-debian unpack_prometheus) || return 3
  for name in $(prometheus_tool_names "$tool"); do
    path=$directory/usr/bin/$name
    [[ ! -x $path ]] || { printf '%s\n' "$path" && return; }
  done
  return 3
}

# Debian's name first; upstream's archives call some of them otherwise.
prometheus_tool_names() {
  case $1 in
    alertmanager) echo prometheus-alertmanager alertmanager ;;
    prometheus-postgres-exporter) echo prometheus-postgres-exporter postgres_exporter ;;
    prometheus-redis-exporter) echo prometheus-redis-exporter redis_exporter ;;
    *) echo "$1" ;;
  esac
}

# Prints the path of an Alertmanager that starts; returns 3 when it cannot be had here. Unpacked, it sees the package's
# /usr/share in place of the machine's, in a namespace of its own that needs no root. <directory> gets the wrapper.
alertmanager_to_run() {
  local directory=$1 binary share namespace=(unshare --mount)
  binary=$(prometheus_tool alertmanager) || return 3
  share=${binary%/bin/*}/share
  if [[ $binary != "$PACKAGES"/* || -e /usr/share/prometheus/alertmanager/default.tmpl ]]; then
    printf '%s\n' "$binary"
    return
  fi
  ((EUID == 0)) || namespace+=(--map-root-user)
  "${namespace[@]}" true 2>/dev/null || return 3
  {
    printf '#!/bin/sh\n'
    printf "exec %s sh -c 'mount --bind \"\$0\" /usr/share && exec \"\$@\"' '%s' '%s' \"\$@\"\n" \
      "$(command -v "${namespace[0]}") ${namespace[*]:1}" "$share" "$binary"
  } >"$directory/alertmanager"
  chmod 755 "$directory/alertmanager"
  printf '%s\n' "$directory/alertmanager"
}

unpack_prometheus() {
  # Programs in Go want the C library and nothing else: what these packages depend on is for their web pages and for
  # setting up daemons. Inside package_directory's subshell this replaces the general closure.
  # shellcheck disable=SC2329 # unpack_debian calls it
  debian_closure() {
    printf '%s\n' prometheus prometheus-alertmanager prometheus-postgres-exporter prometheus-redis-exporter
  }
  unpack_debian "$1" prometheus
}

# The version a tool says it has, as "2.42.0".
prometheus_tool_version() {
  "$1" --version 2>&1 | sed -nE '1s/.*(version|Exporter)[= ]v?([0-9][0-9.]*).*/\2/p'
}
