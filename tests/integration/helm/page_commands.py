"""The commands and manifests on a page for the job, as a reader would run them. Pure."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGES = Path(__file__).parents[3] / "docs/how-to"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NOT_HERE = {
    "ls": "looks at a GPU node",
    "modinfo": "looks at a GPU node",
    "poolmgr agent": "looks at a GPU node",
    "pg_dump": "needs the database",
    "pg_restore": "needs the database",
    "skopeo": "needs a registry",
    "helm test": "needs a kubelet; test_helm_test.py runs it",
    "kubectl rollout": "needs a kubelet",
}
"""Beginning of a command → why no test of the chart can run it."""


@dataclass(frozen=True)
class Step:
    """One block of a page."""

    language: str
    """`sh` or `yaml`."""
    text: str

    def commands(self) -> list[list[str]]:
        """Words of each command of a shell block."""
        whole = self.text.replace("\\\n", " ")
        return [words for line in whole.splitlines() if (words := shlex.split(line, comments=True))]


def steps_of(page: str) -> Iterator[Step]:
    for language, text in BLOCK.findall((PAGES / page).read_text()):
        yield Step(language, text)


def begins(words: list[str]) -> str:
    """Program and verb, options of kubectl before the verb left out."""
    rest = iter(words[1:])
    for word in rest:
        if word in ("-n", "--namespace"):
            next(rest)
        elif not word.startswith("-"):
            return f"{words[0]} {word}"
    return words[0]


def why_not_here(words: list[str]) -> str:
    return NOT_HERE.get(words[0]) or NOT_HERE.get(begins(words), "")
