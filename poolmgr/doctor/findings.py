"""A finding: one question asked of the cluster, with its answer and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Works as it is, and somebody should know."""
    PROBLEM = "problem"
    """Stands in the way."""
    UNKNOWN = "unknown"
    """Could not be looked at, or does not say. Never counted as ok."""


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    """Stable name of the question, e.g. `iommu`."""
    about: str
    """What it was asked of, e.g. `node gpu-7`."""
    grade: Grade
    message: str
    fix: str = ""
    """What to do, as exactly as can be said; empty where nothing is to be done."""


EXIT_FINE, EXIT_PROBLEM, EXIT_UNKNOWN = 0, 1, 2


def exit_code(findings: Iterable[Finding]) -> int:
    """0: nothing stands in the way. 1: something does. 2: nothing was found, but not everything could be looked at."""
    grades = {finding.grade for finding in findings}
    if Grade.PROBLEM in grades:
        return EXIT_PROBLEM
    return EXIT_UNKNOWN if Grade.UNKNOWN in grades or not grades else EXIT_FINE
