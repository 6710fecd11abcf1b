"""Checkouts of poolmgr that benchmarks run beside this one, given as NAME=PATH."""

from pathlib import Path

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

CHECKOUT = Path(__file__).resolve().parents[2]
"""This one. For an installed package it is none, and the benchmarks that need one cannot be imported there."""


def named_checkout(text: str) -> tuple[str, Path]:
    """Name and path of an `--other`. Raises Rejected."""
    name, _, path = text.partition("=")
    if not (Path(path) / "poolmgr/cli/main.py").is_file():
        raise Rejected(
            Reason.INVALID_REQUEST, f"--other {text}: {path or 'nothing'} is no checkout of poolmgr"
        )
    return name, Path(path).resolve()


def no_checkout(command: str, missing: ModuleNotFoundError) -> Rejected:
    """For a command whose modules are in no package."""
    return Rejected(
        Reason.INVALID_REQUEST,
        f"{command} needs a checkout of poolmgr, not the installed package (no module {missing.name}): clone the "
        f"repository, run `make setup` in it, then `.venv/bin/poolmgr {command}` there",
    )
