"""The same sources give the same library, wherever they lie."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import BUILD, LIBHOOK, SANITIZER

HEADERS = Path(os.environ.get("LIBHOOK_HEADERS", BUILD / "headers"))


def built_in(checkout: Path) -> str:
    """sha256 of the library built beside a copy of the sources, as the image's is, with headers of its own."""
    folder, build = checkout / "libhook", checkout / "build/out"
    shutil.copytree(LIBHOOK, folder, ignore=shutil.ignore_patterns("build*", "__pycache__"))
    headers = shutil.copytree(HEADERS, build / "headers")
    cuda, nvml = (next(headers.rglob(name)).parent for name in ("cudaTypedefs.h", "nvml.h"))
    options = [f"-Dcu_headers={cuda}", f"-Dnvml_headers={nvml}"]
    for command in (
        ["meson", "setup", str(build), str(folder), *options],
        ["ninja", "-C", str(build), "libvgpu.so"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return hashlib.sha256((build / "libvgpu.so").read_bytes()).hexdigest()


@pytest.mark.skipif(bool(SANITIZER), reason="what is shipped has no sanitizer")
def test_two_builds_in_different_folders_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    first = built_in(tmp_path / "here")
    assert built_in(tmp_path / "elsewhere/deeper") == first
