# shellcheck shell=bash
# Where the commands of the runbooks go, and those they share. Sourced; set a variable before to have it otherwise. What
# stands here fits `make up`, and with WHERE=cluster the namespace `keel` of the cluster that kubectl knows: there
# `kubectl port-forward` makes the ports, and PSQL is yours to set where Postgres is not in the cluster.

if [[ ${WHERE:-local} == cluster ]]; then
  # Of the wrong environment there are no series, and that looks like all is well.
  : "${ENVIRONMENT:?with WHERE=cluster say which, as in ENVIRONMENT=production}"
  : "${API:?with WHERE=cluster say where users come in, as in API=https://keel.example.com}"
fi
ENVIRONMENT=${ENVIRONMENT:-development}
PROMETHEUS=${PROMETHEUS:-http://127.0.0.1:9090}
ALERTMANAGER=${ALERTMANAGER:-http://127.0.0.1:9093}
# Where users come in.
API=${API:-http://127.0.0.1:8080}
# Of one instance.
ADMIN=${ADMIN:-http://127.0.0.1:9464}
# Opens what changes state there (admin.token).
ADMIN_TOKEN=${ADMIN_TOKEN:-$(cat .local/compose/secrets/admin-token 2>/dev/null || true)}
# What a person's own sessions are called, lest they are taken for somebody else's, and how long they wait. A psql inside a
# container has an environment of its own.
export PGAPPNAME=${PGAPPNAME:-runbook}
export PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-5}
PGSELF="PGAPPNAME=$PGAPPNAME PGCONNECT_TIMEOUT=$PGCONNECT_TIMEOUT"
if [[ ${WHERE:-local} == cluster ]]; then
  SELECTOR='--selector app.kubernetes.io/component=server'
  # So many of each pod at most: all lines of a busy quarter of an hour are gigabytes, and come through the API server.
  LOGS=${LOGS:-kubectl --namespace keel logs $SELECTOR --since=15m --tail=${LOG_LINES:-20000} --max-log-requests=50}
  APPCTL=${APPCTL:-kubectl --namespace keel exec deployment/keel -- /usr/local/bin/keel}
  PSQL=${PSQL:-kubectl --namespace keel exec --stdin statefulset/postgres -- env $PGSELF psql --no-psqlrc --username postgres --dbname keel}
  PSQL_OWNER=${PSQL_OWNER:-kubectl --namespace keel exec --stdin statefulset/postgres -- env $PGSELF psql --no-psqlrc --username keel_owner --dbname keel}
  REDISCLI=${REDISCLI:-kubectl --namespace keel exec --stdin deployment/redis -- redis-cli}
  PART=${PART:-echo use kubectl to}
  PROCESSES=${PROCESSES:-kubectl --namespace keel get pods $SELECTOR --output wide}
fi
# Prints the service's lines of the last minutes.
LOGS=${LOGS:-scripts/up.sh compose logs --no-log-prefix --since 15m keel}
# The binary, where it has the service's settings.
APPCTL=${APPCTL:-scripts/up.sh compose exec -T keel /usr/local/bin/keel}
# psql as somebody who sees all sessions, and as the owner of the tables.
PSQL=${PSQL:-scripts/up.sh compose exec -T postgres env $PGSELF psql --no-psqlrc --username postgres --dbname keel}
PSQL_OWNER=${PSQL_OWNER:-scripts/up.sh compose exec -T postgres env $PGSELF psql --no-psqlrc --username keel_owner --dbname keel}
# redis-cli with the password; empty: that of compose.
REDISCLI=${REDISCLI:-}
# start, stop, restart or kill of what is named behind it: keel, postgres, redis, prometheus … or one instance.
PART=${PART:-scripts/up.sh compose}
# A line for each instance: name, addresses, state.
PROCESSES=${PROCESSES:-scripts/up.sh compose ps keel}

# promq <PromQL>: a line for each series, its labels and its value. That there is none means something only where
# Prometheus knows the environment.
promq() {
  local answer known
  answer=$(series_of "$1") || return
  if [[ -z $answer && $1 == *"environment=\"$ENVIRONMENT\""* ]]; then
    known=$(series_of 'count by (environment) (last_over_time(service_info[1d]))') || known=
    if [[ $known != *"\"environment\":\"$ENVIRONMENT\""* ]]; then
      known=$(sed -n 's/.*"environment":"\([^"]*\)".*/\1/p' <<<"$known" | paste -sd' ' -)
      printf 'Prometheus knows no service in environment "%s", only in: %s\n' "$ENVIRONMENT" "${known:-none}" >&2
    fi
  fi
  printf '%s\n' "${answer:-no series}"
}

series_of() {
  local answer
  answer=$(curl --silent --show-error --max-time 10 --get "$PROMETHEUS/api/v1/query" --data-urlencode "query=$1") || return
  if [[ $answer != '{"status":"success"'* ]]; then
    printf '%s\n' "$answer" >&2
    return 1
  fi
  # shellcheck disable=SC2001 # a newline in the replacement
  sed 's/{"metric":/\n/g' <<<"$answer" | sed -n 's/^\(.*\),"value":\[[0-9.]*,"\([^"]*\)".*/\1 \2/p'
}

# ask_instance <instance>/<path> [<curl's arguments>…]: what one instance says, by the address that alerts and series have
# for it. In a cluster that is a pod's, which is out of reach from here: through kubectl, for as long as it takes.
ask_instance() {
  local address=${1%%/*} path=/${1#*/} pod forward line='' status=0
  shift
  if [[ ${WHERE:-local} == cluster ]]; then
    pod=$(kubectl --namespace keel get pods --field-selector "status.podIP=${address%:*}" --output name) || return
    if [[ -z $pod ]]; then
      printf 'no pod has the address %s\n' "${address%:*}" >&2
      return 1
    fi
    # It says which port it took, or why not.
    exec 9< <(exec kubectl --namespace keel port-forward "$pod" ":${address##*:}" 2>&1)
    forward=$!
    read -r -t 15 line <&9 || true
    if [[ $line != *'127.0.0.1:'* ]]; then
      printf 'kubectl port-forward: %s\n' "${line:-says nothing}" >&2
      kill "$forward" 2>/dev/null || true
      return 1
    fi
    address=127.0.0.1:${line#*127.0.0.1:}
    address=${address%% *}
  fi
  curl --silent --show-error --max-time 30 "$@" "http://$address$path" || status=$?
  if [[ -n ${forward:-} ]]; then
    kill "$forward" 2>/dev/null || true
    wait "$forward" 2>/dev/null || true
    exec 9<&-
  fi
  return "$status"
}

# am [<alert>]: the alerts that Alertmanager has now: state, since when, labels.
am() {
  local answer filter=()
  if (($#)); then
    filter=(--data-urlencode "filter=alertname=\"$1\"")
  fi
  answer=$(curl --silent --show-error --max-time 10 --get "$ALERTMANAGER/api/v2/alerts" "${filter[@]}") || return
  # shellcheck disable=SC2001 # a newline in the replacement
  answer=$(sed 's/{"annotations":/\n/g' <<<"$answer" |
    sed -n 's/.*"startsAt":"\([^".]*\).*"state":"\([a-z]*\)".*"labels":\({[^}]*}\).*/\2 since \1 \3/p')
  printf '%s\n' "${answer:-no alert}"
}

# logs_of <pattern> [<lines>]: the last lines with this in them. They begin with their time: sorted over all instances.
logs_of() {
  $LOGS | { grep -E -e "$1" || true; } | sort | tail -n "${2:-20}"
}

# errorlog [<lines>]: what failed last, as the service said it. Warnings are left out: strangers who try keys make many.
errorlog() {
  logs_of '"level":"ERROR"|"message":"request_failed"' "${1:-20}"
}

# logq <event> [<lines>]: the last lines of this event, over all instances.
logq() {
  logs_of "\"(message|event)\":\"$1\"" "${2:-20}"
}

# tally <field>…: how often JSON log lines have the same values of these fields; the ten most frequent.
tally() {
  awk -v fields="$*" '
    {
      count_of_names = split(fields, names, " ")
      line = ""
      for (i = 1; i <= count_of_names; i++) {
        value = "-"
        if (match($0, "\"" names[i] "\":(\"[^\"]*\"|[^,}]*)"))
          value = substr($0, RSTART + length(names[i]) + 3, RLENGTH - length(names[i]) - 3)
        gsub(/"/, "", value)
        line = line " " names[i] "=" value
      }
      count[line]++
    }
    END { for (line in count) print count[line] line }' | sort -rn | sed -n 1,10p
}

# appctl <arguments>: the service's own command line, as in `appctl job dead`.
appctl() {
  $APPCTL "$@"
}

# psqlq <SQL>: looks, and can't change anything.
psqlq() {
  $PSQL --quiet --command='set default_transaction_read_only = on' --command="$1"
}

# redisq <command>: redis-cli.
redisq() {
  if [[ -n $REDISCLI ]]; then
    $REDISCLI "$@"
  else
    # The password is in the configuration, and must not be in an argument.
    # shellcheck disable=SC2016 # for the shell in the container
    scripts/up.sh compose exec -T redis sh -c \
      'REDISCLI_AUTH=$(sed -n "s/^requirepass //p" /run/secrets/redis-auth) exec redis-cli "$@"' redis-cli "$@"
  fi
}

# part start|stop|restart|kill <name>: one process or service of the stack.
part() {
  $PART "$@"
}

# instances: what runs (name, address, pid or container), and what of it is scraped: address, version, start.
instances() {
  $PROCESSES
  promq 'max by (instance, version, git_sha) (service_info{environment="'"$ENVIRONMENT"'"})'
  promq 'time() - max by (instance) (process_start_time_seconds{job="keel",environment="'"$ENVIRONMENT"'"})'
}
