"""Is a node's agent there? Judged by when its heartbeat was last seen to change, by the judge's own clock alone.

As in Kubernetes' leader election: the instant that an agent writes into its heartbeat is only a text that differs from
the one before, so a clock that is wrong on one machine matters to nobody. What an agent that is silent said last may be
untrue: nothing is planned on its node, and moves under way there wait.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from poolmgr.domain.backoff import utc
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason

BEAT_SECONDS = 15.0
"""Between two heartbeats of an agent: 2,000 agents cost the API server 133 writes of half a kilobyte a second, where the
Leases of their kubelets cost 200. A manager that has just started waits so long, at most, until it has heard everybody."""
SILENT_SECONDS = 60.0
"""Without a change of its heartbeat an agent is silent: three may be lost."""
DARK_SECONDS = 50.0
"""Between two looks of the judge. What is longer was its own or the API server's absence, in which nobody could be
heard; it silences nobody. Watches are confirmed at least every 45 s."""


@dataclass(frozen=True, slots=True)
class AgentSign:
    """What is known of one node's agent. It changes only when the agent falls silent or is heard again."""

    heard: bool = True
    since: float = 0.0
    """Unix seconds: since when it is heard, or where it is not, when it was last heard. 0 where nobody knows."""
    silent: bool = False
    """It has been given its minute and was not heard. Not heard and not silent: the judge has only just begun to listen, or
    its heartbeat was there a moment ago and has been deleted since."""

    def verdict(self, node: NodeName) -> Verdict:
        if self.heard:
            return Verdict(True, Reason.AGENT_AT_WORK)
        if not self.silent and self.since:
            what = (
                f"the Lease of the agent of {node} was deleted; it was last heard from at {utc(self.since)}"
            )
        elif not self.silent:
            what = f"this manager has not heard from the agent of {node} yet"
        elif self.since:
            what = f"the agent of {node} was last heard from at {utc(self.since)}"
        else:
            what = f"the agent of {node} has not been heard from, or its release sends no heartbeat"
        remedy = "; check its pod on that node" if self.silent else ""
        return Verdict(
            False,
            Reason.AGENT_SILENT,
            f"{what}; its last report may be out of date, so its GPUs stay as they are{remedy}",
        )


HEARD = AgentSign()


@dataclass(slots=True)
class _Beat:
    value: str
    """Empty where there is no heartbeat."""
    changed_at: float
    """By the judge's clock, see `Heartbeats`; when it was first seen where it has never changed."""
    changed_at_unix: float
    """0 where nobody can tell."""
    sign: AgentSign


@dataclass
class Heartbeats:
    """The heartbeats of all agents as one judge sees them. `at` is seconds of a clock that never goes back, `unix` what is
    shown to people."""

    _beats: dict[NodeName, _Beat] = field(default_factory=dict)
    _deleted: set[NodeName] = field(default_factory=set)
    """Those whose heartbeat is gone."""
    _looked_at: float | None = None

    def beat(self, node: NodeName, value: str, at: float, unix: float, *, claimed: float = 0.0) -> bool:
        """The heartbeat of `node` is `value`. True where that ends a silence. `claimed`: the instant that the agent says,
        shown to people where nobody saw the heartbeat change."""
        self._deleted.discard(node)
        known = self._beats.get(node)
        if known is None:
            self._beats[node] = _Beat(value, at, claimed, AgentSign(heard=False))
            return False
        if known.value == value:
            return False
        known.value, known.changed_at, known.changed_at_unix = value, at, unix
        if known.sign.heard:
            return False
        known.sign = AgentSign(since=unix)
        return True

    def gone(self, node: NodeName) -> None:
        """The heartbeat of `node` was deleted. That is no sign of life, so its silence goes on from the last one: whoever
        was heard is not any more, and who was silent stays so."""
        known = self._beats.get(node)
        if known is None:
            return
        self._deleted.add(node)
        if known.sign.heard:
            known.sign = AgentSign(heard=False, since=known.changed_at_unix)

    def judge(self, nodes: Collection[NodeName], at: float) -> dict[NodeName, AgentSign]:
        """The sign of each of `nodes` as of `at`, when all heartbeats were last known to be up to date; not to be asked
        before they have been read once. O(nodes); the very same value where nothing has changed."""
        for node in self._deleted.difference(nodes) if self._deleted else ():
            del self._beats[node]  # gone with its heartbeat
            self._deleted.discard(node)
        if self._looked_at is not None and at - self._looked_at > DARK_SECONDS:
            for beat in self._beats.values():
                beat.changed_at += at - self._looked_at
        self._looked_at = at if self._looked_at is None else max(at, self._looked_at)
        signs = {}
        for node in nodes:
            known = self._beats.get(node)
            if known is None:
                known = self._beats[node] = _Beat("", at, 0.0, AgentSign(heard=False))
            if not known.sign.silent and at - known.changed_at > SILENT_SECONDS:
                known.sign = AgentSign(False, known.changed_at_unix, silent=True)
            signs[node] = known.sign
        return signs
