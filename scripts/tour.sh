#!/usr/bin/env bash
# Runs the `bash` blocks of the pages named below, those of a page in order in one shell, against a Postgres and Redis of
# its own, and compares what each prints with the `text` block after it. Ids, times and durations may differ, all else has
# to be the same. (Blocks in `sh` are for readers; tests/it/repo/docs.rs looks at those.)
#   scripts/tour.sh          compares; exit code 1 where a page says something else
#   scripts/tour.sh write    puts what was printed into the pages
# KEEL_BINARY is a built binary to use.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/process.sh
source "$library/process.sh"
# shellcheck source=lib/supervise.sh
source "$library/supervise.sh"

readonly PAGES=(docs/tour.md docs/CLONING.md)

# The blocks of the page as files: 01.sh, 01.want, 02.sh …; a block without a `text` block after it prints nothing.
split_page() {
  awk -v directory="$1" '
    /^```/ && open { open = 0; close(file); next }
    /^```bash$/ { open = 1; n++; file = sprintf("%s/%02d.sh", directory, n); next }
    /^```text$/ { open = 1; file = sprintf("%s/%02d.want", directory, n); printf "" >file; next }
    /^```/ { open = 1; file = "/dev/null"; next }
    open { print >file }' "$PAGE"
}

# Replaces what may differ from run to run.
shape() {
  perl -CSD -Mutf8 -pe '
    s/4bf92f3577b34da6a3ce929d0e0e4736/GIVEN-TRACE/g;
    s/\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b/UUID/g;
    s/\b[0-9a-f]{32}\b/ID/g;
    s/\b[0-9a-f]{16}\b/SPAN/g;
    s/\d{4}-\d\d-\d\dT[\d:.]+Z/TIME/g;
    s/^\d\d:\d\d:\d\d\.\d{3}/TIME/;
    s/("principal_id":\s*|"user":\s*\{\s*"id":\s*|^\s*"id":\s*)"[A-Za-z0-9]{12}"/$1"PRINCIPAL"/g;
    s/((?:_ms|_seconds)"?[:=]\s*)[\d.]+/$1N/g;
    s/ in [\d.]+ s$/ in N s/;
    s/\.rs:\d+(?::\d+)?/.rs:LINE/;
    s/\} [\d.]+ \d{9,}\.\d+$/} N TIME/;
    s/^ +█+ +[\d.]+ ms/    BAR N ms/;
    s/\s+$/\n/;' "$1"
}

play() {
  local block want got failed=0
  for block in "$WORK"/*.sh; do
    want=${block%.sh}.want got=${block%.sh}.got
    # Blocks are for a shell that a person types into: neither -e nor -u.
    set +eu
    # shellcheck source=/dev/null
    source "$block" >"$got" 2>&1
    local status=$?
    set -eu
    if ((status != 0)) || grep -q '^not within [0-9]* s: ' "$got"; then
      printf 'tour: this failed (%s):\n' "$status" >&2
      cat "$block" "$got" >&2
      return 1
    fi
    [[ -e $want ]] || : >"$want"
    if [[ $MODE == write ]]; then
      continue
    elif ! diff -u --label "$PAGE" --label 'what it prints' <(shape "$want") <(shape "$got") >"$got.diff"; then
      failed=1
      printf 'tour: %s says something else than this prints:\n' "$PAGE" >&2
      cat "$block" "$got.diff" >&2
    fi
  done
  return "$failed"
}

write_page() {
  # shellcheck disable=SC2016 # for perl
  WORK=$WORK perl -i -ne '
    if (/^```bash$/) { $n++ }
    if (/^```text$/ && !$open) {
      my $file = sprintf "%s/%02d.got", $ENV{WORK}, $n;
      open my $got, "<", $file or die "$file: $!";
      my $text = join "", <$got>;
      $text =~ s/\n*\z/\n/;
      print "```text\n$text```\n";
      $skip = 1; $open = 1; next;
    }
    if (/^```/) { if ($skip) { $skip = 0; $open = 0; next } $open = !$open }
    print unless $skip;' "$PAGE"
}

cd "$ROOT"
MODE=${1:-check}
[[ $MODE == check || $MODE == write ]] || die "scripts/tour.sh [write]"
for tool in curl jq perl; do
  have "$tool" || {
    [[ -z ${CI:-} ]] || die "$tool cannot be had, and CI may not skip the tour: install it"
    say "SKIPPED: scripts/tour.sh: $tool is not installed here" >&2
    exit 0
  }
done
supervise tour alone
export WORK MODE PAGE
failed=0
for PAGE in "${PAGES[@]}"; do
  began=$SECONDS
  WORK=$INSTANCE_DIR/blocks
  rm -rf -- "$WORK" && mkdir "$WORK"
  split_page "$WORK"
  count=$(find "$WORK" -name '*.sh' | wc -l)
  ((count > 0)) || die "$PAGE has no blocks in bash"
  # In a child, so that it ends with this script whichever way that ends.
  run_child bash -c "$(declare -f shape play); play" || {
    failed=1
    continue
  }
  if [[ $MODE == write ]]; then
    write_page
    say "$PAGE is written, in $((SECONDS - began)) s"
  else
    say "$count blocks of $PAGE print what the page says, in $((SECONDS - began)) s"
  fi
done
exit "$failed"
