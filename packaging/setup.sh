#!/bin/bash
# Installs what building and testing modal-agent needs, on a Debian 12 that has nothing but apt and git.
#
#   packaging/setup.sh               everything: building, testing, containers
#   packaging/setup.sh --build-only  what a build of the release binary needs, no more
#   packaging/setup.sh --quickstart  that, and what packaging/quickstart.sh runs
#
# Idempotent and never asks. Where everything is there already it changes nothing, needs no root and takes a
# fraction of a second. Otherwise it uses apt, through sudo when not root.
#
# llhttp is not in Debian 12. It is taken from Debian 13, where it needs nothing newer than Debian 12 has; the apt
# source for it is made from the machine's own and pinned so low that no other package ever comes from there.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lock_wait=${MODAL_AGENT_APT_WAIT:-600}  # seconds to wait while another program holds apt's locks

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}

usage() {
  sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

# ---- what is wanted ----

read_release() {
  [[ -r /etc/os-release ]] || die "/etc/os-release is missing; this needs Debian 12 (or 13)"
  local ID='' VERSION_ID='' PRETTY_NAME=''
  # shellcheck source=/dev/null
  . /etc/os-release
  case "$ID:$VERSION_ID" in
    debian:12) boost=1.81 clang=14 promtool=prometheus ;;
    debian:13) boost=1.83 clang=19 promtool=promtool ;;
    *) die "this needs Debian 12 (or 13), and here is ${PRETTY_NAME:-an unknown system};" \
      "packaging/Containerfile builds the same binary inside a Debian container" ;;
  esac
}

wanted_packages() {
  packages=(
    g++ cmake ninja-build ccache pkg-config
    libuv1-dev libseccomp-dev libc-ares-dev libllhttp-dev nettle-dev libzstd-dev libxxhash-dev
    "libboost$boost-dev" "libboost-filesystem$boost-dev"
    libcli11-dev libfmt-dev nlohmann-json3-dev doctest-dev
  )
  case "$mode" in
    build) return ;;
    quickstart)
      packages+=(curl python3)
      return
      ;;
  esac
  packages+=(
    clang "libclang-rt-$clang-dev" clang-format clang-tidy shellcheck
    podman runc mmdebstrap
    curl python3 wrk tini dumb-init catatonit
    util-linux bsdutils procps
  )
  # Containers of a user who is not root live in a user namespace and need these, which podman only recommends.
  if ((EUID != 0)); then packages+=(uidmap fuse-overlayfs slirp4netns); fi
  # Node may have come from anywhere, and Debian's npm refuses to stand next to somebody else's nodejs.
  if ! command -v npm >/dev/null && ! command -v node >/dev/null; then packages+=(nodejs npm); fi
}

# Those of `packages` that are not installed, into `missing`.
find_missing() {
  local package state
  local -A installed=()
  while read -r state package; do
    if [[ $state == installed ]]; then installed[$package]=1; fi
  done < <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null)
  missing=()
  for package in "${packages[@]}"; do
    if [[ -z ${installed[$package]:-} ]]; then missing+=("$package"); fi
  done
}

# Prometheus' checker of metrics, wanted without the server that the package around it installs and starts.
wants_promtool() {
  [[ $mode == all ]] && ! command -v promtool >/dev/null && [[ ! -x /usr/local/bin/promtool ]]
}

# ---- apt ----

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# Before anything else, where a message and sudo's question for a password can still be seen.
need_root() {
  local ask=(-v)
  if ((EUID == 0)); then return; fi
  command -v sudo >/dev/null || die "$1, which needs root, and there is no sudo here: run this as root once"
  if [[ ! -t 0 ]]; then ask=(-n true); fi
  sudo "${ask[@]}" || die "$1, which needs root, and sudo refuses: run this as root once"
}

# apt-get, waiting for its locks. apt waits for dpkg's lock itself but gives up at once on its two others.
apt_get() {
  local log status deadline=$((SECONDS + lock_wait)) waiting=''
  log=$(mktemp)
  while true; do
    status=0
    as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -o DPkg::Lock::Timeout="$lock_wait" \
      -o Dpkg::Use-Pty=0 "$@" </dev/null >"$log" 2>&1 || status=$?
    if ((status == 0)); then break; fi
    if ((SECONDS >= deadline)) || ! grep -qE 'Could not get lock|Unable to (acquire|lock)' "$log"; then
      sed 's/^/  /' "$log" >&2
      break
    fi
    if [[ -z $waiting ]]; then say "another program is using apt; waiting for it"; fi
    waiting=yes
    sleep 1
  done
  if grep -E '^W: Failed to fetch' "$log" >&2; then say "some package lists could not be fetched; going on"; fi
  rm -f "$log"
  return "$status"
}

has_candidate() {
  local candidate
  candidate=$(LC_ALL=C apt-cache policy "$1" | sed -n 's/^  Candidate: //p')
  [[ -n $candidate && $candidate != '(none)' ]]
}

write_as_root() {  # FILE, text on stdin
  as_root tee "$1" >/dev/null && as_root chmod 0644 "$1"
}

add_llhttp_source() {
  local kind entry file arch
  arch=$(dpkg --print-architecture)
  entry=$("$here/apt-entries.pl" suite trixie "$arch") ||
    die "could not tell from apt's configuration which mirror this machine uses"
  kind=${entry%%$'\n'*}
  file=/etc/apt/sources.list.d/modal-agent-llhttp.$kind
  say "adding Debian 13 as a source for llhttp alone: $file"
  {
    printf '# Written by modal-agent (packaging/setup.sh) for libllhttp alone;\n'
    printf '# /etc/apt/preferences.d/00modal-agent-llhttp keeps every other package out.\n'
    printf '%s\n' "${entry#*$'\n'}"
  } | write_as_root "$file"
  write_as_root /etc/apt/preferences.d/00modal-agent-llhttp <<'PIN'
Explanation: Written by modal-agent (packaging/setup.sh).
Package: *
Pin: release n=trixie
Pin-Priority: -1

Explanation: llhttp is not in Debian 12.
Package: libllhttp-dev libllhttp9.2
Pin: release n=trixie
Pin-Priority: 500
PIN
  # Only this source, and strictly: without it nothing builds.
  if ! apt_get update -o Dir::Etc::sourcelist="$file" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 \
    -o APT::Update::Error-Mode=any; then
    as_root rm -f "$file" /etc/apt/preferences.d/00modal-agent-llhttp
    die "this machine's mirror does not serve Debian 13 (trixie), from which llhttp comes; see the lines above." \
      "Install libllhttp-dev by hand, then run this again"
  fi
}

install_packages() {
  need_root "these packages are missing: ${missing[*]}"
  say "installing: ${missing[*]}"
  apt_get update || die "apt-get update failed; see the lines above"
  if [[ " ${missing[*]} " == *' libllhttp-dev '* ]] && ! has_candidate libllhttp-dev; then add_llhttp_source; fi
  apt_get install -y --no-install-recommends "${missing[@]}" || die "apt-get install failed; see the lines above"
}

install_promtool() {
  need_root "promtool is missing"
  say "fetching promtool out of Debian's $promtool package"
  local folder
  folder=$(mktemp -d)
  chmod 0755 "$folder"
  if ! has_candidate "$promtool"; then apt_get update || die "apt-get update failed; see the lines above"; fi
  # Downloaded as root, not as the user that apt drops to: the folder is ours alone.
  (cd "$folder" && apt_get download -o APT::Sandbox::User=root "$promtool") ||
    die "apt-get download $promtool failed; see the lines above"
  dpkg-deb --fsys-tarfile "$folder"/*.deb | tar -x -C "$folder" ./usr/bin/promtool
  as_root install -D -m 0755 "$folder/usr/bin/promtool" /usr/local/bin/promtool
  as_root rm -rf "$folder"
}

# ---- main ----

mode=all
for word in "$@"; do
  case "$word" in
    --build-only) mode=build ;;
    --quickstart) mode=quickstart ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) die "unknown option '$word'; there are --build-only, --quickstart and --help" ;;
  esac
done

read_release
wanted_packages
find_missing
if ((${#missing[@]} > 0)); then install_packages; fi
if wants_promtool; then install_promtool; fi
