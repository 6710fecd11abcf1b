"""Lifts our scheduling gate off pods as the newest decision says.

The leader alone does it, so two replicas of anything never admit past a quota between them. What has been lifted and is not
seen yet is remembered, so that the next decision counts it. A new leader knows only what its view shows: what its
predecessor lifted in the last instant may be missing there.
"""

from dataclasses import replace

import structlog

from poolmgr.controller.interfaces import Admitter, Leadership
from poolmgr.domain.demand import Gate
from poolmgr.domain.errors import PoolError, Stale, Unavailable
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.plan import Admission
from poolmgr.domain.snapshot import ClusterSnapshot

log = structlog.get_logger()

ADMISSIONS_A_TICK = 50
"""Each is one write; a client that is patient makes about so many a second."""


class Admitting:
    """What is remembered from look to look: pods that are admitted and that the view still shows behind the gate."""

    def __init__(self, admitter: Admitter, leadership: Leadership) -> None:
        self._admitter = admitter
        self._leadership = leadership
        self._unseen: frozenset[WorkloadUid] = frozenset()

    def applied(self, snapshot: ClusterSnapshot) -> ClusterSnapshot:
        """The snapshot with these in the open; the same one where there are none."""
        gated = {WorkloadUid(vm.launcher_uid) for vm in snapshot.vms if vm.gate is Gate.OURS}
        gated.update(pod.uid for pod in snapshot.pods if pod.gate is Gate.OURS)
        self._unseen &= gated
        unseen = self._unseen
        if not unseen:
            return snapshot
        return replace(
            snapshot,
            vms=tuple(replace(v, gate=Gate.OPEN) if v.launcher_uid in unseen else v for v in snapshot.vms),
            pods=tuple(replace(p, gate=Gate.OPEN) if p.uid in unseen else p for p in snapshot.pods),
        )

    async def follow(self, admissions: tuple[Admission, ...]) -> tuple[Admission, ...]:
        """Lift the gates, at most `ADMISSIONS_A_TICK`; answers whose were lifted. What fails is tried at the next look."""
        lifted: list[Admission] = []
        for admission in admissions[:ADMISSIONS_A_TICK]:
            if self._leadership.epoch is None:
                break
            try:
                await self._admitter.ensure_admitted(
                    admission.pod, admission.subject.namespace, admission.pod_name
                )
            except PoolError as error:
                say = log.info if isinstance(error, Stale) else log.warning
                say(
                    "gate_not_lifted",
                    pod=admission.pod_name,
                    reason=error.reason.value,
                    message=error.message,
                )
                if isinstance(error, Unavailable):
                    break
                continue
            self._unseen |= {admission.pod}
            lifted.append(admission)
        return tuple(lifted)
