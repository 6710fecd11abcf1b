#!/usr/bin/env bash
# Installs the Debian/Ubuntu packages of the named groups where it may (root or passwordless sudo);
# otherwise prints the command and fails. Nothing happens when all are there.
#   tools/packages.sh python node browser hook fuzz arm64 bench busy image image-arm64 packages database parts alerts
set -euo pipefail
declare -A groups=(
  [python]="python3-venv"
  [node]="gcc libc6-dev qemu-system-x86 linux-image-amd64 busybox-static e2fsprogs file iproute2 kmod pciutils containerd runc containernetworking-plugins"
  [browser]="chromium"
  [hook]="gcc g++ pkg-config libcmocka-dev"
  [fuzz]="clang libclang-rt-dev"
  [arm64]="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static"
  [bench]="wrk"
  [busy]="stress-ng"
  [image]="mmdebstrap debian-archive-keyring binutils git"
  [image-arm64]="arch-test binfmt-support qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
  [packages]="dpkg git rpm"
  [database]="postgresql"
  [parts]="skopeo"
  [alerts]="prometheus"
)
missing=()
for group in "$@"; do
  for package in ${groups[$group]:?"no such group: $group (have: ${!groups[*]})"}; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
done
[ ${#missing[@]} -eq 0 ] && exit 0
command -v apt-get >/dev/null || { echo "missing: ${missing[*]} (no apt-get here: install them by this system's means)" >&2; exit 1; }
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n); else
    printf 'missing system packages: %s\nrun: sudo apt-get install -y --no-install-recommends %s\n' "${missing[*]}" "${missing[*]}" >&2
    exit 1
  fi
fi
echo "· installing system packages: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
