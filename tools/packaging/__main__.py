"""Builds wheels, debs and rpms into build/packages.

python -m tools.packaging                      # for this machine's processor
python -m tools.packaging --arch amd64 arm64   # both; a foreign one needs its cross-compiler (tools/packages.sh arm64)
"""

import argparse
import os
import sys
from pathlib import Path

from e2e.cache import CacheUnusable
from tools.image.command import ROOT, StepFailed
from tools.image.environment import ARCHITECTURES, native
from tools.packaging.build import build


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.packaging",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--arch",
        nargs="+",
        choices=list(ARCHITECTURES),
        default=[native().debian],
        help="processors; default: this machine's",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build/packages", help="default: build/packages")
    wanted = parser.parse_args()
    try:
        for package in build([ARCHITECTURES[name] for name in wanted.arch], wanted.out):
            print(os.path.relpath(package))
    except (StepFailed, CacheUnusable, OSError) as failed:
        sys.exit(f"no packages: {failed}")


if __name__ == "__main__":
    main()
