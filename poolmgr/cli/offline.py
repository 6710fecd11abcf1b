"""Files in place of a cluster, for every command that takes them: a snapshot, or Kubernetes objects with edits."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poolmgr.cli.snapshot import take_from
from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

if TYPE_CHECKING:
    from poolmgr.cluster.objects import ObjectStore


From = Annotated[
    Path | None,
    typer.Option("--from", help="A snapshot, or Kubernetes objects as YAML or JSON; - reads standard input."),
]
Add = Annotated[
    list[Path] | None,
    typer.Option(
        help="More objects for those of --from: new ones, or changed ones of the same name. Repeatable."
    ),
]
Cordon = Annotated[
    list[str] | None,
    typer.Option(help="Judge as if this node of --from were cordoned. Repeatable.", metavar="NODE"),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Judge as if a field of an object of --from had this value; null removes it. Repeatable.",
        metavar="KIND/NAME:PATH=VALUE",
    ),
]


@dataclass(frozen=True, slots=True)
class Edits:
    """What is to be changed in the objects of a file before they are judged, in this order."""

    add: Sequence[Path] = ()
    cordon: Sequence[str] = ()
    set: Sequence[str] = ()

    @classmethod
    def of(cls, add: list[Path] | None, cordon: list[str] | None, fields: list[str] | None) -> "Edits":
        """As the command line gives them."""
        return cls(tuple(add or ()), tuple(cordon or ()), tuple(fields or ()))

    def __bool__(self) -> bool:
        return bool(self.add or self.cordon or self.set)


def without_file(edits: Edits) -> None:
    """Refuses edits of a live cluster."""
    if edits:
        raise typer.BadParameter(
            "--add, --cordon and --set change the objects of --from; a live cluster is only read"
        )


def snapshot_of(source: Path, edits: Edits) -> ClusterSnapshot:
    """The cluster in a file, its GPUs adopted as a manager does it before its first plan. Says on stderr what was passed
    over and what was adopted. Raises Rejected for what cannot be read or edited."""
    from poolmgr.sim.snapshots import decode_snapshot

    text = read_text(source)
    if _is_snapshot(text):
        if edits:
            raise typer.BadParameter(
                "--add, --cordon and --set need Kubernetes objects in --from; it has a snapshot"
            )
        return as_adopted(decode_snapshot(text.encode()))
    store = store_of(text, source, edits)
    if passed := said_of(store):
        typer.echo(passed, err=True)
    return as_adopted(take_from(store, str(source)))


def as_adopted(snapshot: ClusterSnapshot) -> ClusterSnapshot:
    """As the manager plans: before its first plan it adopts the GPUs that are new to it. Says so on stderr."""
    from poolmgr.controller import intents

    nodes = tuple(map(intents.as_adopted, snapshot.nodes))
    new = sum(
        gpu.desired_mode is None and then.desired_mode is not None
        for before, after in zip(snapshot.nodes, nodes, strict=True)
        for gpu, then in zip(before.gpus, after.gpus, strict=True)
    )
    if not new:
        return snapshot
    typer.echo(f"planned as if poolmgr had recorded the modes of {new} GPU(s), which are new to it", err=True)
    return replace(snapshot, nodes=nodes)


def _is_snapshot(text: str) -> bool:
    """A JSON object that does not say what kind it is."""
    if not text.lstrip().startswith("{"):
        return False
    try:
        return "kind" not in json.loads(text)
    except (ValueError, RecursionError):
        return True  # its own decoder says what is wrong with it


def read_text(path: Path) -> str:
    """Of a file, or of standard input where `path` is `-`. Raises Rejected where it cannot be read."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text()
    except FileNotFoundError as error:
        raise Rejected(Reason.NOT_FOUND, f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(Reason.NOT_FOUND, f"{path} cannot be read: {error}") from error


def store_of(text: str, source: Path, edits: Edits = Edits()) -> "ObjectStore":
    """The objects of `text`, edited. Raises Rejected for what is no object, and for an edit that cannot be made."""
    from poolmgr.cluster.objects import ObjectStore, parse_objects
    from poolmgr.kit.clock import SystemClock

    store = ObjectStore(parse_objects(text, str(source)), SystemClock().now())
    for path in edits.add:
        for document in parse_objects(read_text(path), str(path)):
            store.add(document)
    for node in edits.cordon:
        store.cordon(node)
    for field in edits.set:
        store.set(field)
    return store


def said_of(store: "ObjectStore") -> str:
    """What was passed over, in a line for standard error; empty where nothing was."""
    if not store.passed_over:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(store.passed_over.items()))
    return f"passed over, because no decision looks at them: {kinds}"
