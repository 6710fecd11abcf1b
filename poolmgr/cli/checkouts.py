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


CHECKOUT_ONLY = ("bench", "e2e")
"""Packages of the checkout that no wheel holds."""


def needs_checkout(command: str, missing: ModuleNotFoundError) -> Rejected:
    """What to do about a command whose modules are not in the installed package."""
    return Rejected(
        Reason.INVALID_REQUEST,
        f"`poolmgr {command}` needs a checkout of poolmgr, and this is the installed package (no module "
        f"{missing.name}): clone the repository, run `make setup` in it (or `pip install -e '.[bench]'`), then "
        f"`.venv/bin/poolmgr {command}` there",
    )
