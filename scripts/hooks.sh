#!/usr/bin/env bash
# `make hooks`: the hooks of scripts/hooks for commits of this checkout; `make hooks OFF=1`: none again. A commit without
# them: `git commit --no-verify`. CI does not rely on them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly FOLDER=scripts/hooks

# Relative: each worktree uses the hooks of its own branch.
current=$(git config --get core.hooksPath || true)
if [[ -n $current && $current != "$FOLDER" ]]; then
  echo "core.hooksPath is $current, which is not ours: git config --unset core.hooksPath, if nothing needs it" >&2
  exit 1
fi
if [[ -n ${OFF:-} ]]; then
  [[ -z $current ]] || git config --unset core.hooksPath
  echo 'commits are not checked; make ci does it'
  exit
fi
git config core.hooksPath "$FOLDER"
echo "each commit is checked by $FOLDER (seconds, no build); make hooks OFF=1 ends that, git commit --no-verify once"
