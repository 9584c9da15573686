# shellcheck shell=bash
# The two that build an image: Docker, and where no engine answers Debian's buildah as root. What differs between them
# is here, each as <engine>_<verb>. Sourced after common.sh, with WORK (a directory that the caller removes) set, and
# with IMAGE_ROOT once something is unpacked there. SERVICE names what was started.

# Sets ENGINE. KEEL_ENGINE=docker|buildah forces one.
find_engine() {
  case ${KEEL_ENGINE:-} in
    docker) docker_answers || die "KEEL_ENGINE=docker, but no engine answers" ;;
    buildah) provide_buildah ;;
    '') docker_answers || provide_buildah ;;
    *) die "KEEL_ENGINE must be docker or buildah (it is '$KEEL_ENGINE')" ;;
  esac
}

# --- Docker -------------------------------------------------------------------------------------------------------

docker_answers() {
  have docker && timeout 10 docker info >/dev/null 2>&1 || return 1
  ENGINE=docker
}

# docker_build <tag> <option>...
docker_build() {
  DOCKER_BUILDKIT=1 docker build --tag "$1" --target runtime --file "$DOCKERFILE" "${@:2}" "$ROOT"
}

# docker_inspect <image> <template of .Config>
docker_inspect() {
  docker image inspect --format "$2" "$1"
}

# Copies the files of an image into a directory, without what the engine adds to a container.
docker_unpack() {
  local container status=0
  container=$(docker create "$1") || return 1
  docker export "$container" | tar -x --no-same-owner -C "$2" || status=1
  docker rm --force "$container" >/dev/null
  rm -rf "${2:?}"/{.dockerenv,dev,proc,sys}
  return "$status"
}

# As a pod of the `restricted` profile would, and with no network but its own loopback: nothing is published, so it is
# the same whether the engine runs here, in a virtual machine or without root.
DOCKER_LIMITS=(--no-healthcheck --network none --read-only --cap-drop ALL --security-opt no-new-privileges)

# docker_run <image> <command>...: alone, with the image's own variables.
docker_run() {
  docker run --rm "${DOCKER_LIMITS[@]}" --entrypoint "$2" "$1" "${@:3}"
}

# docker_start <image> <variable=value>... -- <command>...: in the background, until <engine>_stop.
docker_start() {
  local image=$1 options=()
  shift
  while [[ $1 != -- ]]; do
    options+=(--env "$1")
    shift
  done
  SERVICE=keel-check-$$
  docker run --detach --name "$SERVICE" "${DOCKER_LIMITS[@]}" "${options[@]}" --entrypoint "$2" "$image" "${@:3}" \
    >/dev/null
}

# docker_ask <image> <command>...: beside what was started.
docker_ask() {
  docker exec "$SERVICE" "${@:2}"
}

docker_is_running() {
  [[ $(docker container inspect --format '{{.State.Running}}' "$SERVICE" 2>/dev/null) == true ]]
}

# Ends with the service's status, and leaves its log in WORK.
docker_stop() {
  local status
  # Longer than the service takes to drain, which is what it may take.
  docker stop -t 40 "$SERVICE" >/dev/null
  status=$(docker wait "$SERVICE") || status=1
  docker_log >"$WORK/service.log"
  docker rm --force "$SERVICE" >/dev/null
  return "$status"
}

docker_log() {
  docker logs "$SERVICE" 2>&1
}

docker_forget() {
  docker image rm --force "$1" >/dev/null 2>&1
}

# --- buildah ------------------------------------------------------------------------------------------------------

# Root, for chroot isolation: without an engine there is nobody who would make namespaces for us.
provide_buildah() {
  ((EUID == 0)) || die "no Docker engine answers; without one buildah builds the image, which has to run as root here"
  install_debian buildah
  ENGINE=buildah
  BUILDAH=(buildah --root "$WORK/storage" --runroot "$WORK/run" --storage-driver vfs)
  mkdir -p "$WORK/tmp"
}

install_debian() {
  local package=$1 log=$LOCAL/image/log
  ! have "$package" || return 0
  have apt-get || die "no $package on PATH, and no apt-get to install it"
  mkdir -p "$LOCAL/image"
  say "installing $package with apt-get"
  { apt-get update && apt-get install -y --no-install-recommends "$package"; } >"$log" 2>&1 && have "$package" ||
    die "$package cannot be installed (see .local/image/log): install Docker or $package"
}

run_buildah() {
  TMPDIR=$WORK/tmp "${BUILDAH[@]}" "$@"
}

# The format of Docker: OCI's own has no health check.
buildah_build() {
  run_buildah bud --isolation chroot --format docker --pull-never --target runtime --tag "$1" --file "$DOCKERFILE" \
    "${@:2}" "$ROOT"
}

buildah_inspect() {
  run_buildah inspect --type image --format "${2//.Config/.Docker.Config}" "$1"
}

buildah_unpack() {
  local container
  container=$(run_buildah from --pull-never "$1") || return 1
  cp -a "$(run_buildah mount "$container")/." "$2"
}

# In what buildah_unpack left in IMAGE_ROOT, as the image's variables say, but for the ports: the network is this
# machine's, where somebody else may have them. The process becomes the command.
buildah_become() {
  local variables words='{{range .Config.Env}}{{println .}}{{end}}'
  mapfile -t variables < <(buildah_inspect "$1" "$words" | grep .)
  variables+=("APP__ADMIN__BIND=127.0.0.1:$(cat "$WORK/port" 2>/dev/null || free_port "$WORK/port")")
  variables+=(APP__HTTP__BIND=127.0.0.1:0)
  shift
  while [[ $1 != -- ]]; do
    variables+=("$1")
    shift
  done
  exec env -i "${variables[@]}" chroot --userspec=65532:65532 --groups= "$IMAGE_ROOT" "${@:2}"
}

buildah_run() {
  (buildah_become "$1" -- "${@:2}")
}

buildah_start() {
  buildah_become "$@" >"$WORK/service.log" 2>&1 &
  SERVICE=$!
}

buildah_ask() {
  buildah_run "$@"
}

buildah_is_running() {
  kill -0 "$SERVICE" 2>/dev/null
}

buildah_stop() {
  kill -TERM "$SERVICE" 2>/dev/null
  wait "$SERVICE"
}

buildah_log() {
  cat "$WORK/service.log"
}

# Its storage goes with WORK.
buildah_forget() {
  :
}

# Makes the image that the builder stage starts from, of Debian's packages and this machine's toolchain, under the name
# that the Dockerfile uses: <name:tag> <version of Rust>. Nothing of it gets into the image but Debian's C library.
make_rust_base() {
  local name=$1 version=$2 base=$WORK/base container toolchain
  toolchain=$(rustc "+$version" --print sysroot 2>/dev/null) || toolchain=$(rustc --print sysroot)
  [[ $("$toolchain/bin/rustc" --version) == "rustc $version "* ]] ||
    die "the image is built with Rust $version, which is not here: rustup toolchain install $version"
  install_debian debootstrap
  say "making $name of Debian bookworm and the toolchain of this machine"
  debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev bookworm "$base" \
    >"$WORK/debootstrap.log" 2>&1 || {
    tail -n 20 "$WORK/debootstrap.log" >&2
    die "debootstrap cannot make a Debian here"
  }
  rm -rf "$base"/var/cache/apt/archives/*.deb "$base"/var/lib/apt/lists/*
  mkdir -p "$base/usr/local/cargo" "$base/usr/local/rust"
  (cd "$toolchain" && tar -c --exclude=share bin lib) | tar -x --no-same-owner -C "$base/usr/local/rust"
  container=$(run_buildah from scratch)
  run_buildah add --quiet "$container" "$base" / >/dev/null
  run_buildah config --env CARGO_HOME=/usr/local/cargo --env "PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    --env CARGO_HTTP_CAINFO="$MACHINE_CERTIFICATES" "$container"
  run_buildah commit --quiet --rm "$container" "$name" >/dev/null
  rm -rf "$base"
}

# What the network of this machine may want, seen by the builder stage and kept out of every image.
readonly MACHINE_CERTIFICATES=/run/machine-certificates.crt
machine_volumes() {
  local file
  printf '%s\n' --volume "/etc/ssl/certs/ca-certificates.crt:$MACHINE_CERTIFICATES:ro"
  for file in "${CARGO_HOME:-$HOME/.cargo}"/config{,.toml}; do
    [[ ! -f $file ]] || printf '%s\n' --volume "$file:/usr/local/cargo/${file##*/}:ro"
  done
}
