#!/usr/bin/env bash
# Makes this checkout ready: uv (pinned), the locked Python environment in .venv; outside the checkout only caches.
set -euo pipefail
cd "$(dirname "$0")/.."
UV_VERSION=0.13.9
say() { printf '\033[2m· %s\033[0m\n' "$*" >&2; }

python=$(command -v python3 || true)
[ -n "$python" ] || { echo "python3 is missing: install Python 3.11 or newer (Debian/Ubuntu: apt-get install python3 python3-venv)" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "$("$python" -V) is too old: poolmgr needs Python 3.11 or newer" >&2; exit 1; }

mkdir -p .venv
exec 9>.venv/.setup-lock
if command -v flock >/dev/null; then flock 9; fi # two `make`s in a fresh checkout
cache=${UV_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/nowhere}/.cache}/uv}
mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] || export UV_CACHE_DIR=$PWD/.venv/uv-cache
if [ ! -x .venv/tools/bin/uv ]; then
  say "installing uv $UV_VERSION into .venv/tools"
  "$python" -m venv .venv/tools >/dev/null 2>&1 || {
    # Debian and Ubuntu ship venv apart from python3; tools/packages.sh installs it where it may.
    tools/packages.sh python && "$python" -m venv .venv/tools; }
  .venv/tools/bin/pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
fi
stamp=.venv/.lock-stamp
if ! cmp -s uv.lock "$stamp"; then
  say "installing the locked Python packages into .venv"
  # The folder is there already, with the tools in it: `uv sync` alone would refuse it on a fresh checkout.
  [ -x .venv/bin/python ] || .venv/tools/bin/uv venv --quiet --allow-existing --python "$python" .venv
  # Without --python: a shim (pyenv) is no path that uv finds again in the environment, and it would make it anew.
  .venv/tools/bin/uv sync --frozen --quiet
  cp uv.lock "$stamp"
fi
