# shellcheck shell=bash
# `make prr`: what production runs in, as deploy/kubernetes/overlays/production says it. Sourced by prr.sh. Read as text,
# for kustomize may not be here; `make manifests` renders.

readonly BASE=deploy/kubernetes/base
readonly OVERLAY=deploy/kubernetes/overlays/production
readonly COMPONENTS=deploy/kubernetes/components

cluster_items() {
  area='production, as deploy/kubernetes/overlays/production has it'
  if [[ ! -f $OVERLAY/kustomization.yaml ]]; then
    unknown overlay "there is no $OVERLAY" 'where production is described is yours to check'
    return
  fi
  production=$(plain "$OVERLAY"/*.yaml "$OVERLAY"/*/*.yaml)
  deployment=$(plain "$BASE/deployment.yaml")
  item_environment
  item_image
  item_replicas
  item_listed 'disruption budget' PodDisruptionBudget 'a drain of nodes may take all pods at once'
  item_listed 'network policies' NetworkPolicy 'everybody in the cluster reaches every port'
  item_listed 'migration job' Job 'nothing migrates before pods start'
  item_resources
  item_probes
  item_locked_down
  item_way_in
  item_addresses
  item_secrets
  item_sentry
  item_otlp
  item_monitoring
  item_proxies
  item_rate_limit
  item_unsafe
}

# The value of a literal of the ConfigMap; the overlay's comes last and wins.
literal() {
  { plain "$BASE/kustomization.yaml" && printf '%s\n' "$production"; } |
    KEY=$1 perl -ne '$value = $1 if /^\s+- "?$ENV{KEY}=([^"]*)"?\s*$/; END { print $value // "" }'
}

has_component() {
  grep -qE "^ +- .*components/$1/?\$" <<<"$production"
}

item_environment() {
  if [[ $(literal APP_ENVIRONMENT) == production ]]; then
    ok environment production
  else
    open environment "APP_ENVIRONMENT is \"$(literal APP_ENVIRONMENT)\": nothing that production refuses is refused" "$OVERLAY/kustomization.yaml"
  fi
}

item_image() {
  local tag
  tag=$(perl -ne 'print $1 and exit if /^\s+newTag: "?([^"\s]+)/' <<<"$production")
  case $tag in
    '' | latest | main | dev) open 'image tag' "\"$tag\" says not which release runs, and there is no way back" "newTag in $OVERLAY/kustomization.yaml" ;;
    *) ok 'image tag' "$tag" ;;
  esac
}

item_replicas() {
  local least
  least=$({ plain "$BASE/autoscaler.yaml" && plain "$OVERLAY/autoscaler.yaml"; } |
    perl -ne '$least = $1 if /^\s+minReplicas: (\d+)/; END { print $least // "" }')
  if [[ -z $least ]]; then
    open replicas 'nothing says how many pods there are at least' "minReplicas in $OVERLAY/autoscaler.yaml"
  elif ((least < 2)); then
    open replicas "$least pod at least: each rollout and each lost node is an outage" "minReplicas in $OVERLAY/autoscaler.yaml"
  else
    ok replicas "$least at least"
  fi
}

# An object of this kind in a file that the base names.
item_listed() {
  local file
  for file in $(plain "$BASE/kustomization.yaml" | perl -ne 'print "$1\n" if /^\s+- (\S+\.yaml)$/'); do
    if plain "$BASE/$file" | grep -qx "kind: $2"; then
      ok "$1" "$BASE/$file"
      return
    fi
  done
  open "$1" "$3" "a $2 in $BASE, named in its kustomization.yaml"
}

item_resources() {
  if perl -0777 -e '$_ = <STDIN> // ""; s/.*\n +containers:\n//s; exit !(/requests:\n +cpu: .*\n +memory: / && /limits:\n( +cpu: .*\n)? +memory: /)' <<<"$deployment"; then
    ok resources 'requests of CPU and memory, a limit of memory'
  else
    open resources 'without requests a node is filled beyond what it has; without a limit one leak takes the others along' "resources in $BASE/deployment.yaml"
  fi
}

item_probes() {
  local probe missing=()
  for probe in startupProbe readinessProbe livenessProbe; do
    grep -q "^ *$probe:" <<<"$deployment" || missing+=("$probe")
  done
  if ((${#missing[@]})); then
    open probes "no $(some "${missing[@]}")" "$BASE/deployment.yaml"
  else
    ok probes 'startup, readiness, liveness'
  fi
}

item_locked_down() {
  local setting missing=()
  for setting in 'runAsNonRoot: true' 'readOnlyRootFilesystem: true' 'allowPrivilegeEscalation: false' '- ALL'; do
    grep -qE "^ *$setting\$" <<<"$deployment" || missing+=("$setting")
  done
  if ((${#missing[@]})); then
    open 'locked down' "the container lacks $(some "${missing[@]}")" "securityContext in $BASE/deployment.yaml"
  else
    ok 'locked down' 'no root, nothing to write, no capabilities'
  fi
}

# Host and certificate, wherever the last word about them is.
item_way_in() {
  local text file hosts
  if has_component gateway-api; then
    file=$COMPONENTS/gateway-api/http-route.yaml
    text=$(plain "$file")
    hosts=$(perl -ne 'print "$1\n" if /^\s+- ([\w-]+\.[\w.-]+)$/' <<<"$text")
  elif grep -qE '/spec/rules/0/host|^kind: Ingress$' <<<"$production"; then
    file=$OVERLAY/kustomization.yaml text=$production
    hosts=$(perl -ne 'print "$1\n" if m{/host\w*(?:/\d+)?, value: ([\w.-]+)} || /^\s+(?:- )?host: ([\w.-]+)/' <<<"$text")
  else
    file=$BASE/ingress.yaml
    text=$(plain "$file")
    hosts=$(perl -ne 'print "$1\n" if /^\s+(?:- )?host: ([\w.-]+)/' <<<"$text")
  fi
  hosts=$(sort -u <<<"$hosts")
  if [[ -z $hosts ]]; then
    open host "$file names none" "the host that clients use, patched in $OVERLAY/kustomization.yaml (as overlays/staging does)"
  elif grep -qE '(^|\.)example\.(com|org|net)$' <<<"$hosts"; then
    open host "${hosts//$'\n'/, } is nobody's ($file)" "the host that clients use, patched in $OVERLAY/kustomization.yaml (as overlays/staging does)"
  else
    ok host "${hosts//$'\n'/, }"
  fi
  if has_component gateway-api; then
    ok TLS 'ends at the Gateway'
  elif ! plain "$BASE/ingress.yaml" | grep -q '^ *tls:'; then
    open TLS 'the Ingress has none: keys and data go in the clear' "tls in $BASE/ingress.yaml"
  elif [[ $text == *'/spec/rules/0/host'* && $text != *'/spec/tls/0/hosts'* ]]; then
    open TLS "the certificate is still for the host of the base" "/spec/tls/0/hosts/0 in $OVERLAY/kustomization.yaml"
  else
    ok TLS "$(plain "$BASE/ingress.yaml" | perl -ne 'print $1 and exit if /secretName: (\S+)/')"
  fi
}

# What the service calls: settings that name a host of nobody's.
item_addresses() {
  local found
  found=$(perl -ne 'print "$1\n" if m{^\s+- "?(\w+)=\S*\bexample\.(com|org|net)\b}' <<<"$production")
  if [[ -n $found ]]; then
    # shellcheck disable=SC2086 # names of variables
    open addresses "$(some $found) leads nowhere" "its value below $OVERLAY"
  else
    ok addresses 'no setting names an example'
  fi
}

item_secrets() {
  local key missing=() fetched
  if grep -q '^secretGenerator:' <<<"$production"; then
    open secrets 'a secretGenerator keeps them in git' "components/external-secrets in $OVERLAY/kustomization.yaml"
    return
  fi
  if ! has_component external-secrets; then
    unknown secrets 'nothing here makes the Secrets' 'components/external-secrets, or by hand: docs/deploy.md, "Secrets, by name"'
    return
  fi
  fetched=$(plain "$COMPONENTS"/external-secrets/*.yaml)
  for key in $(perl -ne 'print "$1\n" if /^\s+- key: ([\w-]+)$/' <<<"$deployment"); do
    grep -qE "secretKey: $key\$" <<<"$fetched" || missing+=("$key")
  done
  if ((${#missing[@]})); then
    open secrets "the pods want $(some "${missing[@]}"), and nothing fetches it" "$COMPONENTS/external-secrets/external-secrets.yaml"
  else
    ok secrets 'fetched, none in git'
  fi
}

# Its value is in the vault: whether there is one, only the service can say.
item_sentry() {
  local said
  if ! grep -qE 'name: SENTRY_DSN(_FILE)?$' <<<"$deployment"; then
    open Sentry 'SENTRY_DSN is not set: faults are reported nowhere' "SENTRY_DSN_FILE in $BASE/deployment.yaml"
    return
  fi
  said=$(statement_state doctor)
  if [[ $said == ok ]]; then
    ok Sentry 'from the Secret; keel doctor was content with it'
  else
    unknown Sentry 'from the Secret; whether it is empty no file says' 'keel doctor, then the row `doctor` of docs/production.md'
  fi
}

item_otlp() {
  local endpoint
  endpoint=$(literal OTEL_EXPORTER_OTLP_ENDPOINT)
  if [[ -z $endpoint ]]; then
    open traces 'OTEL_EXPORTER_OTLP_ENDPOINT is not set: there are none' "$OVERLAY/kustomization.yaml"
  elif [[ $endpoint == *//otel-collector:* ]] && ! has_component collector; then
    open traces "$endpoint is the component collector, which production does not have" "components/collector in $OVERLAY/kustomization.yaml"
  else
    ok traces "to $endpoint"
  fi
}

item_monitoring() {
  if has_component monitoring; then
    ok monitoring 'scraped, with rules and dashboards'
  else
    open monitoring 'nothing scrapes the pods, and no alert is evaluated' "components/monitoring in $OVERLAY/kustomization.yaml, or your own"
  fi
}

item_proxies() {
  local ranges
  ranges=$(literal APP__HTTP__TRUSTED_PROXIES)
  if [[ -z $ranges ]]; then
    open 'trusted proxies' 'none: every client has the address of the ingress, and shares its limits' "APP__HTTP__TRUSTED_PROXIES in $OVERLAY/kustomization.yaml"
  elif RANGES=$ranges perl -e 'for (split /,/, $ENV{RANGES}) { exit 0 if m{^[\d.]+/(\d+)$} && $1 < 16 } exit 1'; then
    open 'trusted proxies' "$ranges is a whole network: any pod in it may claim any client address" "the ingress controller's pods alone, in $OVERLAY/kustomization.yaml"
  else
    ok 'trusted proxies' "$ranges"
  fi
}

item_rate_limit() {
  local limit
  limit=$(literal APP__RATE_LIMIT__PER_SECOND)
  if [[ -n $limit ]]; then
    ok 'rate limit' "$limit a second for each tenant"
  elif plain config/production.toml | perl -0777 -e 'exit((<STDIN> // "") !~ /\[rate_limit\][^\[]*per_second/)'; then
    ok 'rate limit' 'in config/production.toml'
  else
    open 'rate limit' "the template's: nobody has said what a tenant may have" "APP__RATE_LIMIT__PER_SECOND in $OVERLAY/kustomization.yaml"
  fi
}

item_unsafe() {
  local found
  found=$(perl -ne 'print "$1\n" if /^\s+- "?(APP__FAULTS__ENABLED|APP__\w*ALLOW_P\w+|APP__HTTP__SERVER_TIMING)=true/' <<<"$production")
  if [[ -n $found ]]; then
    # shellcheck disable=SC2086 # names of variables
    open switches "$(some $found) is on" "take it out of $OVERLAY, or say in the file why it is safe there"
  else
    ok switches 'nothing unsafe is switched on'
  fi
}
