"""Every reason code. A code is never reused: logs, Events, the API and dashboards carry it. One that is renamed keeps
its old name as an alias for one release (`ALIASES`).

Each member's comment says when it is used; `docs/reference/reasons.md` is made from this
file. Add codes at the end of their group.
"""

from enum import StrEnum


class Reason(StrEnum):
    # Moves
    VM_WAITING = "VmWaiting"  # a VM waits for a GPU of this model
    SHARED_DEMAND = "SharedDemandWaiting"  # vGPU pods wait and this GPU idles in passthrough
    HEADROOM = "HeadroomWanted"  # the pool's headroom or the forecast asks for it
    BELOW_MINIMUM = "BelowMinimum"  # a side is under its minimum
    RESERVATION_DUE = "ReservationDue"  # a GPUReservation starts
    OPERATOR_REQUEST = "OperatorRequest"  # asked for through the API

    # GPUs left where they are
    IN_PLACE = "InPlace"  # already in the mode that serves best
    GPU_BUSY = "GpuBusy"  # a workload or process is on it
    GPU_MOVING = "GpuMoving"  # a move is under way
    GPU_UNHEALTHY = "GpuUnhealthy"  # phase is Foreign, Unbound or Quarantined
    COOLDOWN = "Cooldown"  # moved too recently
    AT_MINIMUM = "AtMinimum"  # leaving would take its side under the minimum
    AT_MAXIMUM = "AtMaximum"  # arriving would take the other side over the maximum
    BUDGET_SPENT = "BudgetSpent"  # as many GPUs of the pool move as may at once
    NODE_IN_TRANSITION = "NodeInTransition"  # one move per node at a time
    NODE_NOT_READY = "NodeNotReady"  # kubelet or agent not ready
    NODE_NOT_REPORTED = "NodeNotReported"  # agent has not echoed the current generation
    NOT_CHOSEN = "NotChosen"  # another GPU was cheaper to move
    NOT_IN_POOL = "NotInPool"  # no GPUPool selects it
    POOL_OFF = "PoolOff"  # rebalance is Off
    RECOMMEND_ONLY = "RecommendOnly"  # a move is recommended and not made: rebalance is Recommend
    IOMMU_GROUP_SHARED = "IommuGroupShared"  # its IOMMU group holds a device that cannot move with it
    UNSUITABLE = "Unsuitable"  # a property of the GPU or of the node makes the move impossible
    NO_DEMAND = "NoDemand"  # nobody waits for the other mode
    RECENTLY_FAILED = "RecentlyFailed"  # a move failed: GPU or node rests until the instant in the sentence
    DISTURBANCE_SPENT = "DisturbanceSpent"  # moves cost the node's pods as much within an hour as they may
    AGENT_SILENT = "AgentSilent"  # its node's agent is not heard, so what it said last may be untrue
    GPU_CORDONED = "GpuCordoned"  # an operator keeps it in its mode

    # Demand that cannot be served now
    NO_CANDIDATE = "NoCandidate"  # no GPU of the model can be moved now
    UNKNOWN_RESOURCE = "UnknownResource"  # no GPU of the cluster has this resource name or model
    MORE_THAN_ANY_NODE = "MoreThanAnyNode"  # more GPUs than any one node has
    MORE_MEMORY_THAN_ANY_CARD = "MoreMemoryThanAnyCard"  # more GPU memory than any card has
    INVALID_REQUEST = "InvalidRequest"  # the request contradicts itself or has a value out of range
    QUOTA_EXCEEDED = "QuotaExceeded"  # the namespace's share of the pool is used up
    EVICTION_NOT_YET = "EvictionNotYet"  # the VM has not waited long enough for what an eviction would lose
    LENT_TO_BEST_EFFORT = "LentToBestEffort"  # kept for expected VMs; only best-effort pods may start on it
    SERVED = "Served"  # it has what it asked for
    FREE_CAPACITY = "FreeCapacity"  # the right side already has room; the scheduler will place it
    MOVE_UNDER_WAY = "MoveUnderWay"  # a GPU is on its way for this demand
    NO_NODE_ADMITS = "NoNodeAdmits"  # its own scheduling rules keep it off every node that has such GPUs
    PLACEMENT_UNKNOWN = "PlacementUnknown"  # where it may run cannot be told, so nothing is moved for it
    NOT_TAKEN = "NotTaken"  # GPUs were free for it for two minutes and it did not take them: others get them
    CANNOT_START = "CannotStart"  # KubeVirt cannot start it, whatever GPU is free; the sentence says why
    LACKS_SOMETHING_ELSE = "LacksSomethingElse"  # the scheduler names no GPU among what it lacks
    UNSERVED_RESOURCE = "UnservedResource"  # MIG slices, other vendors' GPUs and the like: not given out
    NODE_FULL = "NodeFull"  # the node has too little CPU, memory or the like left for it

    # Admission
    WILL_WAIT = "WillWait"  # admitted, but has to wait; the warning says for what
    GPU_LEAVING = "GpuLeaving"  # GPUs that are leaving the shared side are excluded for this pod
    ADMITTED = "Admitted"  # the request is admitted; as a status: the component works
    NOT_OURS = "NotOurs"  # it asks for no GPU and is left unchanged
    POOL_OVERLAP = "PoolOverlap"  # two pools would claim the same GPU
    FLEET_UNKNOWN = "FleetUnknown"  # the webhook has no view of the fleet yet and lets the request pass

    # Steps of a move
    STEP_STARTED = "StepStarted"  # the manager has written this step, or the agent begins its part
    STEP_DONE = "StepDone"  # this step's condition holds; the next one follows
    STEP_WAITING = "StepWaiting"  # not yet; the sentence says what for
    STEP_TIMED_OUT = "StepTimedOut"  # it took longer than it may; the sentence says what it waited for
    ROLLED_BACK = "RolledBack"  # the move was given up and the GPU is back on the side it came from
    MOVE_COMPLETED = "MoveCompleted"  # the GPU is on its new side, shown there, and open for workloads
    DRAIN_WAITING = "DrainWaiting"  # workloads are still on the GPU
    BIND_IN_FLIGHT = "BindInFlight"  # HAMi is allocating on this node right now
    PLUGIN_STILL_RUNNING = "PluginStillRunning"  # HAMi's plugin has not ended on this node yet
    REGISTRATION_PENDING = "RegistrationPending"  # a side does not show the GPUs that it should yet
    EVICTED = "Evicted"  # a best-effort pod was asked to leave through the Eviction API
    EVICTION_DENIED = "EvictionDenied"  # a disruption budget, the pool or the pod's owner does not allow it

    # Agent
    HOLDER_PRESENT = "HolderPresent"  # a process has the device open
    KUBELET_ALLOCATED = "KubeletAllocated"  # the kubelet gave it to a pod
    MEDIATED_DEVICES = "MediatedDevices"  # parts of the GPU are given out as mediated devices (vGPU)
    CANNOT_TELL = "CannotTell"  # whether the GPU is in use is not known, so it stays; the sentence says why
    UNBIND_TIMED_OUT = "UnbindTimedOut"  # the driver did not let go in time: quarantined until a reboot
    BIND_FAILED = "BindFailed"  # the driver did not take the GPU; the sentence has the kernel's error
    VERIFY_FAILED = "VerifyFailed"  # read back after a write, the result is not what was written
    NO_IOMMU = "NoIommu"  # the GPU has no IOMMU group: enable VT-d or AMD-Vi in firmware and kernel
    GROUP_NOT_VIABLE = "GroupNotViable"  # other devices share its IOMMU group and cannot go with it
    BOOT_DISPLAY = "BootDisplay"  # the host's console is on it
    SRIOV_ACTIVE = "SriovActive"  # it has virtual functions
    MIG_ENABLED = "MigEnabled"  # it is in MIG mode
    DRIVER_MISSING = "DriverMissing"  # the driver that it would go to is not loaded
    STALE_EPOCH = "StaleEpoch"  # ordered by a manager that has since lost the lease; not done
    RECOVERED = "Recovered"  # an interrupted move was finished or undone after a restart
    DEVICE_GONE = "DeviceGone"  # it is not on the PCI bus any more
    AGENT_AT_WORK = "AgentAtWork"  # the node's agent reads its spec and acts on it
    JOURNAL_DAMAGED = "JournalDamaged"  # the agent's journal was unreadable and begun anew
    IOMMU_PRESENT = "IommuPresent"  # every GPU of the node has an IOMMU group
    NVML_ANSWERS = "NvmlAnswers"  # NVML works, so models and UUIDs are known
    NVML_UNAVAILABLE = "NvmlUnavailable"  # GPUs are known by what sysfs and the journal say
    PLUGIN_REGISTERED = "PluginRegistered"  # the kubelet knows every passthrough resource of the node
    KUBELET_UNREACHABLE = "KubeletUnreachable"  # the kubelet's sockets do not answer
    DRIFTED = "Drifted"  # found in another mode than desired, as after a reboot; the manager repairs it
    HOOK_IN_PLACE = "HookInPlace"  # new containers with a share of a GPU get libhook
    HOOK_NOT_IN_PLACE = "HookNotInPlace"  # they get HAMi's own; the sentence says why

    # Service
    NOT_LEADER = "NotLeader"  # this manager lacks the lease; the sentence says why
    NOT_SYNCED = "NotSynced"  # the cluster has not been read completely yet; nothing is moved before that
    STALE_SNAPSHOT = "StaleSnapshot"  # the view of the cluster is too old to act on
    STALE_GENERATION = "StaleGeneration"  # changed since it was read: read it again
    POOL_NOT_FOUND = "PoolNotFound"  # no GPUPool of this name; the sentence lists those there are
    NOT_FOUND = "NotFound"  # no such object or path
    INVALID_BODY = "InvalidBody"  # the request's body is not understood; the sentence names the field
    API_UNAVAILABLE = "ApiUnavailable"  # the Kubernetes API cannot be reached; it is tried again
    STORE_UNAVAILABLE = "StoreUnavailable"  # no ledger: moves go on, history is missing meanwhile
    INVARIANT_BROKEN = "InvariantBroken"  # an invariant does not hold; left alone until a person has looked
    UNAUTHENTICATED = "Unauthenticated"  # a call without a valid bearer token
    FORBIDDEN = "Forbidden"  # the caller is known and lacks the right; the sentence names it
    REQUEST_TOO_LARGE = "RequestTooLarge"  # the request's body is longer than any that is taken
    HOST_NOT_SERVED = "HostNotServed"  # the request names another host than this server answers to
    METHOD_NOT_ALLOWED = "MethodNotAllowed"  # the path exists, the HTTP method does not
    API_FORBIDDEN = "ApiForbidden"  # the service account lacks a verb
    LEARNED_STATE_DAMAGED = "LearnedStateDamaged"  # what the planner learned cannot be read; it learns anew

    # Idle VMs
    VM_IDLE = "VmIdle"  # a VM holds a GPU and has not used it for the pool's idle time
    VM_IDLE_NOTICE = "VmIdleNotice"  # its owner has been told when it will be stopped
    VM_STOPPED_BY_POLICY = "VmStoppedByPolicy"  # stopped by the pool's idle policy, after the notice

    @classmethod
    def _missing_(cls, value: object) -> "Reason | None":
        """A code that an earlier release wrote."""
        return cls(ALIASES[value]) if isinstance(value, str) and value in ALIASES else None


ALIASES = {
    "MemoryDamaged": "LearnedStateDamaged",
}
"""Old code → the one that is used now; read, never written. Each goes one release later."""
