"""Flags as Go programs take them: `--name=value`, `--name value`, bare booleans, `-v=4`."""

import argparse
import re
from datetime import timedelta


def boolean(text: str) -> bool:
    """Raises ArgumentTypeError."""
    if text.lower() in ("1", "t", "true"):
        return True
    if text.lower() in ("0", "f", "false"):
        return False
    raise argparse.ArgumentTypeError(f"not a boolean: {text}")


def duration(text: str) -> timedelta:
    """`5m`, `1h30m`, `28s`. Raises ArgumentTypeError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"not a duration: {text}")
    seconds = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return timedelta(seconds=sum(float(number) * seconds[unit] for number, unit in parts))


def pairs(text: str) -> dict[str, str]:
    """`a=b,c=d`. Raises ArgumentTypeError."""
    try:
        return dict(item.split("=", 1) for item in text.split(",") if item)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not pairs: {text}") from error


class GoFlags(argparse.ArgumentParser):
    """A parser with those habits; `switch` adds a boolean."""

    def __init__(self, program: str) -> None:
        super().__init__(prog=program, allow_abbrev=False)
        self.add_argument("-v", "--v", type=int, default=0)

    def switch(self, name: str, *, default: bool) -> None:
        self.add_argument(name, nargs="?", type=boolean, const=True, default=default)
