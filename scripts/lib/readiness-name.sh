# shellcheck shell=bash
# `make prr`: whose service this is. Sourced by prr.sh.

# In two parts, so that neither `make rename` nor `make strip-example` changes what is looked for.
readonly TEMPLATE_NAME=k''eel
readonly EXAMPLE=sh''op
readonly STANDS_FOR='\bexample\.(com|org|net)\b|[\/@]example\b'

name_items() {
  area='whose it is'
  package=$(manifest name)
  item_package
  item_description
  item_readme
  item_licence
  item_example
  item_names
  item_team
  item_code_owners
  item_security_contact
}

# A field of [package] in Cargo.toml.
manifest() {
  FIELD=$1 perl -ne 'last if /^\[(?!package\])/; print $1 and exit if /^$ENV{FIELD} = "(.*)"/' Cargo.toml
}

item_package() {
  if [[ $package == "$TEMPLATE_NAME" ]]; then
    open package "it is still called $package" 'make rename NAME=your-service'
  else
    ok package "$package"
  fi
}

item_description() {
  local description
  description=$(manifest description)
  if [[ -z $description || $description == *boilerplate* ]]; then
    open description "\"$description\" is the template's" 'description in Cargo.toml and in the label of deploy/Dockerfile'
  else
    ok description "$description"
  fi
}

item_readme() {
  local found
  found=$(grep -noE -m1 'make rename|make strip-example|boilerplate|clone and build on' README.md 2>/dev/null || true)
  if [[ ! -s README.md ]]; then
    open readme 'there is none' 'say in README.md what the service does, for whom, and who runs it'
  elif [[ -n $found ]]; then
    open readme "line ${found%%:*} still speaks of the template (${found#*:})" 'say in README.md what your service does, for whom, and who runs it'
  else
    ok readme 'speaks of the service'
  fi
}

item_licence() {
  local licence files
  licence=$(manifest license)
  files=$(cat LICENSE* 2>/dev/null || true)
  if [[ -z $licence && -z $files ]]; then
    open licence 'nothing says who may use the sources' 'license in Cargo.toml and a file LICENSE'
  elif [[ $(tr '[:upper:]' '[:lower:]' <<<"$files") =~ copyright[^$'\n']*$TEMPLATE_NAME ]]; then
    open licence "the copyright is the template's" 'your own in LICENSE-*, or your own licence; keep the notice of what you took over'
  else
    ok licence "${licence:-see LICENSE}"
  fi
}

item_example() {
  if [[ -d src/$EXAMPLE ]]; then
    open example "src/$EXAMPLE is still in the tree" 'make strip-example, when it has taught what it can'
  else
    ok example 'is gone'
  fi
}

# The table of docs/deploy.md says what stands for something of yours; a test keeps it complete.
item_names() {
  local names name files found=0
  names=$(perl -ne '$on = /Replace these names/ if /^#/; print "$1\n" if $on && /^\| `([^`]+)` \|/' docs/deploy.md 2>/dev/null | sort -u || true)
  while IFS= read -r name; do
    [[ -n $name ]] || continue
    found=1
    files=$(grep -rlF -- "$name" Cargo.toml deploy 2>/dev/null | sort || true)
    if [[ -n $files && $name =~ example ]]; then
      # shellcheck disable=SC2086 # paths without blanks
      open "name ${name##*//}" "stands in $(some $files)" 'docs/deploy.md, "Replace these names"'
    else
      ok "name ${name##*//}" 'nowhere, or yours'
    fi
  done <<<"$names"
  ((found)) || unknown names 'docs/deploy.md has no table "Replace these names"' 'bring it back, or see that nothing in deploy/ names an example'
}

# A team that has the service's name is what the template has: it asks nobody in particular.
item_team() {
  local teams owners
  teams=$(plain deploy/prometheus/rules/*.yaml | perl -ne 'print "$1\n" if /^\s+team: "?([\w-]+)/' | sort -u)
  if [[ -z $teams ]]; then
    open team 'alerts name no team' 'the label team in deploy/prometheus/rules'
  elif grep -qxF -- "$package" <<<"$teams"; then
    open team "alerts are for the team \"$package\", which is the service" 'the label team in deploy/prometheus/rules, then make docs'
  else
    ok team "${teams//$'\n'/, }"
  fi
  owners=$(grep -h '^owner: ' runbooks/*/*.md 2>/dev/null | sort -u || true)
  if grep -qxF -- "owner: $package" <<<"$owners"; then
    open 'runbook owner' "runbooks are owned by \"$package\", which is the service" "owner in the front matter of runbooks/*/*.md"
  elif [[ -z $owners ]]; then
    open 'runbook owner' 'no runbook has one' 'owner in the front matter of runbooks/*/*.md'
  else
    owners=${owners//owner: /}
    ok 'runbook owner' "${owners//$'\n'/, }"
  fi
}

item_code_owners() {
  local owners
  owners=$(plain .github/CODEOWNERS CODEOWNERS docs/CODEOWNERS | grep '@' || true)
  if [[ -z $owners ]]; then
    open 'code owners' 'nobody is asked for a review by name' '.github/CODEOWNERS: at least migrations/, deploy/ and .github/'
  elif OWNERS=$owners perl -e "exit(\$ENV{OWNERS} !~ m{$STANDS_FOR})"; then
    open 'code owners' 'stand for somebody' 'your teams in .github/CODEOWNERS'
  else
    ok 'code owners' "$(grep -c '' <<<"$owners") lines"
  fi
}

item_security_contact() {
  local address
  address=$(perl -ne 'print "$1\n" and exit if /([\w.+-]+\@[\w.-]+\w)/' SECURITY.md 2>/dev/null || true)
  if [[ -z $address ]]; then
    open 'security contact' 'SECURITY.md names no address' 'an address that somebody reads, in SECURITY.md'
  elif [[ $address =~ @example\. ]]; then
    open 'security contact' "$address is nobody's" 'an address that somebody reads, in SECURITY.md'
  else
    ok 'security contact' "$address"
  fi
}
