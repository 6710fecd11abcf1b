"""The fake `libnvidia-ml.so.1` by itself: built once from libhook's sources into the cache, with nothing but gcc.

    environment(state) makes a program load it: {"LD_LIBRARY_PATH": …, "FAKE_NVML_STATE": state}

What it shows is in the state file (`state.py`); what it does is held to NVML's documentation by the tests beside this file.
"""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from e2e.cache import PROJECT_ROOT, cache_folder, locked
from e2e.parts import PartMissing

LIBRARY = "libnvidia-ml.so.1"
LIBHOOK = PROJECT_ROOT / "libhook"
SOURCES = sorted(
    path for path in (LIBHOOK / "tests/fake_driver").glob("nvml*.c") if path.name != "nvml_machine.c"
)
"""All but the part that shows libhook's fake machine."""
NAMES = LIBHOOK / "names/libnvidia-ml-580.159.txt"
GENERATOR = (LIBHOOK / "gen/generate.py", LIBHOOK / "gen/hooks_table.py")


def environment(state: Path | str) -> dict[str, str]:
    """What a program needs to load it with that state file. Raises PartMissing."""
    return {"LD_LIBRARY_PATH": str(ensure_nvml_library().parent), "FAKE_NVML_STATE": str(state)}


def ensure_nvml_library(*, named: bool = False) -> Path:
    """Path of the library, alone in its folder. Raises PartMissing with what to do.

    `named`: with the SONAME that NVIDIA's has, for a machine's driver. A test that has loaded such a one gives it to
    all others of its process that look for a real one, so the one for tests has none.
    """
    header = _header_package()
    inputs = [*SOURCES, *sorted((LIBHOOK / "tests/fake_driver").glob("*.h")), *GENERATOR, NAMES]
    digest = hashlib.sha256(f"{header}{' named' if named else ''}".encode())
    for path in inputs:
        digest.update(path.read_bytes())
    library = cache_folder() / "nvml" / digest.hexdigest()[:16] / LIBRARY
    if library.exists():
        return library
    with locked(cache_folder() / "nvml/.lock", "another run is building the fake NVML; waiting for it"):
        if not library.exists():
            _build(library, header, [f"-Wl,-soname,{LIBRARY}"] if named else [])
    return library


def _header_package() -> str:
    """The pinned package that has nvml.h: libhook's build says which."""
    found = re.search(r"^nvml_package = '(.+)'$", (LIBHOOK / "meson.build").read_text(), re.MULTILINE)
    assert found, "libhook/meson.build names no nvml_package"
    return found[1]


def _build(library: Path, header: str, more_flags: list[str]) -> None:
    if not shutil.which("gcc"):
        raise PartMissing("the fake NVML is built with gcc, which is missing; run `tools/packages.sh hook`")
    partial = library.with_name(f".{LIBRARY}.partial")
    library.parent.mkdir(parents=True, exist_ok=True)
    headers = cache_folder() / "nvml/headers"
    include = headers / header / "nvidia/cu13/include"
    _run([sys.executable, GENERATOR[0].with_name("fetch_headers.py"), headers, header])
    arguments = ["--nvml", include, "--names", NAMES, "--sources", *SOURCES, "--out", library.parent]
    _run([sys.executable, GENERATOR[0], "nvml", *arguments])
    exports = library.parent / "fk_nvml_exports.c"
    includes = ["-isystem", include, "-I", SOURCES[0].parent]
    flags = ["-std=gnu11", "-O1", "-fPIC", "-shared", "-pthread", "-Wl,-Bsymbolic", *more_flags]
    _run(["gcc", *flags, *includes, "-o", partial, *SOURCES, exports])
    exports.unlink()
    partial.rename(library)


def _run(command: list[Path | str]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PartMissing(f"the fake NVML could not be built: {done.stderr.strip() or done.stdout.strip()}")
