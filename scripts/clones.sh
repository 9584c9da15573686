#!/usr/bin/env bash
# `make clones`: what a user does first with this tree, done on fresh copies of it, and each copy checked.
#
#   clones.sh rename    another name
#   clones.sh strip     no example
#   clones.sh grow      another name, no example, a resource of its own, and then each recipe of docs/ADDING.md
#   clones.sh           all of them, one after the other; several names: these
#
# and each time all of make check.
#
# A copy is a clone of HEAD below a temporary directory. Its target directory is target/clones/<proof>: what this
# checkout has built of its dependencies is linked into it, so that a copy builds no more than the package itself, and
# nothing that is built there can be taken for ours. Both are gone afterwards, and so are the copy's servers.
# CLONES_CHECK is run in a copy instead of `make check`.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"

readonly PROOFS=(rename strip grow)
readonly CHECK=${CLONES_CHECK:-make --no-print-directory check}
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}

# --- The proofs: each runs in its copy, and what fails in it fails -----------------------------------------------

prove_rename() {
  step 'make rename' make --no-print-directory rename NAME="$CLONE_NAME" TITLE="$CLONE_TITLE" \
    DESCRIPTION='Proves that this tree can be renamed.' REPOSITORY="https://github.com/Quaint/$CLONE_NAME"
  step 'git commit' commit 'Rename'
  step 'no trace of the old name' no_trace_of "$OLD_NAME"
  step "$CHECK" bash -c "$CHECK"
}

prove_strip() {
  has_example || return 0
  step 'make strip-example' make --no-print-directory strip-example
  step 'git commit' commit 'Take the example out'
  step "$CHECK" bash -c "$CHECK"
}

prove_grow() {
  step 'make rename' make --no-print-directory rename NAME="$CLONE_NAME"
  step 'git commit' commit 'Rename'
  if has_example; then
    step 'make strip-example' make --no-print-directory strip-example
    step 'git commit' commit 'Take the example out'
  fi
  step 'make new-resource' make --no-print-directory new-resource NAME=invoices DOCS=no
  step 'the recipes of docs/ADDING.md' git apply docs/adding/*.patch
  step 'make docs' make --no-print-directory docs
  step 'git commit' commit 'Add invoices, and follow each recipe'
  step "$CHECK" bash -c "$CHECK"
}

has_example() {
  [[ -e scripts/strip-example.sh ]] || { say 'SKIPPED: make strip-example: the example is gone already' && return 1; }
}

# --- What they share -------------------------------------------------------------------------------------------

main() {
  local proofs=("${PROOFS[@]}") proof
  (($# == 0)) || proofs=("$@")
  cd "$ROOT"
  for proof in "${proofs[@]}"; do
    declare -F "prove_$proof" >/dev/null || die "clones.sh [${PROOFS[*]}], not '$proof'"
  done
  [[ -z $(git status --porcelain) ]] || say 'a copy is made of HEAD: changes that are not committed are not in it'
  mkdir -p "$TARGET"
  TARGET=$(cd "$TARGET" && pwd -P)
  OLD_NAME=$(perl scripts/lib/rename.pl names | head -n1)
  # Put together here: as words of this tree they could be no one's new name. Not a name of tests/it/repo/rename.rs.
  CLONE_NAME=$(printf '%s-mill' tide) CLONE_TITLE=$(printf '%s Mill' Tide)
  WORK=$(mktemp -d "${TMPDIR:-/tmp}/clones.XXXXXX")
  WORK=$(cd "$WORK" && pwd -P)
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  settle_environment
  for proof in "${proofs[@]}"; do
    prove "$proof"
  done
  say "clones: ${proofs[*]}: all green in $SECONDS s"
}

prove() {
  local proof=$1 began=$SECONDS
  printf '\n== clone: %s\n' "$proof"
  git clone --quiet --no-hardlinks "$ROOT" "$WORK/$proof"
  share_downloads "$WORK/$proof"
  export CARGO_TARGET_DIR=$TARGET/clones/$proof
  share_dependencies "$CARGO_TARGET_DIR"
  # Behind `||` bash ignores `set -e`: a proof is made of steps, which end it by themselves.
  (cd "$WORK/$proof" && "prove_$proof") || die "clone: $proof: failed after $((SECONDS - began)) s"
  discard "$proof"
  say "clone: $proof: green in $((SECONDS - began)) s"
}

# step <title> <command...>: with the time it took.
step() {
  local title=$1 began=$SECONDS
  shift
  printf -- '-- %s\n' "$title"
  "$@" || die "clone: $title: exit code $?"
  printf -- '-- %s: %s s\n' "$title" "$((SECONDS - began))"
}

commit() {
  git add --all &&
    git -c user.name=Ada -c user.email=ada@example.com -c commit.gpgsign=false commit --quiet --message "$1"
}

no_trace_of() {
  local word='(^|[^A-Za-z0-9]|\\[bnrt])'${1//-/[-_ ]?}'([^A-Za-z0-9]|$)' found
  found=$(
    git grep -aniE "$word" -- . ':!CHANGELOG.md' ':!LICENSE-*' || true
    git ls-files | grep -iE "$word" || true
  )
  [[ -z $found ]] || { printf '%s\n' "$found" | head -n 20 >&2 && return 1; }
}

# What a caller has set is meant for this checkout.
settle_environment() {
  unset MAKEFLAGS MFLAGS MAKELEVEL NAME TITLE DESCRIPTION REPOSITORY GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE \
    DATABASE_URL DATABASE_SYSTEM_URL DATABASE_MIGRATION_URL TEST_ADMIN_DATABASE_URL REDIS_URL APP_ENVIRONMENT \
    KEEL_SERVICES_SOURCE KEEL_KEEP_SERVICES CARGO_BUILD_TARGET_DIR "${!APP__@}"
}

# Servers and tools that were fetched once are fetched.
share_downloads() {
  local folder
  mkdir -p "$1/.local"
  for folder in packages tools; do
    mkdir -p "$LOCAL/$folder"
    ln -s "$LOCAL/$folder" "$1/.local/$folder"
  done
}

# What cargo has made of crates is linked, its record of that is copied: that is written in place. What is made of the
# package itself stays out, for a copy of the same name would make files of the same names.
share_dependencies() {
  local target=$1 from=$TARGET/debug ours folder
  rm -rf "$target"
  mkdir -p "$target/debug"
  ours="^(lib)?(${OLD_NAME//-/[-_]}|$(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | sort -u | paste -sd '|' -))[-.]"
  for folder in .fingerprint build deps; do
    [[ -d $from/$folder ]] || continue
    mkdir "$target/debug/$folder"
    local how=-pRl
    [[ $folder != .fingerprint ]] || how=-pR
    (
      cd "$from/$folder"
      find . -mindepth 1 -maxdepth 1 | sed 's|^\./||' | grep -vE "$ours" | tr '\n' '\0' |
        xargs -0 -n 500 sh -c 'how=$1 to=$2; shift 2; cp "$how" "$@" "$to"' sh "$how" "$target/debug/$folder"
    ) || say 'dependencies could not be shared: they are built anew'
  done
}

discard() {
  if [[ -x $WORK/$1/scripts/services.sh && -d $WORK/$1/.local/test ]]; then
    "$WORK/$1/scripts/services.sh" down test || true
  fi
  rm -rf "${WORK:?}/$1" "$TARGET/clones/$1"
}

clean_up() {
  local status=$? folder
  trap '' INT TERM HUP
  for folder in "$WORK"/*/; do
    [[ ! -d $folder ]] || discard "$(basename "$folder")"
  done
  rm -rf "$WORK"
  exit "$status"
}

main "$@"
