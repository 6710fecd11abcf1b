"""The objects of the cluster that are set aside, for the snapshot and for whoever asks about a node."""

from collections.abc import Iterable
from dataclasses import replace

from poolmgr.cluster.observe.pods import Launcher
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.snapshot import Unread
from poolmgr.wire.kinds import (
    CONFIG_MAPS,
    DAEMON_SETS,
    DEPLOYMENTS,
    GPU_NODES,
    GPU_POOLS,
    NODES,
    VIRTUAL_MACHINE_INSTANCES,
    Kind,
)

JOINED = "joined"
"""In place of a kind: a node whose objects could each be read, but not be put together."""
MADE = "made"
"""The same of a machine."""
_ADMINISTRATORS = frozenset(map(str, (GPU_POOLS, CONFIG_MAPS, DAEMON_SETS, DEPLOYMENTS)))
"""What only administrators write, and what all of the cluster goes by: bounds, and how HAMi is set up."""
LONGEST_WHY = 300
"""Characters of an exception that are told: it may quote what a stranger wrote."""


def failed_on(kind: Kind, key: str, error: Exception) -> Unread:
    namespace, _, name = key.rpartition("/")
    return Unread(str(kind), namespace, name, f"{type(error).__name__}: {error}"[:LONGEST_WHY])


class UnreadObjects:
    """By kind and key."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Unread] = {}

    def put(self, kind: str, key: str, found: Unread | None) -> bool:
        """True when something is different."""
        before = self._found.get((kind, key))
        if found is None:
            self._found.pop((kind, key), None)
        else:
            self._found[kind, key] = found
        return before != found

    def uid(self, kind: Kind, key: str) -> str | None:
        """Of an object that is set aside; None for all others."""
        found = self._found.get((str(kind), key))
        return found.uid if found is not None else None

    def replace(self, stage: str, found: dict[str, Unread]) -> bool:
        """Those of a stage by key, in place of those before. True when something is different."""
        before = {key: one for (kind, key), one in self._found.items() if kind == stage}
        for key in before.keys() - found.keys():
            del self._found[stage, key]
        self._found |= {(stage, key): one for key, one in found.items()}
        return before != found

    def complaint(self, node: str) -> str:
        """Why nothing is to be done on a node; empty where there is no such reason."""
        for kind in (str(GPU_NODES), str(NODES), JOINED):
            if found := self._found.get((kind, node)):
                return f"{found.what} cannot be read ({found.why}): its GPUs stay as they are until it can"
        return ""

    def of_administrators(self) -> list[str]:
        """Sentences about those without which nothing may be decided anywhere."""
        return [
            f"{found.what} cannot be read ({found.why}): nothing is moved until it can"
            for (kind, _), found in sorted(self._found.items())
            if kind in _ADMINISTRATORS
        ]

    def tuple(self, launchers: Iterable[Launcher]) -> tuple[Unread, ...]:
        """All of them. The agents know an instance on its GPUs by its launcher."""
        if not self._found:
            return ()
        machines = {found.uid for found in self._found.values() if found.kind == _INSTANCES}
        pods = {pod.vmi_uid: pod for pod in launchers if pod.vmi_uid in machines} if machines else {}
        return tuple(
            _by_launcher(found, pods.get(found.uid))
            for found in sorted(
                self._found.values(), key=lambda one: (one.kind, one.namespace, one.name, one.why)
            )
        )


_INSTANCES = str(VIRTUAL_MACHINE_INSTANCES)


def _by_launcher(found: Unread, launcher: Launcher | None) -> Unread:
    if launcher is None or found.kind != _INSTANCES:
        return found
    return replace(found, uid=launcher.pod_uid, node=NodeName(launcher.node) if launcher.node else found.node)
