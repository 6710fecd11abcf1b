#!/usr/bin/env bash
# Builds libhook and runs its tests on the fake driver: the quick ones, or with --long chaos, sanitizers and fuzzers too.
#   libhook/run-tests.sh [--long]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
say() { printf '\033[2m· %s\033[0m\n' "$*" >&2; }
tools/packages.sh hook
cd libhook
[ -f build/build.ninja ] || meson setup build >build-setup.log 2>&1 || { cat build-setup.log >&2; rm -rf build build-setup.log; exit 1; }
rm -f build-setup.log
ninja -C build -j 2 --quiet
say "unit tests (CMocka)"
meson test -C build --no-rebuild --quiet --print-errorlogs
say "victims on the fake driver"
python -m pytest tests/suite -q -p no:cacheprovider --import-mode=prepend -o addopts= -o timeout=150 -n 2
[ "${1:-}" = --long ] || exit 0

say "chaos: 256 processes for two minutes"
LIBHOOK_CHAOS=120:256 python -m pytest tests/suite/test_memory.py -k chaos -q -s -p no:cacheprovider -o addopts= -o timeout=400
for kind in address,undefined thread; do
  say "sanitizer: $kind"
  folder=build-${kind%%,*}
  [ -f "$folder/build.ninja" ] || meson setup "$folder" -Db_sanitize="$kind" -Dbuildtype=debug -Doptimization=1 \
    -Dcu_headers="$(dirname "$(find "$PWD/build/headers" -name cudaTypedefs.h | head -1)")" \
    -Dnvml_headers="$(dirname "$(find "$PWD/build/headers" -name nvml.h | head -1)")" >/dev/null
  ninja -C "$folder" -j 2 --quiet
  meson test -C "$folder" --no-rebuild --quiet --print-errorlogs
done
