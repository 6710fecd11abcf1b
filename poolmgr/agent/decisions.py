"""From what is wanted, what is there and what is remembered to what to do with each GPU. Pure.

Invariants, each asserted by the sweep in tests/integration/agent/test_sweep.py:
- a GPU on a driver is rebound only without holder, without pod, and while a transition that names it is at its
  Rebind step; one that is found in another mode than desired, as after a reboot, waits for such a transition;
- a GPU that is leaving passthrough is rebound only once the kubelet no longer lists it;
- a transition of an older leader than one already seen moves nothing;
- a GPU with a hung unbind is not touched again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from poolmgr.agent import preflight
from poolmgr.agent.evidence import check_evidence
from poolmgr.agent.inventory import Accelerator
from poolmgr.agent.journal import DeviceRecord
from poolmgr.agent.observed import ObservedGpu
from poolmgr.domain.fleet import Transition
from poolmgr.domain.identifiers import LeaseEpoch, PciAddress, PlanId
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.node_spec import GpuNodeSpec
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason

MAX_ATTEMPTS = 5
FIRST_RETRY_SECONDS = 10.0
"""Wait after a first failed attempt; doubles with each further one."""


class DeviceAction(StrEnum):
    NOTHING = "Nothing"
    REBIND = "Rebind"
    WAIT = "Wait"
    """Should be rebound and must not be yet."""


@dataclass(frozen=True, slots=True)
class GpuDecision:
    address: PciAddress
    action: DeviceAction
    reason: Reason
    message: str
    to_mode: Mode | None = None
    plan_id: PlanId = PlanId("")
    epoch: LeaseEpoch = LeaseEpoch(0)


def decide(
    spec: GpuNodeSpec | None,
    gpus: Mapping[PciAddress, ObservedGpu],
    records: Mapping[PciAddress, DeviceRecord],
    highest_epoch: int,
    now: float,
) -> tuple[GpuDecision, ...]:
    """One decision per GPU. `spec` is None while the API server has not been read in this process: then
    only what the journal still wants is restored."""
    decisions = {
        address: _decide_one(spec, observed, records.get(address, DeviceRecord()), highest_epoch, now)
        for address, observed in gpus.items()
    }
    return tuple(_hold_back_split_group(decisions, gpus, d) for d in decisions.values())


def _decide_one(
    spec: GpuNodeSpec | None, observed: ObservedGpu, record: DeviceRecord, highest_epoch: int, now: float
) -> GpuDecision:
    at = observed.gpu.address
    target = _target(spec, observed, record, highest_epoch)
    if observed.write_in_flight:
        message = (
            f"a sysfs write for {at} has not returned from the kernel, so the agent leaves the GPU alone. If that lasts, find out "
            "who holds it (poolmgr agent show), drain the node and reboot it"
        )
        return GpuDecision(at, DeviceAction.NOTHING, Reason.UNBIND_TIMED_OUT, message)
    if observed.gpu.off_bus:
        fallen = preflight.check_answers(observed.gpu)
        return GpuDecision(at, DeviceAction.NOTHING, fallen.reason, fallen.message)
    if isinstance(target, GpuDecision):
        return target
    blocked = _blocked(observed, record, target, now)
    if blocked is not None:
        return blocked
    verdict = _may_move(observed, target.to_mode)
    if not verdict:
        return GpuDecision(
            at,
            DeviceAction.WAIT,
            verdict.reason,
            verdict.message,
            target.to_mode,
            target.plan_id,
            target.epoch,
        )
    return GpuDecision(
        at, DeviceAction.REBIND, target.reason, target.message, target.to_mode, target.plan_id, target.epoch
    )


@dataclass(frozen=True, slots=True)
class _Target:
    to_mode: Mode
    reason: Reason
    message: str
    plan_id: PlanId = PlanId("")
    epoch: LeaseEpoch = LeaseEpoch(0)


def _target(
    spec: GpuNodeSpec | None, observed: ObservedGpu, record: DeviceRecord, highest_epoch: int
) -> "_Target | GpuDecision":
    """Where the GPU should go, or why it should go nowhere."""
    at = observed.gpu.address
    if spec is not None and spec.complaint:
        return GpuDecision(at, DeviceAction.NOTHING, Reason.INVALID_REQUEST, spec.complaint)
    transition = spec.transition_of(at) if spec is not None else None
    if spec is not None and transition is not None:
        return _target_of_transition(spec, transition, observed.gpu, highest_epoch)
    return _target_without_plan(spec, observed.gpu, record)


def _target_of_transition(
    spec: GpuNodeSpec, transition: Transition, gpu: Accelerator, highest_epoch: int
) -> "_Target | GpuDecision":
    at = gpu.address
    plan, to_mode, epoch = transition.plan_id, transition.to_mode, transition.epoch
    if epoch < highest_epoch:
        message = (
            f"plan {plan} comes from leader {epoch}, but leader {highest_epoch} has already written here: "
            "the plan is ignored"
        )
        return GpuDecision(at, DeviceAction.NOTHING, Reason.STALE_EPOCH, message)
    wanted = spec.desired.get(at)
    if wanted is None or wanted.mode is not to_mode:
        message = (
            f"plan {plan} moves {at} to {to_mode}, but its desired mode is "
            f"{wanted.mode if wanted else 'not set'}: nothing is done until they agree"
        )
        return GpuDecision(at, DeviceAction.NOTHING, Reason.INVARIANT_BROKEN, message)
    # Before Rebind the GPU is still in use or in somebody's books, after it possibly again; on no driver it is
    # in nobody's.
    acting = transition.step is Step.REBIND or (
        transition.step.order > Step.REBIND.order and gpu.driver is None
    )
    if not acting or arrived(gpu, to_mode):
        return GpuDecision(at, DeviceAction.NOTHING, Reason.IN_PLACE, "")
    return _Target(to_mode, Reason.STEP_STARTED, transition.message, plan, epoch)


def _target_without_plan(
    spec: GpuNodeSpec | None, gpu: Accelerator, record: DeviceRecord
) -> "_Target | GpuDecision":
    at = gpu.address
    mode, plan_id = _desired(spec, at, record)
    if mode is None and (gpu.driver is None or gpu.left_over_companions):
        mode = gpu.mode or Mode.SHARED
    if mode is None or arrived(gpu, mode):
        return GpuDecision(at, DeviceAction.NOTHING, Reason.IN_PLACE, "")
    if gpu.driver is None:
        return _Target(mode, Reason.RECOVERED, f"{at} was on no driver; binding it for {mode}", plan_id)
    if gpu.mode is mode:
        return _Target(mode, Reason.RECOVERED, f"{at} had functions left on the other mode's driver", plan_id)
    # A GPU on a driver may be in somebody's books: after a reboot HAMi's plugin registers what it finds before
    # this agent runs. Only the manager can have it taken out of them, so only a transition moves it.
    message = (
        f"{at} is on {gpu.driver}, but its desired mode is {mode}: HAMi or the kubelet may already offer it, so it "
        "waits for the manager to move it"
    )
    return GpuDecision(at, DeviceAction.NOTHING, Reason.DRIFTED, message, mode, plan_id)


def _desired(
    spec: GpuNodeSpec | None, address: PciAddress, record: DeviceRecord
) -> tuple[Mode | None, PlanId]:
    if spec is None:
        return record.desired_mode, PlanId(record.desired_plan_id)
    wanted = spec.desired.get(address)
    return (wanted.mode, wanted.plan_id) if wanted is not None else (None, PlanId(""))


def arrived(gpu: Accelerator, mode: Mode) -> bool:
    if gpu.mode is not mode:
        return False
    return gpu.passthrough_complete if mode is Mode.PASSTHROUGH else not gpu.left_over_companions


def _blocked(observed: ObservedGpu, record: DeviceRecord, target: _Target, now: float) -> GpuDecision | None:
    """A device that failed too often is left alone; a failed attempt is repeated with growing waits."""
    at = observed.gpu.address
    failure = record.failure
    if failure is None:
        return None
    same_target = (failure.plan_id, failure.to_mode) == (target.plan_id, target.to_mode)
    if failure.code is Reason.UNBIND_TIMED_OUT:
        # Never a second unbind after a hung one; a bare device may still be brought onto a driver.
        given_up = observed.gpu.driver is not None
    else:
        # Another plan, or the way back of the same one, may succeed where this one cannot.
        given_up = failure.quarantined and same_target
    if given_up:
        return GpuDecision(
            at, DeviceAction.NOTHING, failure.code, failure.message, target.to_mode, target.plan_id
        )
    if same_target and now < failure.at + FIRST_RETRY_SECONDS * 2 ** (failure.attempts - 1):
        held = failure.code is Reason.HOLDER_PRESENT
        tried = "" if held else f"; tried {failure.attempts} of {MAX_ATTEMPTS} times"
        return GpuDecision(
            at,
            DeviceAction.WAIT,
            failure.code,
            f"{failure.message}{tried}",
            target.to_mode,
            target.plan_id,
            target.epoch,
        )
    return None


def could_move(observed: ObservedGpu) -> Verdict:
    """Could it go to its other mode, its present users apart? What the manager goes by before it disturbs anything for a
    move."""
    return _first_no(
        _of_the_card(observed, Mode.SHARED if observed.gpu.mode is Mode.PASSTHROUGH else Mode.PASSTHROUGH)
    )


def _may_move(observed: ObservedGpu, to_mode: Mode) -> Verdict:
    gpu = observed.gpu
    in_shared = observed.shared_pods if to_mode is Mode.PASSTHROUGH else ()
    verdict = _first_no(
        (
            *_of_the_card(observed, to_mode),
            preflight.check_holders(gpu, observed.holders, asked=False),
            preflight.check_pods(gpu, observed.allocated_to, in_shared),
        )
    )
    if verdict and gpu.mode is Mode.PASSTHROUGH and to_mode is Mode.SHARED and observed.listed:
        return Verdict(
            False,
            Reason.STEP_WAITING,
            f"{gpu.address} is withdrawn; the kubelet still lists it as allocatable",
        )
    return verdict


def _of_the_card(observed: ObservedGpu, to_mode: Mode) -> tuple[Verdict, ...]:
    gpu, mig = observed.gpu, observed.mig_enabled
    return (
        preflight.check_answers(gpu),
        preflight.check_hardware(gpu, to_mode),
        preflight.check_state(gpu, to_mode, mig_enabled=mig),
        check_evidence(observed),
    )


def _first_no(verdicts: Iterable[Verdict]) -> Verdict:
    return next((verdict for verdict in verdicts if not verdict), preflight.OK)


def _hold_back_split_group(
    decisions: Mapping[PciAddress, GpuDecision], gpus: Mapping[PciAddress, ObservedGpu], decision: GpuDecision
) -> GpuDecision:
    """GPUs of one IOMMU group move together or not at all: half a group on vfio serves no VM, and a group
    of which one is given away is pulled from under the other."""
    gpu = gpus[decision.address].gpu
    if decision.action is not DeviceAction.REBIND or gpu.driver is None:
        return decision
    for peer in gpu.peers:
        other = decisions.get(peer.address)
        moves = (
            other is not None and other.action is DeviceAction.REBIND and other.to_mode is decision.to_mode
        )
        there = peer.address in gpus and gpus[peer.address].gpu.mode is decision.to_mode
        if not moves and not there:
            return replace(
                decision,
                action=DeviceAction.WAIT,
                reason=Reason.GROUP_NOT_VIABLE,
                message=f"{gpu.address} shares IOMMU group {gpu.iommu_group} with {peer.address}, which does "
                "not move with it: plan both together",
            )
    return decision
