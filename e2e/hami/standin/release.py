"""How HAMi 2.8 and 2.10 differ, as far as the stand-in behaves differently."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """One flag for each difference; the values below are those of 2.10."""

    version: str
    heeds_handshake: bool = True
    """The scheduler stamps `hami.io/node-handshake` and looks at its age. Older: the NVIDIA part ignores it."""
    removes_handshake: bool = True
    """Letting go of a node removes the handshake. Older: writes `Deleted_<time>`."""
    notices_registration: bool = True
    """A changed register annotation is read anew. Older: only a changed number of slices is noticed."""
    judges_unregistered_nodes: bool = True
    """A node's health is looked at even where its annotation cannot be read. Older: such a node is passed over."""
    knows_cordon: bool = True
    """`hami.io/device-cordon` on the cached Node closes GPUs."""
    counts_init_containers: bool = True
    keeps_slot_before: bool = False
    """A container without a GPU that comes before one with a GPU keeps an empty slot in the assignment."""
    keeps_empty_slots_when_read: bool = True
    """Reading an assignment keeps empty slots, the one after the last `;` too. Older: drops all of them."""
    use_hides_nouse: bool = False
    """A pod that names GPUs to use has its list of GPUs not to use ignored."""
    takes_own_scheduler: bool = True
    """Pods that already name HAMi's scheduler are mutated too. Older: left alone."""
    denies_privileged: bool = True
    """A pod with a privileged container and a GPU is denied. Older: the privileged container is passed over."""
    denies_over_quota: bool = True
    """The webhook denies what a ResourceQuota does not allow. Older: only the scheduler refuses it."""
    trims_type_lists: bool = True
    """Lists of models may have blanks and empty entries. Older: an empty entry matches every model."""
    frees_lost_pods: bool = True
    """A bind of a pod that is gone frees what it held."""
    mig_by_placement: bool = True
    """MIG instances are reserved by profile and placement in an annotation of their own. Older: by a cut of the
    whole GPU that is part of the GPU's name, `UUID[<cut>-<place>]`."""
    rereads_assignments: bool = False
    """Every change of a pod reads its assignment anew, and a pod that is ending is not treated differently."""
    blocks_by_zero_quota: bool = True
    """A quota of 0 allows nothing. Older: it is none."""
    checks_percentage: bool = True
    """A memory percentage outside 0..100 is refused by the webhook."""
    own_lock_is_held: bool = True
    """A node lock that this very pod holds counts as taken. Older: it refuses its own pod."""
    bare_lock_is_anyones: bool = True
    """A lock without an owner is released by any binder that fails."""
    details_refusals: bool = True
    """`failedNodes` carries the reason. Older: `NodeUnfitPod`, the reason is in the event."""
    simulates: bool = True
    """`/filter` with whole nodes in place of names answers from their annotations and writes nothing."""
    knows_mutex_policy: bool = True
    new_metric_names: bool = True
    monitor_binds_anywhere: bool = True
    """The monitor's address for metrics can be chosen. Older: `:9394`."""
    registers_pair_scores: bool = False
    """Every registered GPU has an empty `devicepairscore`."""
    overview_at_each_tick_only: bool = True
    """The metrics page shows usage as of the last look at all nodes. Older: as of the last filter, too."""
    applies_filter: bool = True
    """`filterdevices` of the node's config.json keeps GPUs from being registered. Older: read and not applied."""
    survives_disabled_health_checks: bool = True
    """DP_DISABLE_HEALTHCHECKS=all ends the health check. Older: it ends the program."""
    prefers_assigned_gpus: bool = True
    """The kubelet is told which of its device ids are those of the GPUs that the scheduler chose."""
    allocates_after_success: bool = True
    """Without a node lock, a pod whose bind phase is already `success` may be the pending one too."""


V2_10 = Release("2.10.0")
V2_8 = Release(
    "2.8.3",
    heeds_handshake=False,
    removes_handshake=False,
    notices_registration=False,
    judges_unregistered_nodes=False,
    knows_cordon=False,
    counts_init_containers=False,
    keeps_slot_before=True,
    keeps_empty_slots_when_read=False,
    use_hides_nouse=True,
    takes_own_scheduler=False,
    denies_privileged=False,
    denies_over_quota=False,
    trims_type_lists=False,
    frees_lost_pods=False,
    mig_by_placement=False,
    rereads_assignments=True,
    blocks_by_zero_quota=False,
    checks_percentage=False,
    own_lock_is_held=False,
    bare_lock_is_anyones=False,
    details_refusals=False,
    simulates=False,
    knows_mutex_policy=False,
    new_metric_names=False,
    monitor_binds_anywhere=False,
    registers_pair_scores=True,
    overview_at_each_tick_only=False,
    applies_filter=False,
    survives_disabled_health_checks=False,
    prefers_assigned_gpus=False,
    allocates_after_success=False,
)

RELEASES = {release.version: release for release in (V2_8, V2_10)}
VARIABLE = "HAMI_STANDIN_RELEASE"
"""Which release a program speaks. The real programs know theirs from their build."""


def release_of_environment() -> Release:
    """The release named by the environment; SystemExit says which ones there are."""
    version = os.environ.get(VARIABLE, "")
    if version not in RELEASES:
        raise SystemExit(f"set {VARIABLE} to one of {', '.join(RELEASES)} (it is {version!r})")
    return RELEASES[version]
