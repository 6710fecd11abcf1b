"""What the hook costs, beside other builds of libvgpu.so on the same fake driver in one run.

    compare.py BUILD [NAME=PATH …] [--write docs/benchmarks.md]

Every arm runs the same victim. An arm that does not finish within its time is reported so, not left out.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

BEGIN, END = "<!-- bench:hook -->", "<!-- /bench:hook -->"
SETTINGS = {"memory limit only": {}, "memory limit, 50 % GPU time": {"CUDA_DEVICE_SM_LIMIT": "50"}}
WORDS = {
    "launch_ns": "launch, median ns",
    "launch_p99_ns": "launch, p99 ns",
    "alloc_free_ns": "alloc + free, ns",
    "init_us": "start, µs",
}


def measure(build: Path, library: Path | None, settings: dict[str, str]) -> dict[str, float] | str:
    """Medians of five runs, or why there are none."""
    runs: list[dict[str, float]] = []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as folder:
            environment = {
                "PATH": os.environ["PATH"],
                "LD_LIBRARY_PATH": str(build / "tests"),
                "FAKE_CUDA_SHM": f"{folder}/machine",
                "CUDA_DEVICE_MEMORY_SHARED_CACHE": f"{folder}/vgpu.cache",
                "CUDA_DEVICE_MEMORY_LIMIT": "1g",
                "GPU_CORE_UTILIZATION_POLICY": "force",
                "LIBCUDA_LOG_LEVEL": "0",
                **settings,
            }
            if library:
                environment |= {"LD_PRELOAD": str(library), "CUDA_REDIRECT": str(library)}
            try:
                done = subprocess.run(
                    [str(build / "tests/victims/victim_cost")],
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=30,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return "did not finish within 30 s"
            if done.returncode != 0:
                return f"ended with {done.returncode}"
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    return {name: sorted(run[name] for run in runs)[2] for name in runs[0]}


def main() -> None:
    arguments = [a for a in sys.argv[1:] if a != "--write"]
    target = Path(arguments.pop()) if "--write" in sys.argv else None
    build = Path(arguments[0]).resolve()
    arms: list[tuple[str, Path | None]] = [("no hook", None), ("libhook", build / "libvgpu.so")]
    arms += [(name, Path(path)) for name, path in (a.split("=", 1) for a in arguments[1:])]
    lines = [
        BEGIN,
        "## libhook: cost of a call",
        "",
        "Fake driver, this machine, medians of five runs; not a real GPU. `libhook/bench/compare.py` writes this.",
        "",
        "| | " + " | ".join(WORDS.values()) + " |",
        "|---|" + "---|" * len(WORDS),
    ]
    for setting, variables in SETTINGS.items():
        for name, library in arms:
            if library is None and variables:
                continue
            found = measure(build, library, variables)
            cells = (
                [found] + [""] * (len(WORDS) - 1)
                if isinstance(found, str)
                else [str(found[key]) for key in WORDS]
            )
            lines.append(f"| {name}{', ' + setting if library else ''} | " + " | ".join(cells) + " |")
    lines += [END, ""]
    text = "\n".join(lines)
    print(text)
    if target:
        old = target.read_text() if target.exists() else "# Benchmarks\n\n"
        if BEGIN in old:
            before, rest = old.split(BEGIN, 1)
            old = before + rest.split(END, 1)[1].lstrip("\n")
        target.write_text(old.rstrip("\n") + "\n\n" + text)


if __name__ == "__main__":
    main()
