# shellcheck shell=bash
# The second try of drills that failed beside others. Sourced by drill.sh, which has run_lanes, and knows $KEEL_DRILL_OUT:
# of each drill that was begun a file <name>.taken, of what held the row in <name>.md, of what failed why in <name>.failed.

# As many as this may have a second try: more that fail at once have a reason.
readonly MAY_FAIL=6

# The names of the drills that were begun and have no row, one a line: those whose runner died, too.
failed() {
  local file
  for file in "$KEEL_DRILL_OUT"/*.taken; do
    file=${file%.taken}
    [[ ! -e $file.taken || -e $file.md ]] || printf '%s\n' "${file##*/}"
  done
}

# The first lines of why each failed, without what the instances said: <name>….
reasons() {
  local name
  for name in "$@"; do
    if [[ -s $KEEL_DRILL_OUT/$name.failed ]]; then
      NAME=$name perl -ne '
        last if /^--- / or $. > 12;
        s/\s+$//;
        s/\t/  /g;
        print $. == 1 ? "$ENV{NAME}: $_\n" : "$_\n"' "$KEEL_DRILL_OUT/$name.failed"
    else
      printf '%s: its runner ended without a word about it\n' "$name"
    fi
  done
}

# What failed is run again, alone on the machine: beside others a drill of seconds measures them as well, and fires what a
# slow machine fires. A fault of the rule, the runbook or the drill is there again. Sets AGAIN to what failed and why; true
# when all have held now: <command>….
second_try() {
  local name names
  mapfile -t names < <(failed)
  ((${#names[@]} > 0 && ${#names[@]} <= MAY_FAIL)) || return 1
  AGAIN=$(reasons "${names[@]}")
  printf '\n'
  say 'once more, alone on the machine, what failed:'
  printf '%s\n\n' "$AGAIN"
  for name in "${names[@]}"; do
    rm -f -- "$KEEL_DRILL_OUT/$name.failed" "$KEEL_DRILL_OUT/$name.taken"
  done
  run_lanes 1 "$@" && [[ -z $(failed) ]]
}
