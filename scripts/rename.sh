#!/usr/bin/env bash
# `make rename NAME=<name> [TITLE="<Title>"] [DESCRIPTION="…"] [REPOSITORY=https://…]`: gives the project another name.
# NAME is what crate, binary, image, namespace and service are called; TITLE is what prose calls it, by default NAME
# with capitals. Both are read from Cargo.toml (`name`, `metadata.title`), so that this works again and again.
#
# All tracked files and their names, but for CHANGELOG.md and LICENSE-*, by these rules (lib/rename.pl):
#
#   1  A name is replaced where it is a word of its own: no letter or digit beside it. `-`, `_`, `/` and the like may be.
#   2  In capitals it stays in capitals, with underscores: environment variables.
#   3  The title becomes the title.
#   4  In small letters it becomes NAME; but with underscores instead of hyphens
#      - before `_` and `::`, and before `=<level>` in a log filter: Rust paths, SQL roles;
#      - where a database is named: the path of a postgres:// URL, after the word database, dbname or datname,
#        before ` = host=`.
#      A name with a hyphen has two forms already, and each becomes the same form of the new one.
#   5  The description is replaced in Cargo.toml, the image's label and, as a line of its own, in README.md.
#   6  The repository is replaced wherever it stands, and so are the addresses that stand for it (docs/deploy.md,
#      "Replace these names"). Is it https://github.com/<owner>/NAME, then the registry is ghcr.io/<owner>/NAME.
#   7  Both Cargo.lock are sorted anew, and `cargo fmt` runs, because imports are sorted too. Generated documents need
#      no more than the words.
#
# Nothing is written before all of it was done in memory and nothing spoke against it. What changed is staged, not
# committed: `git reset --hard` takes it back, and so does a rename to the old name once it is committed.
set -euo pipefail
# [a-z] are these 26, whatever the language.
export LC_ALL=C

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# Words that no name, title or description may have.
DOOMED=()
for more in "$library"/rename-*.sh; do
  # shellcheck source=/dev/null
  [[ ! -e $more ]] || source "$more"
done

# Postgres cuts names at 63 bytes; the longest made of ours is a test's database, `<name>_test_` and 32 digits. The
# next limits are 30 (a dashboard's uid has 40, `<name>-resources`) and 63 less `-migrate-<tag>` (a Kubernetes label).
readonly LONGEST=25
readonly RUST_KEYWORDS=' abstract as async await become box break const continue crate do dyn else enum extern false
  final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super
  trait true try type typeof union unsafe unsized use virtual where while yield '
readonly RUST_CRATES=' alloc core proc-macro std test '
readonly CARGO_FOLDERS=' build deps examples incremental '
readonly WINDOWS_DEVICES=' aux com1 com2 com3 com4 con lpt1 lpt2 lpt3 nul prn '

refuse() {
  die "NAME=$NAME: $1. For example: ${2:-$(suggestion)}"
}

# <name> made of what was asked for: small letters, digits and single hyphens.
suggestion() {
  local name
  name=$(printf '%s' "$NAME" | perl -pe 's/[\s_.]/-/g; $_ = lc; s/[^a-z0-9-]//g; s/--+/-/g; s/^[^a-z]+//')
  name=${name:0:LONGEST}
  name=${name%-}
  [[ -n $name && $name != "$NAME" ]] || name=${name:+my-$name}
  printf '%s' "${name:-your-service}"
}

is_one_of() {
  [[ " $(printf '%s' "$2" | tr -s '[:space:]' ' ') " == *" $1 "* ]]
}

check_name() {
  [[ -n $NAME ]] || die 'which name? make rename NAME=your-service [TITLE="Your Service"] [DESCRIPTION="…"] [REPOSITORY=https://…]'
  [[ $NAME != *[A-Z]* ]] || refuse 'capitals are not allowed: images and Kubernetes names have small letters only'
  [[ $NAME != *_* ]] || refuse 'underscores are not allowed: Kubernetes names have hyphens. Where Rust and SQL need underscores they get them'
  [[ $NAME =~ ^[a-z0-9-]+$ ]] || refuse 'only small letters a to z, digits and hyphens are allowed'
  [[ $NAME == [a-z]* ]] || refuse 'it must begin with a letter: crates, roles and Kubernetes services have to'
  [[ $NAME != *-- && $NAME != *--* ]] || refuse 'two hyphens in a row are not allowed'
  [[ $NAME != *- ]] || refuse 'it must not end with a hyphen: names go on behind it'
  ((${#NAME} <= LONGEST)) || refuse "it has ${#NAME} letters, $LONGEST are allowed: longer ones don't fit into names of Postgres and Kubernetes that are made of it"
  ! is_one_of "$NAME" "$RUST_KEYWORDS" || refuse "it is a keyword of Rust, and no crate can be called that" "$NAME-service"
  ! is_one_of "$NAME" "$RUST_CRATES" || refuse "a crate of Rust's own is called that" "$NAME-service"
  ! is_one_of "$NAME" "$CARGO_FOLDERS" || refuse "cargo has a folder of that name where the binary goes" "$NAME-service"
  ! is_one_of "$NAME" "$WINDOWS_DEVICES" || refuse "Windows can't have a file of that name" "$NAME-service"
  [[ $NAME != pg-* ]] || refuse 'Postgres keeps roles that begin with pg_ for itself' "${NAME#pg-}"
  [[ $NAME != kube-* ]] || refuse 'Kubernetes keeps namespaces that begin with kube- for itself' "${NAME#kube-}"
  [[ $NAME != otel-* ]] || refuse 'variables that begin with OTEL_ belong to OpenTelemetry' "${NAME#otel-}"
  ! has_doomed_word "$NAME" || refuse "make strip-example deletes what has the word $DOOMED_WORD in it. Strip first, or take another name" "${NAME/$DOOMED_WORD/service}"
  check_dependencies
}

has_doomed_word() {
  for DOOMED_WORD in ${DOOMED[@]+"${DOOMED[@]}"}; do
    ! grep -qiw -e "$DOOMED_WORD" <<<"$1" || return 0
  done
  return 1
}

# `-` and `_` are the same in a crate's name.
check_dependencies() {
  local found
  found=$(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.lock tests/fuzz/Cargo.lock | tr '_' '-' | grep -Fx "$NAME" || true)
  [[ -z $found || $NAME == "$OLD_NAME" ]] || refuse "a crate that the service is built of is called that (Cargo.lock)" "$NAME-service"
}

check_title() {
  local upper snake
  snake=${NAME//-/_}
  upper=$(printf '%s' "$snake" | tr '[:lower:]' '[:upper:]')
  [[ $TITLE =~ ^[A-Za-z0-9] && $TITLE =~ ^[A-Za-z0-9\ .\&+-]+$ && $TITLE =~ [A-Za-z0-9.+]$ ]] ||
    die "TITLE=$TITLE: a title has letters, digits, spaces and . & + -. For example: TITLE=\"$(title_of "$NAME")\""
  [[ $TITLE == *[A-Z]* && $TITLE != "$upper" ]] ||
    die "TITLE=$TITLE: the title must differ from the name, in small letters and in capitals, or nobody could tell them apart. For example: TITLE=\"$(title_of "$NAME") Service\""
  ((${#TITLE} <= 60)) || die "TITLE=$TITLE: it has ${#TITLE} letters, 60 are allowed"
}

check_options() {
  [[ $DESCRIPTION != *[\"\\\`\$]* && $DESCRIPTION != *[[:cntrl:]]* ]] ||
    die 'DESCRIPTION: quotes, backslashes, $ and line ends are not allowed: it stands in quotes in Cargo.toml and deploy/Dockerfile'
  ((${#DESCRIPTION} <= 200)) || die "DESCRIPTION: it has ${#DESCRIPTION} letters, 200 are allowed"
  REPOSITORY=${REPOSITORY%/}
  REPOSITORY=${REPOSITORY%.git}
  [[ -z $REPOSITORY || $REPOSITORY =~ ^https://[A-Za-z0-9.:-]+(/[A-Za-z0-9._~-]+)+$ ]] ||
    die "REPOSITORY=$REPOSITORY: an address like https://github.com/your-company/$NAME is wanted"
  [[ $NAME == "$OLD_NAME" || ! $REPOSITORY =~ (^|[^A-Za-z0-9])"$OLD_NAME"([^A-Za-z0-9]|$) || $REPOSITORY == *"$NAME"* ]] ||
    die "REPOSITORY=$REPOSITORY has the old name in it: rename the repository first, or leave REPOSITORY out"
  ! has_doomed_word "$TITLE $DESCRIPTION $REPOSITORY" ||
    die "TITLE, DESCRIPTION, REPOSITORY: make strip-example deletes lines with the word $DOOMED_WORD. Strip first, or say it in other words"
}

# your-service -> Your Service
title_of() {
  printf '%s' "$1" | perl -pe 's/-/ /g; s/\b([a-z])/\u$1/g'
}

# A field of [package] in Cargo.toml.
recorded() {
  sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" Cargo.toml | head -n1
}

nothing_to_do() {
  [[ $NAME == "$OLD_NAME" && $TITLE == "$OLD_TITLE" ]] &&
    [[ -z $DESCRIPTION || $DESCRIPTION == "$(recorded description)" ]] &&
    [[ -z $REPOSITORY || $REPOSITORY == "$(recorded repository)" ]]
}

check_tree() {
  local changed
  changed=$(git status --porcelain --untracked-files=all)
  [[ -z $changed ]] || die "commit or stash this first, untracked files too, so that the rename can be told from it and taken back:
$(printf '%s' "$changed" | head -n 12)"
}

format() {
  if have cargo && cargo fmt --version >/dev/null 2>&1; then
    cargo fmt
  else
    say 'cargo fmt is not here: run it before you commit, imports are sorted by name'
  fi
}

main() {
  cd "$ROOT"
  have perl || die 'perl is needed'
  [[ $(git rev-parse --show-toplevel 2>/dev/null) == "$ROOT" ]] ||
    die "$ROOT is not a git repository: only git can take a rename back. git init && git add --all && git commit"
  NAME=${NAME:-} TITLE=${TITLE:-} DESCRIPTION=${DESCRIPTION:-} REPOSITORY=${REPOSITORY:-}
  { read -r OLD_NAME && read -r OLD_TITLE; } <<<"$(perl scripts/lib/rename.pl names)" || die 'cannot read the present name'
  check_name
  if [[ -z $TITLE ]]; then
    TITLE=$OLD_TITLE
    [[ $NAME == "$OLD_NAME" ]] || TITLE=$(title_of "$NAME")
  fi
  check_title
  check_options
  if nothing_to_do; then
    say "the name is $NAME (\"$TITLE\") already: nothing changed"
    return
  fi
  check_tree

  local report
  report=$(perl scripts/lib/rename.pl apply "$NAME" "$TITLE" "$DESCRIPTION" "$REPOSITORY") ||
    die "NAME=$NAME TITLE=\"$TITLE\": the lines above speak against it, and nothing changed. A word that stands in the tree already could not be told from the name afterwards: take a name or title of two words"
  format
  git add --all
  say "$OLD_NAME is $NAME (\"$TITLE\") now, and staged: $report
  look at it   git diff --staged --stat
  prove it     make check
  keep it      git commit
  undo it      git reset --hard"
  [[ ! -d .local ]] || say 'what is in .local belongs to the old name: make clean-local'
}

# All of it is read before it runs: this file is rewritten too.
main "$@"
exit
