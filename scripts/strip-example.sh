#!/usr/bin/env bash
# `make strip-example`: takes the example out, for good. Everything whose path has the word of the example goes, and so
# does each line that has it (a section of a TOML file, an item of Rust with its attributes); an empty src/domain comes
# in its place. The word may stay in CHANGELOG.md and the licences only. This script goes too: it has done its work.
# Refuses a tree with changes, so that `git reset --hard && git clean -fd` undoes it; and one with something of yours in
# src/shop or among its migrations. DOCS=no leaves the generated documents for later.
set -euo pipefail
library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
cd "$ROOT"

# What the example is made of. Anything else there is the user's, and would go with it.
readonly ROOMS='catalogue.rs mod.rs orders payments products sandbox users'
readonly MIGRATIONS='1001 1002 1003'

# The word by itself: also in SNAKE_CASE and in file names, not in `workshop` or `shops`.
export WORD='(?<![A-Za-z])shop(?![A-Za-z])'
readonly KEPT='^(CHANGELOG\.md|LICENSE-.*)$'

# What takes the place of the example's name, where deleting a line is not enough.
rewrite() {
  edit src/lib.rs 's/`shop` the example to replace/`domain` what it is for/' \
    's/┬── shop ──┐      domain: [^\n]*/┬─ domain ─┐      what the service is for/' \
    's/app → shop → platform/app → domain → platform/' 's/pub mod shop;\n//' \
    's/pub mod config;\n/pub mod config;\npub mod domain;\n/'
  edit src/app/mod.rs 's/ *&config\.shop,\n//' 's/\bshop\b/domain/g'
  edit src/cli/mod.rs 's/mod shop;\n//' 's/shop::catalogue/domain::catalogue/' \
    's/ *#\[command\(flatten\)\]\n *Shop\([^\n]*\n//'
  edit tests/it/main.rs 's/mod shop;/mod domain;/'
  edit tests/it/repo/layering.rs 's/\bshop\b/domain/g'
  edit Makefile 's/strip-example:[^\n]*\n\t[^\n]*\n\n//' 's/two services, sandbox, Postgres/two services, Postgres/'
  edit README.md 's/  Sandbox [^\n]*\n//' \
    's/takes the whole walk with `curl`: create, page.*?itself, cancel\. Create a product, then/takes the walk with `curl`. Ask who you are, then/s'
  edit docs/deploy.md 's/, Prometheus and the example.s payment sandbox, with secrets/ and Prometheus, with secrets/' \
    's/\| payment provider \(example\)[^\n]*\n//'
  edit docs/ARCHITECTURE.md 's/shop\/          the domain: [^\n]*/domain\/        what the service is for: begin here/' \
    's/\| \[src\/shop\][^\n]*/| [src\/domain](..\/src\/domain) | what the service is for; `make new-resource` fills it | [mod.rs](..\/src\/domain\/mod.rs) |/'
}

# Takes the lines with the word out of each file that is left.
strip_lines() {
  git ls-files -z | perl -0 -ne "chomp; print \"\$_\\0\" unless m{$KEPT} or m{^scripts/strip-example} or -l or !-f" |
    perl -0 -e '
      my $word = qr/$ENV{WORD}/i;
      while (my $file = <STDIN>) {
        chomp $file;
        open my $in, "<", $file or die "$file: $!"; local $/; my $text = <$in>; close $in; $/ = "\0";
        next if $text !~ $word or $text =~ /\0/;
        my @lines = split /^/m, $text;
        my @kept;
        my $section = 0;
        for my $line (@lines) {
          if ($file =~ /^config\/.*\.toml$/) {
            if ($line =~ /^\[/) {
              $section = $line =~ $word;
              # The comments above a header are about it.
              if ($section) { pop @kept while @kept and $kept[-1] =~ /^#/ }
            }
            next if $section;
          }
          if ($line !~ $word) { push @kept, $line; next }
          if ($file =~ /\.rs$/ and $line !~ m{^\s*//}) {
            pop @kept while @kept and $kept[-1] =~ m{^\s*(#\[|///)};
          }
          push @kept, undef;
        }
        # A list without its last item is no list.
        if ($file =~ /\.ya?ml$/) {
          for my $at (1 .. $#kept) {
            next if defined $kept[$at];
            my $above = $at - 1; $above-- while $above > 0 and not defined $kept[$above];
            my ($key) = ($kept[$above] // "") =~ /^(\s*)[\w.-]+:\s*$/ or next;
            my $below = $at + 1; $below++ while $below <= $#kept and not defined $kept[$below];
            my ($next) = ($kept[$below] // "x") =~ /^(\s*)/;
            $kept[$above] = undef if length $next <= length $key and ($kept[$below] // "x") !~ /^\s*-/;
          }
        }
        open my $out, ">", $file or die "$file: $!"; print $out grep { defined } @kept; close $out;
      }'
}

# The last run of drills that are gone: its rows are about alerts whose runbooks were the example's.
strip_drills() {
  local alerts
  alerts=$(git ls-tree -r --name-only HEAD runbooks/shop | sed -n 's|.*/\(.*\)\.md$|\1|p' | paste -sd '|' -)
  [[ -z $alerts ]] || edit docs/drills.md 's/^\| ('"$alerts"')[^\n]*\n//mg'
}

# A section that went leaves the blank lines around it.
tidy() {
  perl -0777 -pi -e 's/\n{3,}/\n\n/g; s/\n+\z/\n/' config/*.toml docs/ARCHITECTURE.md docs/CLONING.md
}

refuse_what_is_not_ours() {
  local path name
  for path in src/shop/* migrations/*_shop_*; do
    name=${path##*/}
    if [[ $path == migrations/* ]]; then
      [[ " $MIGRATIONS " == *" ${name%%_*} "* ]] && continue
    else
      [[ " $ROOMS " == *" $name "* ]] && continue
    fi
    die "$path is not the example's, and would be deleted with it: move it to a domain of its own first, or take it out and make it anew afterwards (make new-resource writes into src/domain then)"
  done
}

main() {
  git rev-parse --is-inside-work-tree >/dev/null 2>&1 || die 'this is no git repository: commit the tree first, so that it can be undone'
  if [[ ! -d src/shop ]]; then
    say 'there is no example here (src/shop); nothing to do'
    return
  fi
  [[ -z $(git status --porcelain) ]] || die 'the tree has changes: commit or stash them (git stash -u), so that this can be undone by git'
  refuse_what_is_not_ours
  have cargo || die 'cargo is missing: the documents that remain are generated (make docs); install Rust: https://rustup.rs'

  trap 'say "stopped half way; git reset --hard && git clean -fd takes it back" >&2' EXIT
  mkdir -p src/domain tests/it/domain
  cp scripts/strip-example/domain.rs src/domain/mod.rs
  cp scripts/strip-example/catalogue.rs src/domain/catalogue.rs
  cp scripts/strip-example/tests.rs tests/it/domain/mod.rs
  git ls-files -z | perl -0 -ne 'chomp; print "$_\0" if /$ENV{WORD}/i' | xargs -0 git rm -q --
  rewrite
  strip_lines
  strip_drills
  tidy
  git rm -rq scripts/strip-example scripts/strip-example.sh
  git add -A
  local left
  left=$(git ls-files -z | xargs -0 perl -ne 'print "$ARGV:$.: $_" if /$ENV{WORD}/i; close ARGV if eof' | grep -vE '^(CHANGELOG\.md|LICENSE-[A-Z]*):' || true)
  [[ -z $left ]] || die "the word is still there:
$left"
  cargo fmt
  if [[ ${DOCS:-} == no ]]; then
    say 'the example is gone; make docs brings what is generated up to date'
  else
    say 'the example is gone; generating what is left of the documents'
    make --no-print-directory docs
  fi
  git add -A
  trap - EXIT
  say 'done. Next: make check, then git commit; make new-resource NAME=… makes your first resource.'
}

# Read whole before it runs: it deletes itself.
main "$@"; exit
