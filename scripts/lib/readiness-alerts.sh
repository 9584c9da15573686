# shellcheck shell=bash
# `make prr`: whether alerts reach somebody who knows what to do, and whether that was tried. Sourced by prr.sh.

readonly RULES=deploy/prometheus/rules
readonly RECEIVERS=deploy/alertmanager/alertmanager.yaml
readonly RESULTS=docs/drills.md
# Rules that only a cluster shows have no drill.
readonly NOT_DRILLED=cluster
readonly DRILLS_LAST=180

alert_items() {
  area='alerts'
  alerts=$(all_alerts)
  if [[ -z $alerts ]]; then
    open rules "$RULES has no alert" "what users feel first: docs/observability.md"
    return
  fi
  item_receiver page 'who gets up' page
  item_receiver ticket 'where tickets go' page
  item_receiver watchdog 'who misses the Watchdog' watchdog
  item_runbooks
  item_drills
  drilled_at=$(perl -ne 'print "$1 $2" and exit if /^(\d{4}-\d\d-\d\d) at (\S+),/' "$RESULTS" 2>/dev/null || true)
  if [[ -z $drilled_at ]]; then
    open drilled "$RESULTS says of no drill when it was" 'make drill'
    return
  fi
  item_drilled_ever
  item_drilled_since
  item_drilled_lately
}

# "<file> <alert>" of each, once.
all_alerts() {
  local file
  for file in "$RULES"/*.yaml; do
    plain "$file" | FILE=$(basename "$file" .yaml) perl -ne 'print "$ENV{FILE} $1\n" if /^\s+- alert: (\w+)/'
  done | sort -u
}

# Where a receiver leads is a secret and in no file; what is still the template's is known by its form. Somebody who
# uses webhooks for good says that they arrive.
item_receiver() {
  local name=$1 meaning=$2 row=$3 block said
  block=$(plain "$RECEIVERS" | NAME=$name perl -0ne 'print $1 if /\n  - name: $ENV{NAME}\n(.*?)(?=\n  - name:|\z)/s')
  said=$(statement_state "$row")
  if [[ -z $block ]]; then
    open "$meaning" "there is no receiver $name" "$RECEIVERS"
  elif [[ $said == ok ]]; then
    ok "$meaning" "tried: docs/production.md, row $row"
  elif [[ $block == *"url_file: /etc/alertmanager/secrets/$name-url"* ]]; then
    open "$meaning" "the receiver $name is the template's webhook, and nothing says that one arrived" "pagerduty_configs, slack_configs or yours in $RECEIVERS; then try it (docs/production.md, row $row)"
  else
    unknown "$meaning" "the receiver $name is yours, and nothing says that an alert arrived there" "try it, and say so in docs/production.md, row $row"
  fi
}

item_runbooks() {
  local folder alert missing=()
  while read -r folder alert; do
    [[ -s runbooks/$folder/$alert.md ]] || missing+=("$alert")
  done <<<"$alerts"
  if ((${#missing[@]})); then
    open runbooks "none for $(some "${missing[@]}")" 'runbooks/README.md, "How to write one"'
  else
    ok runbooks "one for each of $(grep -c '' <<<"$alerts") alerts"
  fi
}

item_drills() {
  local folder alert missing=()
  while read -r folder alert; do
    [[ $folder == "$NOT_DRILLED" ]] || compgen -G "runbooks/drills/$folder/$alert*.yaml" >/dev/null || missing+=("$alert")
  done <<<"$alerts"
  if ((${#missing[@]})); then
    open drills "none for $(some "${missing[@]}")" 'runbooks/drills/, written as its neighbours are'
  else
    ok drills 'one for each alert that one machine can show'
  fi
}

# "<folder> <drill>" of each.
all_drills() {
  local file
  for file in runbooks/drills/*/*.yaml; do
    file=${file#runbooks/drills/}
    file=${file%.yaml}
    printf '%s %s\n' "${file%/*}" "${file#*/}"
  done | LC_ALL=C sort
}

item_drilled_ever() {
  local folder drill results missing=()
  results=$(<"$RESULTS")
  while read -r folder drill; do
    [[ $results == *"| ${drill/-/: } | "* ]] || missing+=("$drill")
  done < <(all_drills)
  if ((${#missing[@]})); then
    open drilled "never: $(some "${missing[@]}")" 'make drill'
  else
    ok drilled "each once, ${drilled_at% *}"
  fi
}

# The text of an alert in a file of rules, all rules of its name, without comments.
rule_text() {
  ALERT=$1 perl -ne '
    next if /^\s*#/ || /^\s*$/;
    $on = $1 eq $ENV{ALERT} if /^\s+- alert: (\w+)/;
    $on = 0 if /^\s+- (record|name):/;
    print if $on'
}

item_drilled_since() {
  local commit=${drilled_at#* } folder drill alert changed changes=()
  if [[ $commit == *-dirty ]]; then
    open 'drilled as it is' 'the last drills ran with changes that no commit has' 'commit, then make drill'
    return
  fi
  if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
    unknown 'drilled as it is' "the commit $commit of the last drills is not in this history" 'make drill'
    return
  fi
  changed=$'\n'$(git diff --name-only "$commit" -- "$RULES" runbooks)$'\n'
  while read -r folder drill; do
    alert=${drill%%-*}
    if [[ $changed == *$'\n'"runbooks/$folder/$alert.md"$'\n'* ||
      $changed == *$'\n'"runbooks/drills/$folder/$drill.yaml"$'\n'* ]] ||
      { [[ $changed == *$'\n'"$RULES/$folder.yaml"$'\n'* ]] && rule_differs "$commit" "$folder" "$alert"; }; then
      changes+=("$drill")
    fi
  done < <(all_drills)
  if ((${#changes[@]})); then
    open 'drilled as it is' "rule, runbook or drill changed since $commit: $(some "${changes[@]}")" "make drill, or ALERT='${changes[*]}' make drill to see these alone"
  else
    ok 'drilled as it is' "nothing changed since $commit"
  fi
}

rule_differs() {
  local before after
  before=$(git show "$1:$RULES/$2.yaml" 2>/dev/null | rule_text "$3" || true)
  after=$(rule_text "$3" <"$RULES/$2.yaml")
  [[ $before != "$after" ]]
}

item_drilled_lately() {
  take_age "${drilled_at% *}"
  if ((AGE > DRILLS_LAST)); then
    open 'drilled lately' "$AGE days ago; people and programs have changed since" 'make drill'
  else
    ok 'drilled lately' "$AGE days ago"
  fi
}
