"""Holds hooks.def against the headers of other CUDA releases: `check_headers.py CACHE NEWEST_INCLUDE`.

A typedef that a release has must have the parameters that the wrappers were made with, or a program built for that
release would be called with the wrong ABI. Type names that were renamed without a change of layout are listed here.
"""

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from hooks_table import read_hooks, read_nvml, read_typedefs

RELEASES = {
    "11.8": ("nvidia-cuda-runtime-cu11==11.8.89", "nvidia-nvml-dev-cu11==11.8.86"),
    "12.4": ("nvidia-cuda-runtime-cu12==12.4.127", "nvidia-nvml-dev-cu12==12.4.127"),
    "12.8": ("nvidia-cuda-runtime-cu12==12.8.90", "nvidia-nvml-dev-cu12==12.8.90"),
}
SAME_LAYOUT = {"nvmlProcessInfo_t": "nvmlProcessInfo_v2_t"}


def plain(types: tuple[str, ...]) -> tuple[str, ...]:
    shortened = (re.sub(r"^(const)?(struct)?", "", kind).rstrip() for kind in types)
    return tuple(re.sub(r"\w+", lambda word: SAME_LAYOUT.get(word[0], word[0]), kind) for kind in shortened)


def main() -> None:
    here, cache, cuda, nvml = Path(__file__).parent, Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    hooks = read_hooks(here.parent / "hooks.def", read_typedefs(cuda), read_nvml(nvml))
    wrong = 0
    for release, packages in RELEASES.items():
        subprocess.run([sys.executable, here / "fetch_headers.py", cache, *packages], check=True)
        typedefs = read_typedefs(next((cache / packages[0]).rglob("cudaTypedefs.h")).parent)
        functions = read_nvml(next((cache / packages[1]).rglob("nvml.h")).parent)
        compared = 0
        for hook in hooks:
            theirs = functions.get(hook.symbol) if hook.is_nvml else typedefs.get(hook.typedef)
            if theirs is None:
                continue
            compared += 1
            if plain(theirs.types) != plain(hook.signature.types):
                wrong += 1
                print(f"CUDA {release}: {hook.symbol}({theirs.declared}), here ({hook.signature.declared})")
        print(f"CUDA {release}: {compared} of {len(hooks)} hooks compared")
        if compared < 50:
            raise SystemExit(f"CUDA {release}: too few: are these the right headers?")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
