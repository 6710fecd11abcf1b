"""Running the programs that the build is made of."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class StepFailed(Exception):
    """A step of the build failed; the message says which program, what it said, and what to do."""


class ProgramMissing(StepFailed):
    """A program that the build needs is not on this machine."""


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """A program's output, run at the root of the checkout. Raises StepFailed."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=dict(os.environ if environment is None else environment),
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ProgramMissing(
            f"{command[0]} is missing: run tools/setup.sh and tools/packages.sh hook image packages"
        ) from error
    if done.returncode != 0:
        said = f"{done.stdout}\n{done.stderr}".strip()[-3000:]
        raise StepFailed(f"{' '.join(command[:4])} … ended with {done.returncode}:\n{said}")
    return done.stdout
