#!/usr/bin/env bash
# Builds libhook and runs its tests on the fake driver.
#   libhook/run-tests.sh                         unit tests and programs: some three minutes
#   libhook/run-tests.sh --booted [SECONDS]      the same programs on a machine that has been up for so long (60 s)
#   libhook/run-tests.sh --busy [PROCESSES]      the same programs beside busy processes (4)
#   libhook/run-tests.sh --chaos [SECONDS]       256 processes killed, stopped, forked and exec'd at random (200 s)
#   libhook/run-tests.sh --shares                ten seconds of every kind of work at limits of 5 to 95 % (long)
#   libhook/run-tests.sh --sanitize address|undefined|thread   (thread: clang's)
#   libhook/run-tests.sh --headers               hooks.def against the headers of CUDA 11.8, 12.4 and 12.8 (from PyPI)
#   libhook/run-tests.sh --arm64                 built for arm64, run by qemu
#   libhook/run-tests.sh --fuzz [RUNS]           configuration, environment and region file (200000 runs each; clang)
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
say() { printf '\033[2m· %s\033[0m\n' "$*" >&2; }
suite() { python -m pytest -q "$@"; } # by pytest.ini beside this file
build() { # FOLDER MESON-OPTION…
  local folder=$1; shift
  exec 9>"$folder.lock"; flock 9 # another run in this checkout builds there, too
  [ -f "$folder/build.ninja" ] || meson setup "$folder" "$@" >"$folder.log" 2>&1 || { cat "$folder.log" >&2; rm -rf "$folder" "$folder.log"; exit 1; }
  rm -f "$folder.log"
  ninja -C "$folder" -j 2 --quiet
  exec 9>&-
}
case "$PWD" in *[[:space:]:]*) echo "libhook's tests cannot run in $PWD: LD_PRELOAD takes no path with a space or a colon. Move the checkout" >&2; exit 1 ;; esac
tools/packages.sh hook
cd libhook
what=${1:-}
case "$what" in ''|--booted|--busy|--chaos|--shares|--sanitize|--arm64|--fuzz|--headers) ;; *) sed -n '2,11s/^# *//p' run-tests.sh >&2; exit 2 ;; esac
build build
same_headers=(-Dcu_headers="$(dirname "$(find "$PWD/build/headers" -name cudaTypedefs.h | head -1)")"
  -Dnvml_headers="$(dirname "$(find "$PWD/build/headers" -name nvml.h | head -1)")")

case "$what" in
'')
  say "unit tests (CMocka)"
  meson test -C build --no-rebuild --quiet --print-errorlogs
  say "programs on the fake driver"
  suite tests/suite -n 2
  ;;
--booted)
  say "programs on the fake driver, on a machine that has been up for ${2:-60} s"
  own_users=$([ "$(id -u)" -eq 0 ] || echo --user --map-root-user)
  # shellcheck disable=SC2086
  unshare $own_users --time --monotonic=$((${2:-60} - $(cut -d. -f1 /proc/uptime))) --fork \
    python -m pytest -q tests/suite -n 2
  ;;
--busy)
  ../tools/packages.sh busy
  say "programs on the fake driver, beside ${2:-4} busy processes"
  stress-ng --quiet --cpu "${2:-4}" &
  trap 'kill $!' EXIT
  suite tests/suite -n 2
  ;;
--chaos)
  say "chaos: 256 processes for ${2:-200} s"
  LIBHOOK_CHAOS=${2:-200}:256 suite tests/suite/test_memory.py -k chaos -s -o timeout=$((${2:-200} + 200))
  ;;
--shares)
  say "shares: ten virtual seconds of everything"
  LIBHOOK_WHOLE=1 suite tests/suite/test_compute_share.py -o timeout=1000 -n 2 --durations=5
  ;;
--sanitize)
  kind=${2:?address, undefined or thread}
  case "$kind" in
    address) runtime=asan ;; undefined) runtime=ubsan ;;
    thread) ../tools/packages.sh fuzz; export CC=clang ;; # gcc 12's runtime holds its locks over a fork with handlers
    *) echo "no such sanitizer: $kind" >&2; exit 2 ;;
  esac
  build "build-$kind" -Db_sanitize="$kind" -Dbuildtype=debug -Doptimization=1 -Dchecks=true "${same_headers[@]}"
  # gcc's runtime has to come first in programs that are preloaded into; clang's is part of the programs. Leaks are not
  # looked for: the fake driver and the programs keep what they have until they end, as drivers do.
  LIBHOOK_SANITIZER_RUNTIME=$([ "$kind" = thread ] || gcc -print-file-name="lib$runtime.so")
  export LIBHOOK_SANITIZER_RUNTIME LIBHOOK_SANITIZER=$kind LIBHOOK_BUILD="$PWD/build-$kind" LIBHOOK_HEADERS="$PWD/build/headers"
  # Symbols are not looked up meanwhile: the program that does it would be preloaded into as well.
  export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1:symbolize=0:die_after_fork=0
  meson test -C "build-$kind" --no-rebuild --quiet --print-errorlogs
  suite tests/suite -k "not exports and not constructor" -o timeout=1200 -n 2
  ;;
--arm64)
  ../tools/packages.sh arm64
  cmocka=$PWD/build/cmocka-arm64 apt=(-o Dir::State="$PWD/build/apt" -o Dir::Cache="$PWD/build/apt" -o Dir::State::status=/dev/null
    -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root -qq)
  if [ ! -d "$cmocka/usr" ]; then # its packages for arm64, unpacked and not installed
    mkdir -p build/apt/lists/partial build/apt/archives/partial "$cmocka"
    apt-get "${apt[@]}" update && (cd build/apt && apt-get "${apt[@]}" download libcmocka0 libcmocka-dev)
    for package in build/apt/*.deb; do dpkg-deb -x "$package" "$cmocka"; done
  fi
  libraries=$cmocka/usr/lib/aarch64-linux-gnu
  build build-arm64 --cross-file arm64.ini "${same_headers[@]}" -Dc_args="-I$cmocka/usr/include" -Dc_link_args="-L$libraries"
  export LIBHOOK_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu" NM=aarch64-linux-gnu-nm
  export LIBHOOK_BUILD="$PWD/build-arm64" LIBHOOK_HEADERS="$PWD/build/headers"
  LD_LIBRARY_PATH=$libraries meson test -C build-arm64 --no-rebuild --quiet --print-errorlogs
  # What execs itself or another program needs a kernel that knows arm64; the rest is told by the default run.
  suite tests/suite/test_{interposition,memory,queries,threads}.py tests/suite/test_compute_share.py -n 2 \
    -k "not chaos and not every_descriptor and not without_a_gpu_are and not killed_before and not test_compute_share or within_two_points and sync"
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
