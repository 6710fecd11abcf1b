#!/usr/bin/env bash
# Builds libhook and runs its tests on the fake driver.
#   libhook/run-tests.sh                         unit tests and victims: about two minutes
#   libhook/run-tests.sh --chaos [SECONDS]       256 processes killed, stopped, forked and exec'd at random (200 s)
#   libhook/run-tests.sh --sanitize address|undefined|thread   (thread: clang's)
#   libhook/run-tests.sh --headers               hooks.def against the headers of CUDA 11.8, 12.4 and 12.8 (from PyPI)
#   libhook/run-tests.sh --fuzz [RUNS]           configuration, environment and region file (200000 runs each; clang)
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
say() { printf '\033[2m· %s\033[0m\n' "$*" >&2; }
suite() { python -m pytest -q -p no:cacheprovider --import-mode=prepend -o addopts= "$@"; }
build() { # FOLDER MESON-OPTION…
  local folder=$1; shift
  [ -f "$folder/build.ninja" ] || meson setup "$folder" "$@" >"$folder.log" 2>&1 || { cat "$folder.log" >&2; rm -rf "$folder" "$folder.log"; exit 1; }
  rm -f "$folder.log"
  ninja -C "$folder" -j 2 --quiet
}
tools/packages.sh hook
cd libhook
what=${1:-}
case "$what" in ''|--chaos|--sanitize|--fuzz|--headers) ;; *) sed -n '2,7s/^# *//p' "$0" >&2; exit 2 ;; esac
build build
same_headers=(-Dcu_headers="$(dirname "$(find "$PWD/build/headers" -name cudaTypedefs.h | head -1)")"
  -Dnvml_headers="$(dirname "$(find "$PWD/build/headers" -name nvml.h | head -1)")")

case "$what" in
'')
  say "unit tests (CMocka)"
  meson test -C build --no-rebuild --quiet --print-errorlogs
  say "victims on the fake driver"
  suite tests/suite -o timeout=150 -n 2
  ;;
--chaos)
  say "chaos: 256 processes for ${2:-200} s"
  LIBHOOK_CHAOS=${2:-200}:256 suite tests/suite/test_memory.py -k chaos -s -o timeout=$((${2:-200} + 200))
  ;;
--sanitize)
  kind=${2:?address, undefined or thread}
  case "$kind" in
    address) runtime=asan ;; undefined) runtime=ubsan ;;
    thread) ../tools/packages.sh fuzz; export CC=clang ;; # gcc 12's runtime holds its locks over a fork with handlers
    *) echo "no such sanitizer: $kind" >&2; exit 2 ;;
  esac
  build "build-$kind" -Db_sanitize="$kind" -Dbuildtype=debug -Doptimization=1 "${same_headers[@]}"
  # gcc's runtime has to come first in programs that are preloaded into; clang's is part of the victims. Leaks are not
  # looked for: the fake driver and the victims keep what they have until they end, as drivers do.
  LIBHOOK_SANITIZER=$([ "$kind" = thread ] || gcc -print-file-name="lib$runtime.so")
  export LIBHOOK_SANITIZER LIBHOOK_BUILD="$PWD/build-$kind" LIBHOOK_HEADERS="$PWD/build/headers"
  # Symbols are not looked up meanwhile: the program that does it would be preloaded into as well.
  export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1:symbolize=0
  meson test -C "build-$kind" --no-rebuild --quiet --print-errorlogs
  # ThreadSanitizer's own pthread_create and sleeps hide those of the fake clock, so what runs in virtual time (the
  # shares and modes of compute) is left out; the same code runs in real time in test_threads and beside the killed.
  tests=(tests/suite -k "not exports and not constructor")
  [ "$kind" = thread ] && tests=(tests/suite/test_{threads,memory,interposition,bypasses}.py
    tests/suite/test_compute_share.py -k "not exports and not constructor and not test_compute_share or killed_before")
  suite "${tests[@]}" -o timeout=400 -n 2
  ;;
--headers)
  python gen/check_headers.py build/other-headers "${same_headers[0]#*=}" "${same_headers[1]#*=}"
  ;;
--fuzz)
  ../tools/packages.sh fuzz
  CC=clang build build-fuzz -Dfuzzers=true "${same_headers[@]}"
  for target in environment configuration region; do
    say "fuzzing: $target, ${2:-200000} runs"
    mkdir -p "build-fuzz/found/$target"
    build-fuzz/tests/fuzz/fuzz_$target -runs="${2:-200000}" -seed=1 -max_len=4096 -print_final_stats=1 \
      -artifact_prefix="build-fuzz/found/$target-" "build-fuzz/found/$target" "tests/fuzz/seeds/$target" 2>&1 | grep -E "stat::number|ERROR|SUMMARY" || true
    if ls build-fuzz/found/$target-* >/dev/null 2>&1; then echo "found: $(ls build-fuzz/found/$target-*)" >&2; exit 1; fi
  done
  ;;
esac
