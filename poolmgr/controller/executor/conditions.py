"""Questions about one node that both recipes ask. Pure; each answer names what it found."""

from collections.abc import Iterable, Mapping

from poolmgr.domain.demand import SharedPod
from poolmgr.domain.fleet import Gpu, Node, Transition
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.occupancy import occupancy_of
from poolmgr.domain.reasons import Reason
from poolmgr.domain.sharing import SharingState
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import User

from .actions import Action, AskScheduler, Cordon, Perform, Plugin, Unregister, Wait

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


def pods_on(snapshot: ClusterSnapshot, uuids: Iterable[GpuUuid]) -> tuple[SharedPod, ...]:
    """Pods with a slice of one of these GPUs; terminating ones still hold theirs."""
    wanted = frozenset(uuids) - {""}
    return tuple(p for p in snapshot.pods if any(s.uuid in wanted for s in p.slices))


def users_of(snapshot: ClusterSnapshot, gpus: Iterable[Gpu]) -> dict[Gpu, tuple[User, ...]]:
    """Those of `gpus` that are in use, and by whom, as `domain.usage` defines."""
    occupancy = occupancy_of(snapshot)
    return {gpu: users for gpu in gpus if (users := occupancy.users_of(gpu))}


def names(gpus: Iterable[Gpu]) -> str:
    """GPUs as a sentence names them."""
    return ", ".join(f"{g.model} {g.pci_address}" for g in gpus) or "no GPU"


def pod_names(pods: Iterable[SharedPod]) -> str:
    listed = [f"{p.namespace}/{p.name}" for p in pods]
    shown = ", ".join(listed[:3])
    return shown if len(listed) <= 3 else f"{shown} and {len(listed) - 3} more"


def user_names(users: Mapping[Gpu, tuple[User, ...]]) -> str:
    """Each of them once."""
    listed = list(dict.fromkeys(user.name for found in users.values() for user in found))
    shown = ", ".join(listed[:3])
    return shown if len(listed) <= 3 else f"{shown} and {len(listed) - 3} more"


def detach_sharing(node: Node, snapshot: ClusterSnapshot) -> Action | None:
    """Next action until HAMi has let go of the node, or None when it has.

    The order matters and is HAMi's: cordon, quiet, plugin gone, allocatable 0, on 2.9 and older the
    scheduler's clean-up, and only then the registration (`docs/explanation/taking-a-gpu-from-hami.md`).
    """
    sharing = node.sharing
    if sharing is None:
        return None
    if not node.cordoned:
        return Perform(
            (Cordon(True),),
            Reason.STEP_STARTED,
            f"cordoning {node.name} while HAMi's plugin restarts there",
        )
    if sharing.plugin_wanted:
        if sharing.allocating or sharing.locked_by:
            who = f"{sharing.allocating} pod(s)" if sharing.allocating else sharing.locked_by
            return Wait(
                Reason.BIND_IN_FLIGHT,
                f"HAMi is placing {who} on {node.name}; its plugin stays until that is through",
            )
        quiet_at = sharing.last_placement_at + SETTLE_SECONDS
        if snapshot.taken_at < quiet_at:
            return Wait(
                Reason.BIND_IN_FLIGHT,
                f"HAMi placed a pod on {node.name} a moment ago; waiting {quiet_at - snapshot.taken_at:.0f} s "
                "to be sure that no placement is on its way",
            )
        return Perform(
            (Plugin(False),), Reason.STEP_STARTED, f"asking HAMi's device plugin to leave {node.name}"
        )
    if sharing.plugin_pods:
        return Wait(Reason.PLUGIN_STILL_RUNNING, f"HAMi's device plugin is still ending on {node.name}")
    if sharing.allocatable:
        return Wait(
            Reason.PLUGIN_STILL_RUNNING,
            f"the kubelet of {node.name} still advertises {sharing.allocatable} slices of HAMi",
        )
    if sharing.registered:
        if sharing.version < (2, 10) and not sharing.handshake.startswith("Deleted"):
            return Wait(
                Reason.REGISTRATION_PENDING,
                f"HAMi {sharing.version[0]}.{sharing.version[1]} has not yet cleaned up {node.name}; its "
                "registration must not go before",
            )
        return Perform((Unregister(),), Reason.STEP_STARTED, f"removing HAMi's registration of {node.name}")
    return None


def attach_sharing(node: Node, snapshot: ClusterSnapshot, gone: frozenset[GpuUuid]) -> Action | None:
    """Next action until HAMi shows exactly the GPUs that it is to have, or None when it does.

    `gone` are GPUs that must not be registered. A node without shared GPUs keeps the plugin off: with no
    NVIDIA GPU to be seen it would wait or crash, and its old registration would linger.
    """
    sharing = node.sharing
    if sharing is None:
        return None
    wanted = {g.uuid for g in remaining_shared(node)}
    if not wanted:
        return None
    if not sharing.plugin_wanted:
        return Perform(
            (Plugin(True),), Reason.STEP_STARTED, f"giving {node.name} back to HAMi's device plugin"
        )
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
            f"HAMi still lists a GPU of {node.name} that has left; waiting for its plugin to look again",
        )
    return scheduler_look(node, sharing, snapshot.taken_at)


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
            (AskScheduler(plan, now),),
            Reason.STEP_STARTED,
            f"asking HAMi's scheduler to look at {node.name} again",
        )
    answers = sharing.version >= (2, 10)
    looked = answers and sharing.handshake.startswith("Requesting")
    if not looked and now - sharing.asked_at < (SCHEDULER_SECONDS if answers else TICK_SECONDS):
        return Wait(
            Reason.REGISTRATION_PENDING,
            f"HAMi's scheduler has not looked at {node.name} again yet; a pod placed now would be turned away",
        )
    return None
