"""Questions about one node that both recipes ask. Pure; each answer names what it found."""

from collections.abc import Iterable, Mapping
from math import floor

from poolmgr.domain.demand import SharedPod
from poolmgr.domain.directives import WORDS
from poolmgr.domain.fleet import Gpu, Node, Transition
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.occupancy import occupancy_of
from poolmgr.domain.reasons import Reason
from poolmgr.domain.sharing import SharingState
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import User

from .actions import Action, AskScheduler, Cordon, Effect, FenceGpus, Perform, Plugin, Unregister, Wait

SETTLE_SECONDS = 15.0
"""HAMi's scheduler writes an assignment at Filter, before Bind, and refreshes its view every 15 s
(facts: HAMi `register()` loop): a node counts as quiet once its newest placement is older than that."""


TICK_SECONDS = 16.0
"""HAMi's scheduler looks at the nodes every 15 s."""

SCHEDULER_SECONDS = 45.0
"""How long Attach waits at most for the scheduler to look when it was asked to: three of its rounds. A pod that comes
before it is turned away ("node unregistered") and not tried again for up to five minutes (kube-scheduler's
`podMaxInUnschedulablePodsDuration`), which is a nuisance and no danger."""


def moving(node: Node, transition: Transition) -> tuple[Gpu, ...]:
    """The GPUs of the transition that the node still reports."""
    return tuple(g for g in node.gpus if g.pci_address in transition.devices)


def to_rebind(node: Node, transition: Transition) -> tuple[Gpu, ...]:
    """Those of them that are not yet where they should be; all while the agent has not said."""
    if not node.reported:
        return moving(node, transition)
    return tuple(g for g in moving(node, transition) if g.observed_mode is not transition.to_mode)


def strayed(node: Node, transition: Transition) -> tuple[Gpu, ...]:
    """Those that were there and are not any more, as after a reboot in the midst of a move."""
    return tuple(
        g for g in to_rebind(node, transition) if node.reported and g.phase is not DevicePhase.QUARANTINED
    )


def remaining_shared(node: Node) -> tuple[Gpu, ...]:
    """GPUs of the node that HAMi is to have once the move is over."""
    return tuple(
        g
        for g in node.gpus
        if g.desired_mode is Mode.SHARED
        and g.observed_mode is Mode.SHARED
        and g.phase is not DevicePhase.QUARANTINED
        and g.uuid
    )


def withdrawn(node: Node) -> frozenset[GpuUuid]:
    """GPUs that HAMi may give to nobody new, because an operator says so."""
    return frozenset(
        g.uuid for g in node.gpus if g.closed is not None and g.uuid and g.observed_mode is Mode.SHARED
    )


def fence_at_rest(node: Node) -> Perform | None:
    """Of a node without a move: HAMi's device cordon has the GPUs that an operator withdraws, and no others of ours."""
    sharing, wanted = node.sharing, withdrawn(node)
    if sharing is None or not closes_gpus(sharing) or sharing.closing == wanted:
        return None
    gpus = [g for g in node.gpus if g.uuid in wanted ^ sharing.closing]
    message = f"{names(gpus)} on {node.name}: " + (
        "closed to new pods, as an operator asked" if wanted - sharing.closing else "open to new pods again"
    )
    reason = next((g.closed.reason for g in gpus if g.closed is not None), Reason.STEP_DONE)
    return Perform((FenceGpus(wanted),), reason, message)


def pods_on(snapshot: ClusterSnapshot, gpus: Iterable[Gpu]) -> tuple[SharedPod, ...]:
    """Pods with a slice of one of these GPUs, each once; terminating ones still hold theirs."""
    occupancy = occupancy_of(snapshot)
    return tuple({pod.uid: pod for gpu in gpus for pod in occupancy.pods_on(gpu)}.values())


def users_of(snapshot: ClusterSnapshot, gpus: Iterable[Gpu]) -> dict[Gpu, tuple[User, ...]]:
    """Those of `gpus` that are in use, and by whom, as `domain.usage` defines."""
    occupancy = occupancy_of(snapshot)
    return {gpu: users for gpu in gpus if (users := occupancy.users_of(gpu))}


def cannot_tell(node: Node, snapshot: ClusterSnapshot, gpus: Iterable[Gpu]) -> str:
    """Why the first of `gpus` that is on a driver may be in use and it cannot be told; empty where that can be told of all.

    The agent is asked as well: for a GPU that it would not rebind, nobody is disturbed further. That an operator wants
    it to stay since does not stop its move.
    """
    doubts = occupancy_of(snapshot).doubts_on(node)
    for gpu in gpus:
        if gpu.observed_mode is None:
            continue
        if not gpu.rebind and gpu.rebind.reason not in WORDS:
            return f"{names((gpu,))} of {node.name}: {gpu.rebind.message}"
        if gpu.pci_address in doubts:
            return f"{names((gpu,))} of {node.name}: {doubts[gpu.pci_address]}"
    return ""


def names(gpus: Iterable[Gpu]) -> str:
    """GPUs as a sentence names them."""
    return ", ".join(f"{g.model} {g.pci_address}" for g in gpus) or "no GPU"


def pod_names(pods: Iterable[SharedPod]) -> str:
    return _first_three([f"{p.namespace}/{p.name}" for p in pods])


def user_names(users: Mapping[Gpu, tuple[User, ...]]) -> str:
    """Each of them once."""
    return _first_three(list(dict.fromkeys(user.name for found in users.values() for user in found)))


def _first_three(names: list[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


def closes_gpus(sharing: SharingState) -> bool:
    """HAMi's scheduler can be told to give out none of a node's GPUs, so that the node need not be cordoned."""
    return sharing.version >= (2, 10)


def given_out(node: Node) -> frozenset[GpuUuid]:
    """All GPUs of the node that HAMi may give to pods."""
    registered = node.sharing.registered if node.sharing is not None else ()
    shared = (g.uuid for g in node.gpus if g.observed_mode is Mode.SHARED and g.uuid)
    return frozenset((*shared, *(gpu.uuid for gpu in registered)))


def reopened_but_for(node: Node, gpus: Iterable[Gpu]) -> Action | None:
    """Next action until pods may come onto the node's other GPUs, or None when they may: while pods of `gpus` are waited
    for, nobody else has to stay away."""
    sharing = node.sharing
    if sharing is None or not sharing.plugin_wanted:
        return None
    keep = sharing.closing & (withdrawn(node) | {g.uuid for g in gpus})
    effects: list[Effect] = [FenceGpus(keep)] if keep != sharing.closing else []
    if node.cordoned_by_us:
        effects.append(Cordon(False))
    if not effects:
        return None
    return Perform(
        tuple(effects), Reason.STEP_STARTED, f"reopening the other GPUs of {node.name} to new pods meanwhile"
    )


def close_all(node: Node) -> Action | None:
    """Write HAMi's device cordon for every GPU of the node, or None where that stands, or there is no such cordon. Nothing is
    waited for."""
    sharing = node.sharing
    if sharing is None or not closes_gpus(sharing) or node.cordoned:
        return None
    gpus = given_out(node)
    if gpus <= sharing.closing:
        return None
    return Perform(
        (FenceGpus(gpus | sharing.closing),),
        Reason.STEP_STARTED,
        f"closing all GPUs of {node.name} to new vGPU pods while HAMi's plugin restarts there",
    )


def _close_node(node: Node, sharing: SharingState, now: float) -> Action | None:
    """Next action until HAMi places nothing on the node while its plugin is away, or None when that is so.

    From 2.10 on by its own device cordon on every GPU: pods without a slice, and VMs, may come all the while. A scheduler
    that does not say in time that it has read that may still act on what it knew, so the node is cordoned then, as
    with older releases, which have nothing smaller.
    """
    if node.cordoned:
        return None
    if closing := close_all(node):
        return closing
    if closes_gpus(sharing):
        # Once the plugin goes, the scheduler takes its stamp off and puts it on again; what it has read it knows.
        if not sharing.plugin_wanted or given_out(node) <= sharing.fenced:
            return None
        if node.transition is not None and now - node.transition.step_started_at < SCHEDULER_SECONDS:
            return Wait(
                Reason.BIND_IN_FLIGHT,
                f"HAMi's scheduler has not yet seen that the GPUs of {node.name} are closed; HAMi's plugin keeps running until it has",
            )
    return Perform(
        (Cordon(True),),
        Reason.STEP_STARTED,
        f"cordoning {node.name} until HAMi's scheduler places nothing there",
    )


def detach_sharing(node: Node, snapshot: ClusterSnapshot) -> Action | None:
    """Next action until HAMi has let go of the node, or None when it has.

    The order matters and is HAMi's: closed, quiet, plugin gone, allocatable 0, on 2.9 and older the
    scheduler's clean-up, and only then the registration (`docs/explanation/taking-a-gpu-from-hami.md`).
    """
    sharing = node.sharing
    if sharing is None:
        return None
    there = sharing.plugin_wanted or sharing.plugin_pods or sharing.allocatable or sharing.registered
    if not there and sharing.handshake.startswith("Deleted"):
        # 2.9 and older say so when they have forgotten the node, and give out nothing there until the plugin is back.
        if node.cordoned_by_us:
            return Perform(
                (Cordon(False),),
                Reason.STEP_STARTED,
                f"reopening {node.name}: HAMi places nothing there until its plugin is back",
            )
        return None
    if pending := _close_node(node, sharing, snapshot.taken_at):
        return pending
    if sharing.plugin_wanted:
        if sharing.allocating or sharing.locked_by:
            who = f"{sharing.allocating} pod(s)" if sharing.allocating else sharing.locked_by
            return Wait(
                Reason.BIND_IN_FLIGHT,
                f"HAMi is placing {who} on {node.name}; HAMi's plugin keeps running until that is done",
            )
        quiet_at = sharing.last_placement_at + SETTLE_SECONDS
        if snapshot.taken_at < quiet_at:
            return Wait(
                Reason.BIND_IN_FLIGHT,
                f"HAMi placed a pod on {node.name} a moment ago; waiting {quiet_at - snapshot.taken_at:.0f} s "
                "in case another placement follows",
            )
        return Perform((Plugin(False),), Reason.STEP_STARTED, f"stopping HAMi's device plugin on {node.name}")
    if sharing.plugin_pods:
        return Wait(Reason.PLUGIN_STILL_RUNNING, f"HAMi's device plugin is still stopping on {node.name}")
    if sharing.allocatable:
        return Wait(
            Reason.PLUGIN_STILL_RUNNING,
            f"the kubelet of {node.name} still advertises {sharing.allocatable} of HAMi's slices",
        )
    if sharing.registered:
        if sharing.version < (2, 10) and not sharing.handshake.startswith("Deleted"):
            return Wait(
                Reason.REGISTRATION_PENDING,
                f"HAMi {sharing.version[0]}.{sharing.version[1]} has not yet cleaned up {node.name}; its registration is "
                "removed after that",
            )
        return Perform((Unregister(),), Reason.STEP_STARTED, f"removing HAMi's registration of {node.name}")
    return None


def attach_sharing(
    node: Node,
    snapshot: ClusterSnapshot,
    gone: frozenset[GpuUuid],
    unsure: frozenset[GpuUuid] = frozenset(),
) -> Action | None:
    """Next action until HAMi shows exactly the GPUs that it is to have, or None when it does.

    `gone` are GPUs that must not be registered, `unsure` those that stay closed, registered or not. A node without shared GPUs keeps the plugin off: with no
    NVIDIA GPU to be seen it would wait or crash, and its old registration would linger.
    """
    sharing = node.sharing
    if sharing is None:
        return None
    wanted = {g.uuid for g in remaining_shared(node)} - unsure
    if not wanted:
        return None
    if not sharing.plugin_wanted:
        return Perform((Plugin(True),), Reason.STEP_STARTED, f"starting HAMi's device plugin on {node.name}")
    if not sharing.plugin_ready:
        return Wait(Reason.REGISTRATION_PENDING, f"HAMi's device plugin is starting on {node.name}")
    registered = {g.uuid for g in sharing.registered if g.healthy}
    missing = wanted - registered
    if missing or not sharing.allocatable:
        return Wait(
            Reason.REGISTRATION_PENDING,
            f"HAMi has registered {len(wanted) - len(missing)} of {len(wanted)} shared GPU(s) of {node.name}",
        )
    if gone & {g.uuid for g in sharing.registered}:
        return Wait(
            Reason.REGISTRATION_PENDING,
            f"HAMi still lists a GPU that left {node.name}; waiting for its plugin to look again",
        )
    closed = withdrawn(node) | unsure
    unclosed = unsure - sharing.closing if closes_gpus(sharing) else frozenset()
    if (sharing.closing - closed or unclosed) and node.transition is not None:
        return Perform(
            (FenceGpus(closed), _ask(node.transition, snapshot.taken_at)),
            Reason.STEP_STARTED,
            f"opening the GPUs of {node.name} to vGPU pods again, and asking HAMi's scheduler to look",
        )
    if unsure and not sharing.asked_for and _opened_since(sharing, node.transition):
        return None  # it has looked, and the node has been opened since
    return scheduler_look(node, sharing, snapshot.taken_at)


def _ask(transition: Transition, now: float) -> AskScheduler:
    """Never of before the step, whoever's clock said when that began."""
    return AskScheduler(transition.plan_id, max(now, transition.step_started_at))


def _opened_since(sharing: SharingState, transition: Transition | None) -> bool:
    """The node has been opened within this step, which comes after the scheduler has looked. That is noted in whole seconds."""
    return transition is not None and sharing.opened_at >= floor(transition.step_started_at)


def unlisted(node: Node, gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """Those of `gpus` that are on their vendor's driver and that HAMi does not list: its plugin looks for GPUs only at its
    start."""
    if node.sharing is None:
        return ()
    listed = {g.uuid for g in node.sharing.registered}
    return tuple(g for g in gpus if g.observed_mode is Mode.SHARED and g.uuid and g.uuid not in listed)


def scheduler_look(node: Node, sharing: SharingState, now: float) -> Action | None:
    """Next action until HAMi's scheduler knows what its plugin has registered.

    It looks at every tick and takes note of little; 2.10 stamps a handshake that is missing also before the plugin
    is back. So it is asked once everything is registered, by removing the handshake, and the next stamp is its answer.
    Older releases leave no trace of a look: there a tick is waited for.
    """
    if node.transition is None:
        return None
    plan = node.transition.plan_id
    if sharing.asked_for != plan:
        return Perform(
            (_ask(node.transition, now),),
            Reason.STEP_STARTED,
            f"asking HAMi's scheduler to look at {node.name} again",
        )
    answers = sharing.version >= (2, 10)
    looked = answers and sharing.handshake.startswith("Requesting")
    if not looked and now - sharing.asked_at < (SCHEDULER_SECONDS if answers else TICK_SECONDS):
        return Wait(
            Reason.REGISTRATION_PENDING,
            f"HAMi's scheduler has not looked at {node.name} again yet; it would reject a pod placed now",
        )
    return None
