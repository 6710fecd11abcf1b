"""Puts NVIDIA's header wheels into a folder: `fetch_headers.py OUT PACKAGE==VERSION…`; prints nothing if all are there.

The headers are not ours to commit. Versions are pinned here by the caller (meson.build); the wheels come from
the package index through its ordinary client (uv where present, else pip).
"""

import shutil
import subprocess
import sys
from pathlib import Path


def client() -> list[str]:
    here = Path(__file__).resolve().parents[2]
    for uv in (here / ".venv/tools/bin/uv", shutil.which("uv")):
        if uv and Path(uv).exists():
            return [str(uv), "pip", "install", "--quiet", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def main() -> None:
    out, wanted = Path(sys.argv[1]), sys.argv[2:]
    for package in wanted:
        folder = out / package
        if (folder / ".complete").exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        done = subprocess.run([*client(), "--no-deps", "--target", str(folder), package], check=False)
        if done.returncode != 0:
            raise SystemExit(
                f"libhook needs the headers of {package} from PyPI and could not fetch them. "
                "Give their folders instead: meson setup -Dcu_headers=DIR -Dnvml_headers=DIR"
            )
        for unneeded in (*folder.rglob("*.so*"), *folder.rglob("*.a")):
            unneeded.unlink()
        (folder / ".complete").touch()


if __name__ == "__main__":
    main()
