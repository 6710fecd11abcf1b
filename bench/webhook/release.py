"""The release before this checkout, set up to be run beside it."""

import subprocess
from pathlib import Path

from e2e.cache import PROJECT_ROOT, cache_folder, locked
from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

BEFORE_TAGS = "4dde115"
"""What counts as the last release until one is tagged: the commit that was reviewed, with admission inside FastAPI."""


def last_release() -> str:
    """The newest tag that this checkout has behind it, else BEFORE_TAGS."""
    described = subprocess.run(
        ["git", "-C", str(PROJECT_ROOT), "describe", "--tags", "--abbrev=0"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() if described.returncode == 0 else BEFORE_TAGS


def checkout_of(revision: str) -> Path:
    """A worktree of that revision with an environment of its own, made once in the cache. Raises Rejected."""
    known = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if known.returncode != 0:
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"this clone has no revision {revision}: fetch it (git fetch --unshallow), or name another with --before",
        )
    commit = known.stdout.strip()
    folder = cache_folder() / "releases" / commit[:12]
    with locked(folder.with_suffix(".lock"), f"another run sets up {revision}; waiting for it"):
        if not (folder / ".git").exists():
            _git("worktree", "prune")
            added = _git("worktree", "add", "--detach", str(folder), commit)
            if added.returncode != 0:
                raise Rejected(Reason.INVALID_REQUEST, f"no worktree of {revision}: {added.stderr.strip()}")
        done = subprocess.run(["tools/setup.sh"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Rejected(Reason.INVALID_REQUEST, f"{folder} cannot be set up: {done.stderr.strip()}")
    return folder


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(PROJECT_ROOT), *words], capture_output=True, text=True, check=False
    )
