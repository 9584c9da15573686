# shellcheck shell=bash
# An Alertmanager that runs, for checks and drills, wherever its program is from. Sourced after prometheus.sh.

# Debian's reads its texts from here, whatever it is told, so unpacked and not installed it does not start.
readonly ALERTMANAGER_TEXTS=/usr/share/prometheus/alertmanager

# Becomes Alertmanager, with these arguments; paths among them have to be absolute. Call it in a subshell. Returns 3
# when there is none.
become_alertmanager() {
  local program directory copy new
  program=$(prometheus_tool alertmanager) || return 3
  directory=${program%/usr/bin/*}
  if [[ $program == "$PACKAGES"/* && ! -e $ALERTMANAGER_TEXTS/default.tmpl ]]; then
    copy=$program-unpacked
    # A copy that looks below its working directory instead: as many bytes, so nothing in it moves.
    [[ -x $copy ]] || {
      new=$(mktemp "$copy.XXXXXX")
      LC_ALL=C sed "s|$ALERTMANAGER_TEXTS|usr//${ALERTMANAGER_TEXTS#/usr/}|g" "$program" >"$new"
      chmod +x "$new"
      mv "$new" "$copy"
    }
    cd "$directory" || return 1
    program=$copy
  fi
  exec "$program" "$@"
}
