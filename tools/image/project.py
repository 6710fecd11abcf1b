"""This tree as a layer: its wheel, the command `poolmgr`, and libhook."""

import zipfile
from pathlib import Path

from tools.image import layer
from tools.image.command import ROOT, run
from tools.image.environment import UV, Architecture, Interpreter

LIBRARY = "opt/poolmgr/lib/libvgpu.so"
"""Where the agent looks for it: `poolmgr.agent.hook_install.HookPlace`."""
COMMAND = """\
#!/usr/bin/python3
import sys

from poolmgr.cli.main import app

sys.exit(app())
"""


def build_wheel(
    tools: Path, scratch: Path, epoch: int, libhook: Path | None = None, platform: str = "any"
) -> Path:
    """The tree's wheel, by the build backend that uv.lock pins, which is in the environment `tools`. With `libhook`: for
    `platform`, and with that library inside (tools/packaging/hatch_build.py)."""
    inside = {"POOLMGR_WHEEL_LIBRARY": str(libhook), "POOLMGR_WHEEL_PLATFORM": platform} if libhook else {}
    run(
        [
            str(UV), "build", "--quiet", "--wheel", "--no-build-isolation", "--python", str(tools / "bin/python"),
            "--out-dir", str(scratch),
        ],
        {"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": str(epoch), **inside},
    )  # fmt: skip
    (wheel,) = scratch.glob("*.whl")
    return wheel


def build_libhook(folder: Path, architecture: Architecture) -> Path:
    """libvgpu.so for that processor, built in `folder` by libhook's own meson.build, without debugging symbols."""
    meson, ninja = (str(ROOT / ".venv/bin" / name) for name in ("meson", "ninja"))
    prefix = "" if architecture.native else f"{architecture.triplet}-"
    if not (folder / "build.ninja").exists():
        cross = [] if architecture.native else ["--cross-file", str(ROOT / "libhook/arm64.ini")]
        run(
            [meson, "setup", "--wipe" if folder.exists() else "--reconfigure", str(folder), "libhook", *cross]
        )
    run([ninja, "-C", str(folder), "libvgpu.so"])
    shipped = folder / "shipped.so"
    run([f"{prefix}strip", "--strip-unneeded", "-o", str(shipped), str(folder / "libvgpu.so")])
    return shipped


def project(
    interpreter: Interpreter, wheel: Path, libhook: Path, scratch: Path, target: Path, epoch: int
) -> layer.Layer:
    """A wheel of pure Python is installed by unpacking it; uv would note in it where it lay on this machine."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(scratch / interpreter.site_packages)
    interpreter.compile(scratch)
    command = scratch / "usr/local/bin/poolmgr"
    command.parent.mkdir(parents=True)
    command.write_text(COMMAND)
    command.chmod(0o755)
    library = scratch / LIBRARY
    library.parent.mkdir(parents=True)
    library.write_bytes(libhook.read_bytes())
    library.chmod(0o755)
    return layer.from_folder(scratch, target, epoch)
