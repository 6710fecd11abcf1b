"""Files in place of a cluster, for every command that takes them: Kubernetes objects, with edits."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

if TYPE_CHECKING:
    from poolmgr.cluster.objects import ObjectStore


def read_text(path: Path) -> str:
    """Of a file, or of standard input where `path` is `-`. Raises Rejected where it cannot be read."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text()
    except FileNotFoundError as error:
        raise Rejected(Reason.NOT_FOUND, f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(Reason.NOT_FOUND, f"{path} cannot be read: {error}") from error


def store_of(
    text: str, source: Path, added: Sequence[Path] = (), cordoned: Sequence[str] = ()
) -> "ObjectStore":
    """The objects of `text`, then those of each file in `added`, which take the place of those of the same name; nodes
    `cordoned`. Raises Rejected for what is no object."""
    from poolmgr.cluster.objects import ObjectStore, parse_objects
    from poolmgr.kit.clock import SystemClock

    store = ObjectStore(parse_objects(text, str(source)), SystemClock().now())
    for path in added:
        for document in parse_objects(read_text(path), str(path)):
            store.add(document)
    for node in cordoned:
        store.cordon(node)
    return store


def said_of(store: "ObjectStore") -> str:
    """What was passed over, in a line for standard error; empty where nothing was."""
    if not store.passed_over:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(store.passed_over.items()))
    return f"passed over, because no decision looks at them: {kinds}"
