"""Builds the image, or makes its lock of Debian packages anew.

python -m tools.image                        # for this machine's processor, into build/image
python -m tools.image --arch amd64 arm64     # both; a foreign one needs qemu-user-static and binfmt_misc
python -m tools.image --lock                 # take today's versions of the Debian packages; commit the change
"""

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from e2e.cache import CacheUnusable
from tools.image import debian
from tools.image.build import build, said
from tools.image.command import ROOT, StepFailed
from tools.image.environment import ARCHITECTURES


def main() -> None:
    native = [name for name, item in ARCHITECTURES.items() if item.native]
    parser = argparse.ArgumentParser(
        prog="python -m tools.image",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--arch",
        nargs="+",
        choices=list(ARCHITECTURES),
        default=native,
        help="processors; default: this machine's",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build/image", help="default: build/image")
    parser.add_argument("--lock", action="store_true", help="write the lock files of all processors and stop")
    wanted = parser.parse_args()
    try:
        if wanted.lock:
            for name in ARCHITECTURES:
                with said(f"image: today's Debian packages for {name}"):
                    lock = debian.resolve(name, datetime.now(UTC).date())
                    debian.lock_file(name).write_text(debian.format_lock(lock))
            return
        for name in wanted.arch:
            built = build(ARCHITECTURES[name], wanted.out)
            print(f"{built.name} ({name}, {built.megabytes:.0f} MB)  {built.digest}")
            print(f"  {os.path.relpath(built.archive)}\n  {os.path.relpath(built.sbom)}")
    except (StepFailed, CacheUnusable, OSError) as failed:
        sys.exit(f"no image: {failed}")


if __name__ == "__main__":
    main()
