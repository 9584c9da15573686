#!/usr/bin/env bash
# Collects what the image holds: the binary, the libraries it is linked to, certificates, a user, and what the package
# manager knows of them. The Dockerfile runs it, and scripts/image.sh for a binary of this machine.
#
#   image-root.sh <binary> <new directory>
set -euo pipefail

readonly BINARY=$1 ROOT=$2
readonly CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

linked=$(ldd "$BINARY")
if [[ $linked == *'not found'* || ! -s $CERTIFICATES ]]; then
  printf 'image-root: missing here, a library or %s (Debian: ca-certificates):\n%s\n' "$CERTIFICATES" "$linked" >&2
  exit 1
fi

umask 022
mkdir -p "$ROOT"/{etc,var/lib/dpkg/status.d}
install -d -m 1777 "$ROOT/tmp"
install -D -m 755 "$BINARY" "$ROOT/usr/local/bin/keel"

# "name => path (address)" or "path (address)"; what the kernel itself maps has no path.
mapfile -t libraries < <(grep -o '/[^ ]*' <<<"$linked")
for library in "${libraries[@]}"; do
  install -D -m 755 "$library" "$ROOT$library"
done
install -D -m 644 "$CERTIFICATES" "$ROOT$CERTIFICATES"

printf 'root:x:0:0:root:/:/sbin/nologin\nkeel:x:65532:65532:keel:/:/sbin/nologin\n' >"$ROOT/etc/passwd"
printf 'root:x:0:\nkeel:x:65532:\n' >"$ROOT/etc/group"
# The C library's own order asks the DNS for what stands in /etc/hosts.
printf 'hosts: files dns\n' >"$ROOT/etc/nsswitch.conf"

# Scanners find vulnerable packages by these: an image without them looks clean whatever is in it.
for release in /etc/os-release /etc/debian_version; do
  [[ ! -f $release ]] || install -m 644 "$release" "$ROOT$release"
done
if command -v dpkg-query >/dev/null; then
  {
    echo ca-certificates
    for library in "${libraries[@]}"; do
      # Packages name their files as they were before /lib became a link to /usr/lib, or after it.
      file=$(readlink -f "$library")
      dpkg-query --search "$library" "$file" "${file#/usr}" "/usr$library" 2>/dev/null | sed 's/:.*//' || true
    done
  } | sort -u | while read -r package; do
    dpkg-query --status "$package" >"$ROOT/var/lib/dpkg/status.d/$package"
  done
fi

# The same files make the same layer, whenever it is built: one, for a file that is copied into a directory of the layer
# below would give that directory the time of the copy.
find "$ROOT" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH:-0}" {} +
