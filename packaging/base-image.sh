#!/bin/bash
# Makes a small Debian 12 image from this machine's own apt mirror and prints its name: for building and testing
# where no registry can be reached.
#
#   packaging/base-image.sh [PACKAGE…]        e.g. packaging/base-image.sh python3-minimal
#   podman build --build-arg BASE="$(packaging/base-image.sh)" --network=host -f packaging/Containerfile .
#
# The image's name carries a hash of everything that went into it, so it is made once (about 30 s) and found again
# after that. It bears the label modal-agent.cache; `podman image prune --all --filter label=modal-agent.cache`
# removes it. Its apt works like this machine's: same mirror, same keyring, same proxy.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die() {
  printf 'base-image: error: %s\n' "$*" >&2
  exit 1
}

for tool in podman mmdebstrap; do
  command -v "$tool" >/dev/null || die "$tool is needed; packaging/setup.sh installs it"
done

# How this machine's apt reaches its mirrors, as a configuration file.
apt_transport() {
  apt-config dump --format '%F "%v";%n' Acquire |
    grep -E '^Acquire::((https?|ftp)::(.*::)?(Proxy|Verify-Peer|Verify-Host|CaInfo)|Check-Valid-Until|Check-Date|Retries) ' |
    grep -v ' "";$' || true
}

codename=bookworm
packages=$(
  IFS=,
  printf '%s' "$*"
)
# On a Debian 12 the machine's own entries, all of them; elsewhere the one mirror with the other release's name.
if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then
  entries=$("$here/apt-entries.pl" list) || die "apt's configuration names no Debian mirror"
else
  entries=$("$here/apt-entries.pl" suite "$codename") || die "apt's configuration names no Debian mirror"
fi
kind=${entries%%$'\n'*}
entries=${entries#*$'\n'}
transport=$(apt_transport)

hash=$(printf '%s\n' "$packages" "$entries" "$transport" "$(cat "${BASH_SOURCE[0]}")" | sha256sum | cut -c1-12)
image=localhost/modal-agent-base:$codename-$hash
if podman image exists "$image"; then
  printf '%s\n' "$image"
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '%s\n' "$entries" >"$work/debian.$kind"
printf '%s\n' "$transport" >"$work/transport.conf"

options=(
  --variant=apt --format=tar
  --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"'
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*'
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright'
  # Java's packages link their manual pages into it and fail without.
  --essential-hook="mkdir -p \"\$1/usr/share/man/man1\""
)
while IFS= read -r line; do
  if [[ -n $line ]]; then options+=(--aptopt="${line%;}"); fi
done <"$work/transport.conf"
if [[ -n $packages ]]; then options+=(--include="$packages"); fi
# Over https the image's apt must trust whom this machine trusts, a company's own authority included.
if grep -q 'https://' "$work/debian.$kind"; then
  options+=(--include=ca-certificates)
  if [[ -r /etc/ssl/certs/ca-certificates.crt ]]; then
    options+=(--customize-hook='upload /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt')
  fi
fi
while IFS= read -r keyring; do
  case "$keyring" in
    /usr/share/keyrings/debian-archive-*) ;;  # comes with the image's own package
    ?*) options+=(--customize-hook="mkdir -p \"\$1$(dirname "$keyring")\"" --customize-hook="upload $keyring $keyring") ;;
  esac
done < <("$here/apt-entries.pl" keyrings)

printf 'base-image: making %s\n' "$image" >&2
mmdebstrap --quiet "${options[@]}" "$codename" "$work/root.tar" "$work/debian.$kind" >"$work/log" 2>&1 || {
  sed 's/^/  /' "$work/log" >&2
  die "mmdebstrap failed; see the lines above"
}
podman import --quiet --change 'LABEL modal-agent.cache=base' --change 'CMD ["/bin/bash"]' \
  "$work/root.tar" "$image" >/dev/null || die "podman import failed; see the lines above"
printf '%s\n' "$image"
