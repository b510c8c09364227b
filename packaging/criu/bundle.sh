#!/bin/bash
# Makes a CRIU that runs in any container: a folder with its own loader and libraries, to be copied or mounted
# anywhere, read-only too.
#
#   packaging/criu/bundle.sh DIR     then: DIR/criu check
#
# Needs apt, dpkg, perl and a C compiler (packaging/setup.sh), a network on the first run, and no root. A folder that
# is whole and was made by this very recipe is left as it is; remove it to have it made anew, from newer packages.
#
# CRIU and its libraries, libc included, are Debian 13's, the oldest release whose CRIU knows today's kernels. They
# are downloaded through a private apt configuration, made from this machine's own (same mirror, keys and proxy), are
# checked by apt, and are unpacked but never installed.
#
#   DIR/criu        starts bin/criu with what is in lib/ (launcher.c)
#   DIR/bin, lib    CRIU; the loader, the libraries that CRIU needs and no other, passcred.so (passcred.c), and what
#                   stands in for GnuTLS and nftables (absent.c)
#   DIR/copyright   of every package
#   DIR/MANIFEST    `build ID` first, a hash of all the rest; then recipe, packages with versions, files with sha256
set -euo pipefail
umask 022
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=trixie

say() { printf 'criu-bundle: %s\n' "$*" >&2; }
die() {
  printf 'criu-bundle: error: %s\n' "$*" >&2
  exit 1
}

# Runs a command. Its output goes to `output`, and is shown if the command fails, followed by what that means.
try() {  # WHAT COMMAND…
  local what=$1
  shift
  output=$("$@" 2>&1 </dev/null) && return
  printf '%s\n' "$output" | sed 's/^/  /' >&2
  if grep -qiE 'no space left|not have enough free space' <<<"$output"; then what+=" (the disk is full)"; fi
  die "$what; see the lines above"
}

# ---- is it there already? ----

recipe_hash() {
  cat "$here/bundle.sh" "$here/launcher.c" "$here/passcred.c" "$here/absent.c" | sha256sum | cut -c1-16
}

is_whole() {
  [[ -f $dir/MANIFEST ]] && grep -qxF "recipe $recipe" "$dir/MANIFEST" &&
    (cd "$dir" && sed -n 's/^file //p' MANIFEST | sha256sum --check --strict --status)
}

# ---- the packages ----

private_apt() {
  local entry
  entry=$("$here/../apt-entries.pl" suite "$suite" "$arch") ||
    die "could not tell from apt's configuration which mirror this machine uses"
  mkdir -p "$work"/apt/{lists,archives,empty}/partial
  : >"$work/apt/status"
  # In the order of the words, the file's extension and its contents.
  printf '%s\n' "${entry#*$'\n'}" >"$work/apt/debian.${entry%%$'\n'*}"
  # Nothing is installed here, so whatever the machine does before and after installing is none of our business.
  cat >"$work/apt/conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Default-Release;
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::AllowUnauthenticated "false";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Dir::State "$work/apt";
Dir::State::lists "$work/apt/lists";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt";
Dir::Cache::archives "$work/apt/archives";
Dir::Etc::sourcelist "$work/apt/debian.${entry%%$'\n'*}";
Dir::Etc::sourceparts "$work/apt/empty";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$work/apt/empty";
CONF
}

download() {
  local apt=(apt-get -q -o Dpkg::Use-Pty=0 -c "$work/apt/conf")
  say "downloading Debian 13's criu and its libraries"
  try "this machine's mirror does not give the package list of Debian 13 ($suite)" "${apt[@]}" update
  try "criu could not be downloaded" "${apt[@]}" install -y --download-only criu
}

unpack() {
  local deb
  mkdir "$work/root"
  for deb in "$work"/apt/archives/*.deb; do
    try "${deb##*/} could not be unpacked" dpkg -x "$deb" "$work/root"
  done
}

# ---- the bundle ----

flags=(-std=gnu11 -D_GNU_SOURCE -Os -Wall -Wextra -Werror -s "-Wl,--build-id=none")

compile() {
  local cc=${CC:-cc}
  try "launcher.c does not compile" "$cc" "${flags[@]}" -static -o "$bundle/criu" "$here/launcher.c"
  try "passcred.c does not compile" "$cc" "${flags[@]}" -shared -fPIC -Wl,-z,relro,-z,now \
    -o "$bundle/lib/passcred.so" "$here/passcred.c"
  absent GNUTLS libgnutls.so.30 GNUTLS_3_4
  absent NFTABLES libnftables.so.1 LIBNFTABLES_1
}

# A library of absent.c, which CRIU finds under the name and the symbol version that it asks for.
absent() {  # WHICH LIBRARY VERSION
  echo "$3 { global: *; };" >"$work/version"
  try "absent.c does not compile" "${CC:-cc}" "${flags[@]}" -shared -fPIC -nostdlib "-DABSENT_$1" \
    "-Wl,-soname,$2" "-Wl,--version-script,$work/version" -o "$bundle/lib/$2" "$here/absent.c"
}

# CRIU, and of all the libraries those that it needs, as its own loader sees it.
gather() {
  local root=$work/root loader libraries needed name path
  loader=$(echo "$root"/usr/lib/*/ld-linux*.so.*)
  libraries=${loader%/*}
  path=$root/usr/sbin/criu
  [[ -f $loader && -f $path ]] || die "Debian's packages do not hold what they did: no criu or no loader in them"
  cp "$path" "$bundle/bin/criu"
  cp -L "$loader" "$bundle/lib/ld.so"
  try "criu's libraries are not complete" \
    "$bundle/lib/ld.so" --inhibit-cache --library-path "$bundle/lib:$libraries" --list "$bundle/bin/criu"
  needed=$(sed -n 's/^[[:space:]]*\([^ ]*\) => \(.*\) (0x[0-9a-f]*)$/\1 \2/p' <<<"$output")
  while read -r name path; do
    case "$path" in
      "$loader" | "$bundle/lib/"*) ;;
      "$libraries"/*) cp -L "$path" "$bundle/lib/$name" ;;
      *) die "criu's library $name is in none of its packages, but at $path" ;;
    esac
  done <<<"$needed"
  [[ -f $bundle/lib/libc.so.6 ]] || die "criu's loader lists no libc:"$'\n'"$needed"
}

copyrights() {
  local package
  for package in "$work"/root/usr/share/doc/*/copyright; do
    cp -L "$package" "$bundle/copyright/$(basename "$(dirname "$package")")"
  done
}

write_manifest() {
  local deb
  {
    printf 'recipe %s\n' "$recipe"
    for deb in "$work"/apt/archives/*.deb; do
      # shellcheck disable=SC2016  # dpkg-deb's own variables
      dpkg-deb --show --showformat='package ${Package} ${Version} ${Architecture}\n' "$deb"
    done | sort
    (cd "$bundle" && find . -type f ! -name MANIFEST -printf '%P\0' | sort -z | xargs -0 sha256sum) | sed 's/^/file /'
  } >"$work/manifest"
  {
    printf 'build %s\n' "$(sha256sum "$work/manifest" | cut -c1-16)"
    cat "$work/manifest"
  } >"$bundle/MANIFEST"
}

make_bundle() {
  bundle=$work/bundle
  mkdir -p "$bundle"/{bin,lib,copyright}
  private_apt
  download
  unpack
  compile
  gather
  copyrights
  chmod -R u=rwX,go=rX "$bundle"
  # With all its symbols, the absent ones included.
  try "the bundle's criu does not run" env LD_BIND_NOW=1 "$bundle/lib/ld.so" --inhibit-cache \
    --library-path "$bundle/lib" "$bundle/bin/criu" --version
  try "the bundle's criu does not run" "$bundle/criu" --version
  write_manifest
}

# ---- main ----

if [[ $# -ne 1 || $1 == -* || -z $1 ]]; then
  sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
  [[ ${1:-} == -h || ${1:-} == --help ]]
  exit
fi
for tool in apt-get apt-config dpkg dpkg-deb perl "${CC:-cc}" flock; do
  command -v "$tool" >/dev/null || die "$tool is needed, of a Debian that packaging/setup.sh has set up"
done
mkdir -p "$(dirname "$1")" || die "there can be no folder $1"
dir=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
arch=$(dpkg --print-architecture)
recipe=$(recipe_hash)
# One at a time: who comes second finds what the first has made.
exec {lock}<"$(dirname "$dir")"
flock "$lock"
if is_whole; then exit 0; fi
if [[ -e $dir && ! -f $dir/MANIFEST ]] && ! rmdir "$dir" 2>/dev/null; then
  die "$dir is there already, and it is no CRIU bundle"
fi
# Beside the folder, so that it gets there by one rename; left behind by a kill -9 it is removed by the next run.
work=$dir.partial
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
mkdir "$work" || die "$(dirname "$dir") is not writable"
make_bundle
rm -rf "$dir"
mv "$bundle" "$dir"
say "made $dir: $(sed -n 's/^package criu \([^ ]*\) .*/criu \1/p;s/^build /build /p' "$dir/MANIFEST" | paste -sd' '), $(du -sh "$dir" | cut -f1)"
