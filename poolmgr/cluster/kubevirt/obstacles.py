"""What keeps a machine from starting, whatever GPU is free: KubeVirt's word and the scheduler's."""

from poolmgr.cluster.observe.pods import LONGEST_MESSAGE, Launcher
from poolmgr.domain.demand import SERVABLE, DeviceClaim
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.wire import VirtualMachine, VirtualMachineInstance
from poolmgr.wire.meta import Condition

LONGEST_QUOTE = 300
"""Characters of another program's message that are passed on."""
BROKEN_STATUSES = {
    "DataVolumeError": "its disk could not be created",
    "ErrorDataVolumeNotFound": "its disk's DataVolume does not exist",
    "ErrorPvcNotFound": "its disk's PersistentVolumeClaim does not exist",
    "ErrImagePull": "its image cannot be pulled",
    "ImagePullBackOff": "its image cannot be pulled",
}
"""`status.printableStatus` of machines that somebody has to mend (KubeVirt, api/core/v1/types.go)."""
CRASHES_IN_A_ROW = 3
"""So many failed starts are no restart any more."""
SCHEDULER_COUNTS = " nodes are available"
"""A part of every message of kube-scheduler that gives reasons by node."""
CORDONED = "were unschedulable"
"""Its word for cordoned nodes, of which it looks no further: a move cordons, and such a node may lack the GPU."""


def instance_obstacle(
    instance: VirtualMachineInstance, launcher: Launcher | None, claims: tuple[DeviceClaim, ...]
) -> Verdict:
    """`SERVABLE`, or what is in the way of an instance that waits."""
    if launcher is None:
        refused = _condition(instance.status.conditions, "Synchronized", "False")
        return _cannot_start(refused) if refused is not None else SERVABLE
    if launcher.gated_by:
        message = f"its launcher is held back by the scheduling gate {launcher.gated_by}"
        return Verdict(False, Reason.LACKS_SOMETHING_ELSE, message)
    message = launcher.message
    if SCHEDULER_COUNTS not in message or CORDONED in message or len(message) >= LONGEST_MESSAGE:
        return SERVABLE
    if any(f"Insufficient {claim.resource_name}" in message for claim in claims):
        return SERVABLE
    said = f"the scheduler does not name its GPU among what it lacks: {_quoted(message)}"
    return Verdict(False, Reason.LACKS_SOMETHING_ELSE, said)


def machine_obstacle(machine: VirtualMachine) -> Verdict:
    """The same for a machine that has no instance."""
    status = machine.status
    failed = _condition(status.conditions, "Failure", "True")
    if failed is not None:
        return _cannot_start(failed)
    if status.printable_status in BROKEN_STATUSES:
        why = BROKEN_STATUSES[status.printable_status]
        return Verdict(False, Reason.CANNOT_START, f"KubeVirt cannot start it: {why}")
    crashes = status.start_failure.consecutive_fail_count if status.start_failure else 0
    if crashes >= CRASHES_IN_A_ROW:
        message = f"it has failed to start {crashes} times in a row; it gets GPUs again once KubeVirt has started it"
        return Verdict(False, Reason.CANNOT_START, message)
    return SERVABLE


def _condition(conditions: tuple[Condition, ...], kind: str, status: str) -> Condition | None:
    return next((c for c in conditions if c.type == kind and c.status == status), None)


def _cannot_start(condition: Condition) -> Verdict:
    why = _quoted(condition.message or condition.reason)
    return Verdict(False, Reason.CANNOT_START, f"KubeVirt cannot start it: {why}")


def _quoted(message: str) -> str:
    return message if len(message) <= LONGEST_QUOTE else f"{message[:LONGEST_QUOTE]}…"
