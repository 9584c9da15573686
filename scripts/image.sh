#!/usr/bin/env bash
# The container image, with Docker or, where no engine answers, with Debian's buildah as root.
#
#   image.sh                  `make image`: builds keel:dev and checks it. buildah leaves it in .local/image/keel.tar,
#                             which `docker load`, `podman load` and `kind load image-archive` take
#   image.sh check <binary>   builds only the last stage, with a binary of this machine, checks that, and removes it
#   image.sh verify <image>   checks an image that Docker has, built from this commit
#
# KEEL_ENGINE=docker|buildah forces one of the two.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/engine.sh
source "$library/engine.sh"

readonly DOCKERFILE=$ROOT/deploy/Dockerfile
readonly LIMIT_MIB=40
# Long enough for a busy machine.
readonly START_SECONDS=30

main() {
  cd "$ROOT"
  # Large, and on the disk of the checkout: /tmp may be memory.
  mkdir -p "$LOCAL/image"
  WORK=$(mktemp -d "$LOCAL/image/work.XXXXXX")
  IMAGE_ROOT=$WORK/root SERVICE='' IMAGE='' LIMITED=1
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
  find_engine
  VERSION=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
  REVISION=$(revision)
  case ${1:-} in
    '') build ;;
    check) check_binary "${2:-}" ;;
    verify) verify_given "${2:-}" ;;
    *) die "usage: scripts/image.sh [check <binary> | verify <image>]" ;;
  esac
}

finish() {
  local status=$?
  set +e
  trap '' INT TERM HUP
  stop_service
  [[ -z $IMAGE ]] || "${ENGINE}_forget" "$IMAGE"
  rm -rf "$WORK"
  exit "$status"
}

# The commit, and whether the tree is that commit.
revision() {
  local sha
  sha=$(git rev-parse HEAD 2>/dev/null) || sha=unknown
  [[ -z $(git status --porcelain 2>/dev/null) ]] || sha+=-dirty
  printf '%s' "$sha"
}

build() {
  local options=(--build-arg "GIT_SHA=$REVISION" --build-arg "VERSION=$VERSION") base volumes
  say "building keel:dev of $REVISION with $ENGINE"
  if [[ $ENGINE == buildah ]]; then
    # Without the digest: what is made here has another.
    base=$(sed -n 's/^FROM \(.*\)@sha256:[0-9a-f]* AS builder$/\1/p' "$DOCKERFILE")
    make_rust_base "$base" "$(sed 's/.*:\([0-9.]*\)-.*/\1/' <<<"$base")"
    mapfile -t volumes < <(machine_volumes)
    options+=(--from "$base" "${volumes[@]}")
  fi
  "${ENGINE}_build" keel:dev "${options[@]}"
  verify keel:dev
  if [[ $ENGINE == buildah ]]; then
    rm -f "$LOCAL/image/keel.tar"
    run_buildah push --quiet keel:dev "docker-archive:$LOCAL/image/keel.tar:keel:dev"
    say "keel:dev is in .local/image/keel.tar"
  fi
}

verify_given() {
  [[ $ENGINE == docker && -n $1 ]] || die "verify wants the name of an image that Docker has"
  verify "$1"
}

# Unlike a binary from elsewhere, this one has to know its commit.
verify() {
  check_image "$1"
  grep -qaF "$REVISION" "$IMAGE_ROOT/usr/local/bin/keel" || fail "the binary does not know its commit, $REVISION"
}

check_binary() {
  local binary=$1
  [[ -x $binary ]] || die "no executable '$binary' (cargo build --release --bin keel makes target/release/keel)"
  mkdir -p "$WORK/builder/out"
  if has_debug_information "$binary"; then
    say "$binary is a debug build: a stripped copy is looked at, whose size says nothing about the release's"
    strip --strip-all -o "$WORK/stripped" "$binary"
    binary=$WORK/stripped LIMITED=0
  fi
  deploy/image-root.sh "$binary" "$WORK/builder/out/root"
  IMAGE=keel:check-$$
  "${ENGINE}_build" "$IMAGE" --build-context "builder=$WORK/builder" --build-arg "GIT_SHA=$REVISION" \
    --build-arg "VERSION=$VERSION" >"$WORK/build.log" 2>&1 || fail "not built: $(cat "$WORK/build.log")"
  check_image "$IMAGE"
}

has_debug_information() {
  have readelf && have strip || die "no readelf or strip on PATH: install binutils"
  [[ $(readelf --section-headers --wide "$1") == *.debug_info* ]]
}

# --- What the image has to be -------------------------------------------------------------------------------------

fail() {
  die "image: $*"
}

check_image() {
  local image=$1
  mkdir -p "$IMAGE_ROOT"
  "${ENGINE}_unpack" "$image" "$IMAGE_ROOT"
  check_config "$image"
  check_files
  check_commands "$image"
}

# says <image> <what> <template> <expected>
says() {
  local found
  found=$("${ENGINE}_inspect" "$1" "$3")
  [[ $found == "$4" ]] || fail "$2 is '$found', not '$4' (deploy/Dockerfile)"
}

check_config() {
  local image=$1 label='{{index .Config.Labels "org.opencontainers.image'
  says "$image" 'the user' '{{.Config.User}}' 65532:65532
  says "$image" 'the entrypoint' '{{.Config.Entrypoint}}' '[/usr/local/bin/keel]'
  says "$image" 'the command' '{{.Config.Cmd}}' '[serve]'
  says "$image" 'the health check' '{{with .Config.Healthcheck}}{{.Test}}{{end}}' '[CMD /usr/local/bin/keel healthcheck]'
  says "$image" 'the list of ports' '{{range $port, $_ := .Config.ExposedPorts}}{{$port}} {{end}}' '8080/tcp 9464/tcp '
  says "$image" 'the revision' "$label.revision\"}}" "$REVISION"
  says "$image" 'the version' "$label.version\"}}" "$VERSION"
  says "$image" 'the title' "$label.title\"}}" keel
}

check_files() {
  local others size limit="$LIMIT_MIB MiB" bundle=$IMAGE_ROOT/etc/ssl/certs/ca-certificates.crt
  others=$(cd "$IMAGE_ROOT" && find . -type f -perm /111 ! -path ./usr/local/bin/keel ! -name '*.so.*')
  [[ -z $others ]] || fail "there are other executables than keel: $others"
  others=$(cd "$IMAGE_ROOT" && find . \( -name sh -o -name '*ash' -o -name busybox -o -perm /6000 \))
  [[ -z $others ]] || fail "there is a shell, or a file that lends its owner's rights: $others"
  grep -q '^-----BEGIN CERTIFICATE-----$' "$bundle" 2>/dev/null ||
    fail "no certificates in /etc/ssl/certs/ca-certificates.crt"
  size=$(find "$IMAGE_ROOT" -type f -printf '%s\n' | awk '{ all += $1 } END { printf "%d", all / 1024 / 1024 * 10 }')
  ((!LIMITED || size <= LIMIT_MIB * 10)) || fail "$((size / 10)) MiB, more than $LIMIT_MIB MiB"
  ((LIMITED)) || limit="none for a debug build"
  say "image: $((size / 10)).$((size % 10)) MiB unpacked, limit $limit"
}

# --- And do -------------------------------------------------------------------------------------------------------

check_commands() {
  local image=$1 health start found words='{{range .Config.Entrypoint}}{{.}} {{end}}'
  found=$("${ENGINE}_run" "$image" /usr/local/bin/keel --version) || fail "the binary does not run"
  [[ $found == "keel $VERSION" ]] || fail "keel --version says '$found', not 'keel $VERSION'"

  # What the image itself says has to be run, without the brackets and CMD.
  read -ra health <<<"$("${ENGINE}_inspect" "$image" '{{range .Config.Healthcheck.Test}}{{.}} {{end}}')"
  health=("${health[@]:1}")
  expect_no_service "$image" "${health[@]}"
  read -ra start <<<"$("${ENGINE}_inspect" "$image" "$words${words/Entrypoint/Cmd}")"
  start_service "$image" "${start[@]}"
  until_alive "$image" "${health[@]}"
  stop_service || fail "the service ended with $? on SIGTERM: $(tail -n 20 "$WORK/service.log")"
  expect_no_service "$image" "${health[@]}"
  say "image: runs as 65532 without a shell; ${health[*]} answers 1 without a service, 0 with one"
}

expect_no_service() {
  local status=0
  "${ENGINE}_run" "$@" >"$WORK/output" 2>&1 || status=$?
  ((status == 1)) || fail "${*:2} ended with $status, not 1, and no service is there: $(cat "$WORK/output")"
}

# Alive is all that is asked, so no database has to be there: nobody listens on port 1.
start_service() {
  local secret
  secret=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
  "${ENGINE}_start" "$1" APP_ENVIRONMENT=development "APP__AUTH__PEPPER=$secret" \
    DATABASE_URL=postgres://keel@127.0.0.1:1/keel DATABASE_SYSTEM_URL=postgres://keel@127.0.0.1:1/keel -- "${@:2}" ||
    fail "the service cannot be started"
}

# Asked as the engine would, inside.
until_alive() {
  local deadline=$((SECONDS + START_SECONDS))
  until "${ENGINE}_ask" "$@" >"$WORK/output" 2>&1; do
    "${ENGINE}_is_running" && ((SECONDS < deadline)) ||
      fail "${*:2} finds no service: $(cat "$WORK/output") $("${ENGINE}_log" | tail -n 20)"
    sleep 0.2
  done
}

# Its status is the service's.
stop_service() {
  local status=0
  [[ -n $SERVICE ]] || return 0
  "${ENGINE}_stop" || status=$?
  SERVICE=''
  return "$status"
}

main "$@"
