# shellcheck shell=bash
# Where the commands of the runbooks go, and the two they use. Sourced; set a variable before to have it otherwise.

ENVIRONMENT=${ENVIRONMENT:-development}
PROMETHEUS=${PROMETHEUS:-http://127.0.0.1:9090}
ALERTMANAGER=${ALERTMANAGER:-http://127.0.0.1:9093}
ADMIN=${ADMIN:-http://127.0.0.1:9464}
# What prints the service's lines of the last minutes; in a cluster: kubectl logs --selector … --since=15m.
LOGS=${LOGS:-scripts/up.sh compose logs --no-log-prefix --since 15m keel}

# promq <PromQL>: a line for each series, its labels and its value.
promq() {
  local answer
  answer=$(curl --silent --show-error --max-time 10 --get "$PROMETHEUS/api/v1/query" --data-urlencode "query=$1") || return
  if [[ $answer != '{"status":"success"'* ]]; then
    printf '%s\n' "$answer" >&2
    return 1
  fi
  # shellcheck disable=SC2001 # a newline in the replacement
  answer=$(sed 's/{"metric":/\n/g' <<<"$answer" | sed -n 's/^\(.*\),"value":\[[0-9.]*,"\([^"]*\)".*/\1 \2/p')
  printf '%s\n' "${answer:-no series}"
}

# errorlog [<lines>]: what failed last, as the service said it. Warnings are left out: strangers who try keys make many.
errorlog() {
  $LOGS | grep -E '"level":"ERROR"|"message":"request_failed"' | tail -n "${1:-20}"
}
