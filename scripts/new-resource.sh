#!/usr/bin/env bash
# `make new-resource NAME=invoices [SINGULAR=invoice] [DOMAIN=…] [DOCS=no]`: a resource with routes, SQL, row-level
# security, metrics, a panel, traffic and tests, written from scripts/new-resource/. A name of two words has a hyphen:
# line-items makes /v1/line-items, the table and module line_items and the type LineItem. Only new files are written,
# and added are one line each to two lists and the tests' list, and a row to the dashboard, which a domain's first resource
# makes; what exists is never written over, so a tree with changes is no hindrance. DOCS=no leaves the generated documents for later.
set -euo pipefail

# shellcheck source=lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

readonly TEMPLATES=$SCRIPTS/new-resource
# As the name of a table these would need quotes everywhere.
readonly SQL_WORDS=" all analyse analyze and any array as asc both case cast check collate column constraint create \
current_date default desc distinct do else end except false fetch for foreign from grant group having in initially \
intersect into lateral leading limit not null offset on only or order placing primary references returning select \
session_user some symmetric table then to trailing true union unique user using variadic values when where window with "
readonly RUST_WORDS=" abstract as async await become box break const continue crate do dyn else enum extern false final \
fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super trait true \
try type typeof unsafe unsized use virtual where while yield "
# What the written code calls its own things.
readonly OWN_WORDS=" acme app body broken caller change changes checks counted created cursor domain error expected field \
fields first given globex header id json key label limit line lines list metrics model name names note number numbers \
outcome page patch patches path platform query refused request response result router shared span spans state store \
tenant test tests text theirs tx unknown value window written "

main() {
  cd "$ROOT"
  read_name
  find_domain
  refuse_what_exists
  refuse_keywords
  [[ ! -e scripts/strip-example.sh ]] ||
    say "src/$DOMAIN is the example: make strip-example refuses to take it out while something of yours is in it"
  say "many: $PLURAL, one: $SINGULAR (SINGULAR=… if it is another word)"
  write_files
  add_lines
  add_panel
  format
  report
}

# --- The name -----------------------------------------------------------------------------------------------------

# Sets PLURAL and SINGULAR, with underscores.
read_name() {
  local name=${NAME:-}
  [[ -n $name ]] || die "which resource? make new-resource NAME=invoices"
  [[ $name =~ ^[a-z][a-z0-9]*([-_][a-z0-9]+)*$ ]] ||
    die "NAME=$name: lower-case words, joined by hyphens: invoices, line-items"
  PLURAL=${name//-/_}
  # <table>_tenant_id_number_key is cut by Postgres at 63 characters.
  ((${#PLURAL} <= 40)) || die "NAME=$name: more than 40 characters"
  SINGULAR=${SINGULAR:-$(singular_of "$PLURAL")}
  SINGULAR=${SINGULAR//-/_}
  [[ -n $SINGULAR ]] ||
    die "NAME=$name: a resource is named by its plural (invoices); if it is one, say of what: SINGULAR=invoice"
  [[ $SINGULAR =~ ^[a-z][a-z0-9]*(_[a-z0-9]+)*$ ]] || die "SINGULAR=$SINGULAR: lower-case words, joined by hyphens"
  [[ $SINGULAR != "$PLURAL" ]] || die "SINGULAR=$SINGULAR is the plural too: one and many need two names"
}

refuse_keywords() {
  local word type other="take another name"
  [[ $SQL_WORDS != *" $PLURAL "* ]] || die "'$PLURAL' is a keyword of SQL: $other"
  for word in "$PLURAL" "$SINGULAR"; do
    [[ $word != "$SINGULAR" ]] || other="take another name, or SINGULAR=…"
    [[ $RUST_WORDS != *" $word "* ]] || die "'$word' is a keyword of Rust: $other"
    # A type of that name would stand beside one that the templates use.
    type=$(perl -pe 's/(?:^|_)(.)/\u$1/g' <<<"$word")
    ! grep -qwF -e "$type" "$TEMPLATES"/*.rs ||
      die "'$word' would be the type $type, which the written code uses otherwise: $other"
    [[ $OWN_WORDS != *" $word "* ]] || die "'$word' is what the written code calls something of its own: $other"
  done
}

singular_of() {
  case $1 in
    *ies) printf '%sy' "${1%ies}" ;;
    *sses | *shes | *ches | *xes) printf '%s' "${1%es}" ;;
    *ss | *us | *is | *ews) ;;
    *s) printf '%s' "${1%s}" ;;
  esac
}

# --- The place ----------------------------------------------------------------------------------------------------

# Sets DOMAIN to the folder of src/ whose mod.rs lists its resources.
find_domain() {
  local found
  found=$(grep -l '^resources! {' src/*/mod.rs | perl -pe 's{src/|/mod\.rs}{}g' || true)
  if [[ -n ${DOMAIN:-} ]]; then
    grep -qx -- "$DOMAIN" <<<"$found" || die "DOMAIN=$DOMAIN: src/$DOMAIN/mod.rs has no list \`resources! {\`"
  elif [[ $(grep -c . <<<"$found") == 1 ]]; then
    DOMAIN=$found
  else
    die "which domain? DOMAIN= one of: ${found//$'\n'/ }"
  fi
  # The folder of a service without an example says nothing: its metrics go without a first name.
  METRIC=${DOMAIN}_${PLURAL}_total
  [[ $DOMAIN != domain ]] || METRIC=${PLURAL}_total
  FOLDER=src/$DOMAIN/$PLURAL
  TEST=tests/it/$DOMAIN/$PLURAL.rs
  TRAFFIC=scripts/lib/traffic-$DOMAIN-${PLURAL//_/-}.sh
  # 0xxx is the platform's and 1xxx the example's: what a clone adds never meets what a later template brings.
  local last
  last=$(find migrations -name '2[0-9][0-9][0-9]_*.sql' | perl -ne 'print "$1\n" if m{/(\d{4})_[^/]*$}' | sort -n | tail -n1)
  MIGRATION=migrations/$((${last:-2000} + 1))_${DOMAIN}_$PLURAL.sql
}

refuse_what_exists() {
  local path
  for path in "$FOLDER" "$FOLDER.rs" "$TEST" "$TRAFFIC" "$MIGRATION"; do
    [[ ! -e $path ]] || die "$path exists already; nothing was written"
  done
  ! grep -qiE "create table (if not exists )?$PLURAL\b" migrations/*.sql ||
    die "the table $PLURAL exists already, in $(grep -liE "create table (if not exists )?$PLURAL\b" migrations/*.sql | head -n1); nothing was written"
  ! grep -q "\"/v1/${PLURAL//_/-}\"" docs/openapi.json ||
    die "the route /v1/${PLURAL//_/-} exists already (docs/openapi.json); nothing was written"
  ! grep -q "^| \`$METRIC\`" docs/telemetry.md || die "the metric $METRIC exists already (docs/telemetry.md); nothing was written"
  ! grep -qE "^(pub )?mod $PLURAL;" "src/$DOMAIN/mod.rs" || die "src/$DOMAIN/mod.rs has a module $PLURAL; nothing was written"
}

# --- Writing ------------------------------------------------------------------------------------------------------

# A template with its names put in. In comments, titles and messages they are words (line item), elsewhere names (line_item).
fill() {
  PLURAL=$PLURAL SINGULAR=$SINGULAR DOMAIN=$DOMAIN METRIC=$METRIC perl -pe '
    BEGIN {
      ($many, $one) = @ENV{"PLURAL", "SINGULAR"};
      ($routes = $many) =~ tr/_/-/;
      ($words_many = $many) =~ tr/_/ /;
      ($words_one = $one) =~ tr/_/ /;
      $type = join "", map { ucfirst } split /_/, $one;
      $n = $one =~ /^([aeio]|u(?!ni|se|ti))/ ? "n" : "";
      sub named {
        my ($text) = @_;
        $text =~ s/domain_widgets_total/$ENV{METRIC}/g;
        $text =~ s/\bdomain\b/$ENV{DOMAIN}/g;
        $text =~ s{/v1/widgets}{/v1/$routes}g;
        $text =~ s/\ba_widget/a${n}_$one/g;
        $text =~ s/widgets/$many/g;
        $text =~ s/widget/$one/g;
        $text =~ s/Widget/$type/g;
        $text =~ s/WIDGET/\U$one/g;
        $text;
      }
      sub worded {
        my ($text) = @_;
        $text =~ s/\b([Aa]) widget\b/$1$n $words_one/g;
        $text =~ s/\bwidgets\b/$words_many/g;
        $text =~ s/\bwidget\b/$words_one/g;
        $text =~ s/\bWidgets\b/\u$words_many/g;
        $text =~ s/\bDomain\b/\u$ENV{DOMAIN}/g;
        $text;
      }
      # Between backquotes even a comment has names.
      sub said { my $code = 0; join "`", map { $code++ % 2 ? named($_) : worded($_) } split /`/, $_[0], -1 }
    }
    if (m{^(\s*(?://[/!]?|--|#) )(.*)$}s or m{^(\s*(?:- )?(?:title|description): )(.*)$}s) {
      $_ = $1 . said($2);
    } else {
      # A message begins like a sentence; "INSERT widgets" does not.
      s/"([A-Z][a-z ][^"]*)"/"\"" . worded($1) . "\""/ge;
      $_ = named($_);
    }' "$TEMPLATES/$1"
}

write_files() {
  local part
  mkdir "$FOLDER"
  for part in mod http model store metrics; do
    fill "$part.rs" >"$FOLDER/$part.rs"
  done
  fill migration.sql >"$MIGRATION"
  fill traffic.sh >"$TRAFFIC"
  mkdir -p "tests/it/$DOMAIN"
  fill tests.rs >"$TEST"
}

add_lines() {
  local type
  type=$(fill mod.rs | perl -ne 'print $1 if /^pub use metrics::(\w+);/')
  add_module "src/$DOMAIN/mod.rs" "pub mod $PLURAL;"
  LINE="    $PLURAL: $type," edit "src/$DOMAIN/mod.rs" 's/^resources! \{\n?((?:    [^\n]*\n)*)\}/resources! {\n$1$ENV{LINE}\n}/m'
  if [[ ! -e tests/it/$DOMAIN/mod.rs ]]; then
    printf "//! The business, resource by resource.\n" >"tests/it/$DOMAIN/mod.rs"
    add_module tests/it/main.rs "mod $DOMAIN;"
  fi
  add_module "tests/it/$DOMAIN/mod.rs" "mod $PLURAL;"
}

# Adds a line to the list of modules of a file, where rustfmt would put it: <file> <line>.
add_module() {
  LINE=$2 edit "$1" '
    my ($new) = $ENV{LINE} =~ /mod (\w+);/;
    my $done = s{((?:^(?:pub )?mod \w+;\n)+)}{
      my @lines = split /^/, $1;
      my $at = grep { /mod (\w+);/ && $1 lt $new } @lines;
      splice @lines, $at, 0, "$ENV{LINE}\n";
      join "", @lines
    }me;
    # The first one, below what the file says of itself.
    $_ .= "\n$ENV{LINE}\n" if !$done;'
}

# A row on the domain's dashboard; the first resource of a domain without one makes the dashboard.
add_panel() {
  local source=deploy/grafana/source/$DOMAIN.yaml list=deploy/grafana/kustomization.yaml
  if [[ ! -e $source ]]; then
    fill dashboard.yaml >"$source"
    fill panel.yaml | tail -n +2 >>"$source"
    # As the last entry of the list, with another name.
    DOMAIN=$DOMAIN edit "$list" \
      's{(  - \{name: (\w[\w-]*?-dashboard)-[\w-]+, files: \[dashboards/[\w-]+\.json\]\}\n)(?!  - )}{$1  - {name: $2-$ENV{DOMAIN}, files: [dashboards/$ENV{DOMAIN}.json]}\n}'
    PANELS="made the dashboard $source, with a line in $list"
  else
    fill panel.yaml >>"$source"
    PANELS="added a row to $source"
  fi
}

format() {
  local edition
  edition=$(perl -ne 'print $1 and exit if /^edition = "(\d+)"/' Cargo.toml)
  if have rustfmt; then
    rustfmt --edition "$edition" "$FOLDER/mod.rs" "$TEST"
  else
    say "rustfmt is not here: run cargo fmt" >&2
  fi
}

# --- At the end ---------------------------------------------------------------------------------------------------

report() {
  say "wrote $FOLDER/, $MIGRATION, $TEST, $TRAFFIC"
  say "added a line to the modules and one to \`resources!\` in src/$DOMAIN/mod.rs, one to tests/it/$DOMAIN/mod.rs; $PANELS"
  if [[ ${DOCS:-} == no ]]; then
    say "next: make docs, then make check"
  else
    say "make docs: builds the service and its tests, which takes a few minutes"
    scripts/docs.sh
    say "next: give it the fields it needs (migration, model, store, http), then make docs and make check"
  fi
}

main
