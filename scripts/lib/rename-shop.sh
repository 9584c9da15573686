# shellcheck shell=bash
# For scripts/rename.sh: while the example is here, no name may have its word, because `make strip-example` deletes what
# has the word in it. Goes with the example.
DOOMED+=(shop)
