"""Runs a program that has its files at fixed places (`/config`, `/var/lib/kubelet`, …) in a root of its own.

The root is made of this machine's folders, as they are, in a mount namespace of the program's own; some places in it
are a test's folders. It goes with the program.
"""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

SCRIPT = """\
set -e
new=$1; shift
mount -t tmpfs none "$new"
for entry in /* /.[!.]*; do
  name=${entry#/}
  if [ -L "$entry" ]; then ln -s "$(readlink "$entry")" "$new/$name"
  elif [ -d "$entry" ]; then mkdir -p "$new/$name"; mount --rbind "$entry" "$new/$name"
  fi
done
while [ "$1" != -- ]; do
  parent=$1
  while [ ! -d "$new$parent" ]; do parent=${parent%/*}; done
  if [ "$parent" != "$1" ] && [ -n "$parent" ]; then
    was=/.was$(echo "$parent" | tr / .)
    mkdir -p "$new$was"
    mount --rbind "$parent" "$new$was"
    mount -t tmpfs none "$new$parent"
    for entry in "$parent"/*; do ln -s "$was/${entry##*/}" "$new$parent/"; done
  fi
  mkdir -p "$new$1"; mount --bind "$2" "$new$1"; shift 2
done
shift
exec chroot "$new" "$@"
"""


def command(program: list[str], places: Mapping[str, Path], mount_point: Path) -> list[str]:
    """The program's command with `places` (absolute path → a folder of the test) put in; skips where that cannot be.

    Nothing is made on this machine for it: where a place is missing, the nearest folder above it that is there is a new
    one, with links to what is in the machine's.
    """
    if not shutil.which("unshare") or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("no mount namespaces here: the plugin needs a root of its own (run as root)")
    mount_point.mkdir(parents=True, exist_ok=True)
    pairs = [word for place, folder in places.items() for word in (place, str(folder))]
    shell = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SCRIPT, "small-root"]
    return [*shell, str(mount_point), *pairs, "--", *program]
