"""Scheduling gates of a pod: ours, and those of others."""

from poolmgr.domain.demand import Gate
from poolmgr.wire import Pod
from poolmgr.wire.annotations import ADMISSION_GATE


def foreign_gate(pod: Pod) -> str:
    """The first gate that is not ours; empty where there is none."""
    return next((gate.name for gate in pod.spec.scheduling_gates if gate.name != ADMISSION_GATE), "")


def gate_of(pod: Pod) -> Gate:
    if not pod.spec.scheduling_gates:
        return Gate.OPEN
    return Gate.OTHERS if foreign_gate(pod) else Gate.OURS
