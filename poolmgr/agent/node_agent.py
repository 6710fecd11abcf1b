"""One pass of the agent: look, decide, withdraw or offer, rebind, report. Level-triggered: a pass needs
no memory of the one before but the journal, so it can be cut off anywhere and be begun again.
"""

import contextlib
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from poolmgr.agent.decisions import MAX_ATTEMPTS, DeviceAction, GpuDecision, arrived, decide
from poolmgr.agent.deviceplugin.allocation import Offer
from poolmgr.agent.hook_keeper import HookKeeper
from poolmgr.agent.hook_node import ContainerLimits
from poolmgr.agent.journal import DeviceRecord, Failure, Journal, RebindIntent
from poolmgr.agent.nvml import NvmlReport
from poolmgr.agent.observe import NodeObserver, Observation, Plugins, Pods
from poolmgr.agent.observed import ObservedGpu
from poolmgr.agent.rebind import Rebinder, RebindResult
from poolmgr.agent.report import Reporter
from poolmgr.domain.directives import is_closed_to_vms
from poolmgr.domain.errors import PoolError
from poolmgr.domain.identifiers import NodeName, PciAddress
from poolmgr.domain.modes import Mode
from poolmgr.domain.node_spec import GpuNodeSpec
from poolmgr.domain.reasons import Reason
from poolmgr.kit.clock import Clock
from poolmgr.wire.node_specs import read_spec

NVML_AGAIN_SECONDS = 60.0
"""How often NVML is asked at least: MIG may be switched on at any time. Not more often, because each question opens the
GPUs for a moment, which a GPU about to leave cannot have."""
PODS_AGAIN_SECONDS = 60.0
"""How often pods are listed at most for the sake of those that the kubelet gave no GPU: they may have one by a ResourceClaim
of which it does not tell. Of 2,000 nodes where new pods start all the time these are 33 lists a second of one node's pods."""
SPEC_SECONDS = 15.0
"""How old the spec may be when the next GPU of a move is taken from its driver. Each may take minutes, and a manager that does not
hear of this agent meanwhile gives the node back (docs/adr/0033-a-silent-agent-holds-nobody-up.md)."""

log = structlog.get_logger()


class Api(Protocol):
    """What a pass needs of the API server; `apiserver.ApiServer` provides it."""

    async def read_or_create(self) -> dict[str, Any]: ...

    async def patch_status(self, status: dict[str, Any], resource_version: str) -> dict[str, Any]: ...

    async def list_pods(self) -> Pods: ...

    async def list_limits(self) -> dict[str, ContainerLimits]: ...


class NvmlReader(Protocol):
    async def read(self) -> NvmlReport: ...


@dataclass(slots=True)
class _NvmlAnswer:
    """What NVML said last, and whether it has to be asked again."""

    report: NvmlReport
    asked_for: frozenset[PciAddress]
    asked_at: float


class NodeAgent:
    """The agent of one node. Not concurrent: one pass at a time."""

    def __init__(
        self,
        node: NodeName,
        api: Api,
        observer: NodeObserver,
        rebinder: Rebinder,
        plugins: Plugins,
        nvml: NvmlReader,
        journal: Journal,
        reporter: Reporter,
        clock: Clock,
        hook: HookKeeper | None = None,
    ) -> None:
        self._node = node
        self._hook = hook
        self._api = api
        self._observer = observer
        self._rebinder = rebinder
        self._plugins = plugins
        self._nvml = nvml
        self._journal = journal
        self._reporter = reporter
        self._clock = clock
        self._identity = _NvmlAnswer(NvmlReport(), frozenset(), 0.0)
        self._pods = Pods()
        self._listed_at = float("-inf")

    async def reconcile(self, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Act on our GPUNode `body` and report. Returns the object as it is afterwards, and whether the
        next pass should follow at once."""
        spec = read_spec(self._node, body)
        self._record_desired(spec)
        decisions, seen = await self._decide(spec)
        await self._plugins.set_offers(self._offers(spec, seen, decisions))
        tried: set[PciAddress] = set()
        late = False
        while not late and any(d.action is DeviceAction.REBIND and d.address not in tried for d in decisions):
            # What follows cannot be taken back. The spec is read anew, and the kubelet, the holders and the
            # pods once more, now that no withdrawn device can be allocated any more.
            body = await self._api.read_or_create()
            read_at = self._clock.monotonic()
            spec = read_spec(self._node, body)
            self._record_desired(spec)
            await self._list_pods()
            decisions, seen = await self._decide(spec, last=True)
            body = await self._report(body, spec, seen, decisions)
            await self._plugins.set_offers(self._offers(spec, seen, decisions))
            due = [d for d in decisions if d.action is DeviceAction.REBIND and d.address not in tried]
            for number, decision in enumerate(due):
                if self._clock.monotonic() - read_at > SPEC_SECONDS:
                    if number:
                        break
                    # The looks took that long, as where NVML wakes many GPUs, and would the next time, too: only
                    # the spec is read once more.
                    body = await self._api.read_or_create()
                    read_at = self._clock.monotonic()
                    late = read_spec(self._node, body) != spec
                    if late:
                        break
                tried.add(decision.address)
                await self._carry_out(decision)
        acted = bool(tried) or late
        if acted:
            decisions, seen = await self._decide(spec, last=True)
            await self._plugins.set_offers(self._offers(spec, seen, decisions))
        self._confirm(spec, seen, decisions)
        if self._hook and self._hook.wants_limits():
            with contextlib.suppress(PoolError):  # the next pass asks again; GPUs do not wait for it
                self._hook.learn(await self._api.list_limits())
        return await self._report(body, spec, seen, decisions), acted

    def forget_leaders(self) -> None:
        """Let a leader of any epoch write here: the API server no longer knows of those that did."""
        self._journal.forget_epoch()

    async def _decide(
        self, spec: GpuNodeSpec | None, *, last: bool = False
    ) -> tuple[tuple[GpuDecision, ...], Observation]:
        """Look and decide. `last`: before something is moved, where NVML is asked anew and what the API server has just
        said of slices and claims counts."""
        seen = await self._look(last=last)
        if spec is not None and self._has_news(seen):
            await self._list_pods()
            seen = await self._look(last=last)
        if await self._identify(seen, anew=last):
            seen = await self._look(last=last)
        decisions = decide(
            spec,
            seen.gpus,
            {PciAddress(a): r for a, r in self._journal.state.devices.items()},
            self._journal.state.highest_epoch,
            self._clock.now(),
        )
        return decisions, seen

    def _has_news(self, seen: Observation) -> bool:
        """The kubelet has pods that were not there when pods were listed."""
        known = self._pods.uids.keys()
        again = self._clock.monotonic() - self._listed_at >= PODS_AGAIN_SECONDS
        return bool(seen.pods - known or (again and seen.kubelet.pods - known))

    async def _list_pods(self) -> None:
        self._pods = await self._api.list_pods()
        self._listed_at = self._clock.monotonic()

    async def _look(self, *, last: bool) -> Observation:
        uuids = {PciAddress(a): r.uuid for a, r in self._journal.state.devices.items()}
        return await self._observer.observe(self._identity.report, uuids, self._pods, listed_now=last)

    async def _identify(self, seen: Observation, *, anew: bool) -> bool:
        """Learn names and UUIDs while a GPU is on its vendor driver; on vfio-pci nobody can tell them. NVML is asked when
        the set of GPUs has changed, once a minute, since MIG may be switched on at any time, and, with `anew`, right
        before something is moved. Whether it was asked."""
        on_host = frozenset(a for a, s in seen.gpus.items() if s.gpu.mode is Mode.SHARED)
        last = self._identity
        age = self._clock.monotonic() - last.asked_at
        due = age > NVML_AGAIN_SECONDS
        asking = bool(on_host) and (anew or due or on_host != last.asked_for)
        if asking:
            self._identity = _NvmlAnswer(await self._nvml.read(), on_host, self._clock.monotonic())
        for address, observed in seen.gpus.items():
            self._journal.update(address, **self._identity_of(observed, self._journal.state.device(address)))
        return asking

    def _identity_of(self, observed: ObservedGpu, record: DeviceRecord) -> dict[str, object]:
        function = observed.gpu.function
        known = self._identity.report.gpus.get(observed.gpu.address)
        product = observed.gpu.vendor.product(function.device_id)
        same_card = record.device_id in ("", function.device_id)
        return {
            "uuid": observed.uuid or (record.uuid if same_card else ""),
            "model": known.model if known else ((record.model if same_card else "") or product.model),
            "memory_mib": (known.memory_mib if known else 0)
            or (record.memory_mib if same_card else 0)
            or product.memory_mib,
            "vendor_id": function.vendor_id,
            "device_id": function.device_id,
            "class_id": function.class_id,
            "seen_boot_id": self._journal.state.boot_id,
        }

    def _record_desired(self, spec: GpuNodeSpec) -> None:
        """Before anything is done about them, so that they outlive a crash or reboot."""
        if spec.complaint:
            return
        if spec.transition is not None:
            self._journal.raise_epoch(spec.transition.epoch)
        for address, wanted in spec.desired.items():
            self._journal.update(address, desired_mode=wanted.mode, desired_plan_id=wanted.plan_id)
        for name, record in self._journal.state.devices.items():
            if record.desired_mode is not None and PciAddress(name) not in spec.desired:
                self._journal.update(PciAddress(name), desired_mode=None, desired_plan_id="")

    def _offers(
        self, spec: GpuNodeSpec, seen: Observation, decisions: tuple[GpuDecision, ...]
    ) -> tuple[Offer, ...]:
        """Passthrough GPUs that a VM may get: verified, wanted there, and nothing is wrong with them. One that an operator
        withdraws is offered as closed for as long as somebody may have it."""
        offers = []
        for decision in decisions:
            gpu = seen.gpus[decision.address].gpu
            wanted = spec.desired.get(gpu.address)
            if (
                wanted is not None
                and wanted.mode is Mode.PASSTHROUGH
                and gpu.usable_by_vm
                and gpu.iommu_group is not None
                and not gpu.off_bus
                and not seen.gpus[gpu.address].write_in_flight
            ):
                closed = is_closed_to_vms(spec.directives, gpu.address)
                if closed and not _may_be_used(seen.gpus[gpu.address]):
                    continue
                offers.append(Offer(gpu.address, gpu.resource_name, gpu.iommu_group, gpu.numa_node, closed))
        return tuple(offers)

    async def _carry_out(self, decision: GpuDecision) -> None:
        """Intent → act → confirm."""
        assert decision.to_mode is not None
        at = decision.address
        now = self._clock.now()
        interrupted = self._journal.state.device(at).move is not None
        self._journal.update(at, move=RebindIntent(decision.plan_id, decision.epoch, decision.to_mode, now))
        log.info(
            "rebind_started",
            gpu=at,
            to_mode=decision.to_mode,
            plan_id=decision.plan_id,
            reason=decision.reason,
        )
        result = await self._rebinder.rebind(at, decision.to_mode)
        record = self._journal.state.device(at)
        if result.ok:
            note = Reason.RECOVERED if interrupted else decision.reason
            planned = note is Reason.STEP_STARTED
            self._journal.update(
                at,
                move=None,
                failure=None,
                mode=result.mode,
                mode_since=self._clock.now(),
                done_plan_id=decision.plan_id or record.done_plan_id,
                note_reason="" if planned else note,
                note_message="" if planned else result.message,
            )
        else:
            self._journal.update(at, move=None, failure=self._failure(decision, record, result))
        log.info("rebind_ended", gpu=at, ok=result.ok, reason=result.reason, message=result.message)

    def _failure(self, decision: GpuDecision, record: DeviceRecord, result: RebindResult) -> Failure | None:
        """A holder is no trouble: nothing was touched, and it may leave at any time; it is told, and looked for again a
        little later. Nor does a driver that is not there yet, as while its container builds it, ever end the attempts."""
        assert decision.to_mode is not None
        before = record.failure
        held = result.reason is Reason.HOLDER_PRESENT
        if held and before is not None and before.code is not Reason.HOLDER_PRESENT:
            return before
        same = before is not None and (before.plan_id, before.to_mode) == (decision.plan_id, decision.to_mode)
        attempts = before.attempts + 1 if before is not None and same and not held else 1
        if result.reason is Reason.DRIVER_MISSING:
            attempts = min(attempts, MAX_ATTEMPTS - 1)
        reason = Reason.UNBIND_TIMED_OUT if result.hung else result.reason
        return Failure(
            reason=reason,
            message=result.message,
            plan_id=decision.plan_id,
            to_mode=decision.to_mode,
            at=self._clock.now(),
            attempts=attempts,
            quarantined=result.hung or attempts >= MAX_ATTEMPTS,
        )

    def _confirm(self, spec: GpuNodeSpec, seen: Observation, decisions: tuple[GpuDecision, ...]) -> None:
        """Write down what was reached: by this pass, or by an agent that did not live to say so."""
        for name, known in self._journal.state.devices.items():
            # Taken out on purpose: the manager wants nothing of it any more and a reboot did not bring it back.
            # Until both are true it is reported as gone, or until an operator has it forgotten.
            on_bus = PciAddress(name) in seen.gpus
            booted = known.seen_boot_id != self._journal.state.boot_id or name in spec.directives.forgotten
            if not on_bus and booted and known.desired_mode is None:
                self._journal.forget(PciAddress(name))
        for decision in decisions:
            observed = seen.gpus[decision.address]
            record = self._journal.state.device(decision.address)
            changes: dict[str, object] = {}
            if observed.gpu.mode is not None and observed.gpu.mode is not record.mode:
                changes |= {"mode": observed.gpu.mode, "mode_since": self._clock.now()}
            wanted = spec.desired.get(decision.address)
            if (
                decision.action is DeviceAction.NOTHING
                and not observed.write_in_flight
                and decision.to_mode is None
            ):
                if record.move is not None:
                    message = f"{decision.address} was being moved when the agent ended; it is on {observed.gpu.driver}"
                    changes |= {"move": None, "note_reason": Reason.RECOVERED, "note_message": message}
                if (
                    wanted is not None
                    and arrived(observed.gpu, wanted.mode)
                    and decision.reason is Reason.IN_PLACE
                ):
                    changes |= {"done_plan_id": wanted.plan_id, "failure": None}
            if changes:
                self._journal.update(decision.address, **changes)

    async def _report(
        self, body: dict[str, Any], spec: GpuNodeSpec, seen: Observation, decisions: tuple[GpuDecision, ...]
    ) -> dict[str, Any]:
        status = self._reporter.status(
            body,
            spec,
            seen,
            decisions,
            self._journal,
            self._plugins.error,
            self._identity.report,
            self._hook.keep() if self._hook else None,
            self._clock.now(),
        )
        if status == body.get("status"):
            return body
        return await self._api.patch_status(status, body["metadata"]["resourceVersion"])


def _may_be_used(seen: ObservedGpu) -> bool:
    """Somebody has it, or nobody can tell."""
    return bool(seen.allocated_to or seen.holders) or not seen.kubelet_known
