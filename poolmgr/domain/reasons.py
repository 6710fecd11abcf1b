"""Every reason code. A code is never reused: logs, Events, the API and dashboards carry it. One that is renamed keeps
its old name as an alias for one release (`ALIASES`).

Each member's comment says when it is used; `docs/reference/reasons.md` is made from this
file. Add codes at the end of their group.
"""

from enum import StrEnum


class Reason(StrEnum):
    # Moves
    VM_WAITING = "VmWaiting"  # a VM waits for a GPU of this model
    SHARED_DEMAND = "SharedDemandWaiting"  # vGPU pods wait while this GPU is idle in passthrough
    HEADROOM = "HeadroomWanted"  # the pool's headroom or the forecast calls for it
    BELOW_MINIMUM = "BelowMinimum"  # a side is below its minimum
    RESERVATION_DUE = "ReservationDue"  # a GPUReservation is about to start
    OPERATOR_REQUEST = "OperatorRequest"  # requested through the API

    # GPUs left where they are
    IN_PLACE = "InPlace"  # already in the mode where it is needed
    GPU_BUSY = "GpuBusy"  # a workload or process uses it
    GPU_MOVING = "GpuMoving"  # a move is under way
    GPU_UNHEALTHY = "GpuUnhealthy"  # phase is Foreign, Unbound or Quarantined
    COOLDOWN = "Cooldown"  # moved too recently; its cooldown has not ended
    AT_MINIMUM = "AtMinimum"  # the move would take its side below the minimum
    AT_MAXIMUM = "AtMaximum"  # the move would take the other side above the maximum
    BUDGET_SPENT = "BudgetSpent"  # the pool already moves as many GPUs as it may at once
    NODE_IN_TRANSITION = "NodeInTransition"  # the node is already moving GPUs; it makes one move at a time
    NODE_NOT_READY = "NodeNotReady"  # its kubelet or agent is not ready
    NODE_NOT_REPORTED = "NodeNotReported"  # its agent has not acknowledged the latest spec
    NOT_CHOSEN = "NotChosen"  # another GPU was cheaper to move
    NOT_IN_POOL = "NotInPool"  # no GPUPool selects it
    POOL_OFF = "PoolOff"  # rebalancing of the pool is Off
    RECOMMEND_ONLY = "RecommendOnly"  # a move is recommended but not made: the pool is in Recommend mode
    IOMMU_GROUP_SHARED = "IommuGroupShared"  # its IOMMU group contains a device that cannot move with it
    UNSUITABLE = "Unsuitable"  # a property of the GPU or of the node makes the move impossible
    NO_DEMAND = "NoDemand"  # nothing waits for it in the other mode
    RECENTLY_FAILED = "RecentlyFailed"  # its last move failed; the sentence says when it may move again
    DISTURBANCE_SPENT = "DisturbanceSpent"  # moves have disturbed the node's pods enough for this hour
    AGENT_SILENT = "AgentSilent"  # its node's agent is silent, so its last report may be out of date
    MOVE_PARKED = "MoveParked"  # its move waits for a silent agent to say where the GPUs are
    GPU_CORDONED = "GpuCordoned"  # an operator keeps it in its mode
    GPUS_OF_OTHERS = "GpusOfOthers"  # the GPU operator or a DRA driver manages the node's GPUs
    DRIVER_CHANGING = "DriverChanging"  # the GPU operator is replacing the node's driver or its MIG layout
    GPU_QUARANTINED = "GpuQuarantined"  # an operator took it out of use: no new workload gets it
    NODE_DRAINED = "NodeDrained"  # an operator is draining its node: all its GPUs go to one side
    NOT_ADOPTED = "NotAdopted"  # poolmgr has not recorded yet in which mode it found the GPU
    NOT_OFFERED = "NotOffered"  # its agent reports it ready for VMs; its kubelet does not offer it

    # Demand that cannot be served now
    NO_CANDIDATE = "NoCandidate"  # no GPU of the model can be moved now
    UNKNOWN_RESOURCE = "UnknownResource"  # no GPU of the cluster has this resource name or model
    MORE_THAN_ANY_NODE = "MoreThanAnyNode"  # it requests more GPUs than any node has
    MORE_MEMORY_THAN_ANY_CARD = "MoreMemoryThanAnyCard"  # it requests more GPU memory than any GPU has
    INVALID_REQUEST = "InvalidRequest"  # the request contradicts itself or has a value out of range
    QUOTA_EXCEEDED = "QuotaExceeded"  # the namespace's share of the pool is used up
    EVICTION_NOT_YET = "EvictionNotYet"  # the VM has not waited long enough, or has no launcher pod yet
    LENT_TO_BEST_EFFORT = "LentToBestEffort"  # reserved for expected VMs; only best-effort pods may start
    SERVED = "Served"  # it has what it requested
    FREE_CAPACITY = "FreeCapacity"  # the right side already has room; the scheduler will place it
    MOVE_UNDER_WAY = "MoveUnderWay"  # a GPU is being moved for it
    NO_NODE_ADMITS = "NoNodeAdmits"  # its own scheduling rules keep it off every node that has such GPUs
    PLACEMENT_UNKNOWN = "PlacementUnknown"  # where it may run is not known, so no GPU is moved for it
    NOT_TAKEN = "NotTaken"  # it did not start on GPUs that were free for it, so others get them
    CANNOT_START = "CannotStart"  # KubeVirt cannot start it, whatever GPU is free; the sentence says why
    LACKS_SOMETHING_ELSE = "LacksSomethingElse"  # the scheduler says that it lacks something other than a GPU
    UNSERVED_RESOURCE = "UnservedResource"  # poolmgr does not provide the resource: MIG slices, other vendors
    NODE_FULL = "NodeFull"  # the node has too little CPU, memory or other resources left
    RESERVED = "Reserved"  # GPUs are free, but kept for somebody else's reservation

    # Admission
    WILL_WAIT = "WillWait"  # admitted, but it must wait; the warning says what for
    GPU_LEAVING = "GpuLeaving"  # GPUs that leave the shared side, or are closed, are excluded for this pod
    ADMITTED = "Admitted"  # the request is admitted; as a status: the component works
    NOT_OURS = "NotOurs"  # it requests no GPU and is left unchanged
    POOL_OVERLAP = "PoolOverlap"  # two pools would claim the same GPU
    FLEET_UNKNOWN = "FleetUnknown"  # the webhook has no view of the fleet yet and lets the request pass
    NOT_CHECKED = "NotChecked"  # admitted unchecked: too large, too many at once, or too late

    # Steps of a move
    STEP_STARTED = "StepStarted"  # the manager has recorded this step, or the agent has started its part
    STEP_DONE = "StepDone"  # this step's condition holds; the next one follows
    STEP_WAITING = "StepWaiting"  # this step waits; the sentence says what for
    STEP_TIMED_OUT = "StepTimedOut"  # this step took too long; the sentence says what it waited for
    ROLLED_BACK = "RolledBack"  # the move was given up and the GPU is back on the side it came from
    MOVE_COMPLETED = "MoveCompleted"  # the GPU is on its new side, advertised there and open to workloads
    DRAIN_WAITING = "DrainWaiting"  # workloads are still on the GPU
    BIND_IN_FLIGHT = "BindInFlight"  # HAMi is allocating on this node right now
    PLUGIN_STILL_RUNNING = "PluginStillRunning"  # HAMi's plugin has not stopped on this node yet
    REGISTRATION_PENDING = "RegistrationPending"  # HAMi or the kubelet does not show its GPUs yet
    EVICTED = "Evicted"  # a best-effort pod was asked to leave through the Eviction API
    EVICTION_DENIED = "EvictionDenied"  # a disruption budget, the pool or the pod's owner forbids it
    SERVICE_STILL_RUNNING = "ServiceStillRunning"  # a service asked to leave the GPU has not ended yet
    SERVICES_RESUMED = "ServicesResumed"  # services that a move had paused run again
    UPGRADES_HELD = "UpgradesHeld"  # driver upgrades by the GPU operator wait while the node's GPUs serve VMs
    NOT_LISTED = "NotListed"  # HAMi does not list the GPU as healthy, so no pod can get a slice of it
    DRIVER_RESTARTS = "DriverRestarts"  # the driver's pod is restarting and may take GPUs from VMs

    # Agent
    HOLDER_PRESENT = "HolderPresent"  # a process has the device open
    KUBELET_ALLOCATED = "KubeletAllocated"  # the kubelet has allocated it to a pod
    MEDIATED_DEVICES = "MediatedDevices"  # parts of the GPU are in use as mediated devices (vGPU)
    CANNOT_TELL = "CannotTell"  # unknown whether the GPU is in use, so it stays; the sentence says why
    UNBIND_TIMED_OUT = "UnbindTimedOut"  # the driver did not let go in time: quarantined until a reboot
    BIND_FAILED = "BindFailed"  # the driver did not accept the GPU; the sentence has the kernel's error
    VERIFY_FAILED = "VerifyFailed"  # after a write, the device was not in the expected state
    NO_IOMMU = "NoIommu"  # the GPU has no IOMMU group: enable VT-d or AMD-Vi in firmware and kernel
    GROUP_NOT_VIABLE = "GroupNotViable"  # other devices share its IOMMU group and cannot go with it
    BOOT_DISPLAY = "BootDisplay"  # the host's console is on it
    SRIOV_ACTIVE = "SriovActive"  # it has virtual functions
    MIG_ENABLED = "MigEnabled"  # it is in MIG mode
    DRIVER_MISSING = "DriverMissing"  # the driver that it would go to is not loaded
    STALE_EPOCH = "StaleEpoch"  # requested by a manager that has lost the lease; not done
    RECOVERED = "Recovered"  # an interrupted move was finished or undone after a restart
    DEVICE_GONE = "DeviceGone"  # it is no longer on the PCI bus; check the kernel's log
    AGENT_AT_WORK = "AgentAtWork"  # the node's agent reads its spec and acts on it
    JOURNAL_DAMAGED = "JournalDamaged"  # the agent's journal was unreadable and was started over
    IOMMU_PRESENT = "IommuPresent"  # every GPU of the node has an IOMMU group
    NVML_ANSWERS = "NvmlAnswers"  # NVML works, so models and UUIDs are known
    NVML_UNAVAILABLE = "NvmlUnavailable"  # NVML does not answer: GPUs are known only from sysfs
    PLUGIN_REGISTERED = "PluginRegistered"  # the kubelet knows every passthrough resource of the node
    KUBELET_UNREACHABLE = "KubeletUnreachable"  # the kubelet's sockets do not answer
    DRIFTED = "Drifted"  # in another mode than desired, as after a reboot; it is moved back
    KERNEL_HOLDS = "KernelHolds"  # a part of the kernel keeps it open: modesetting, persistence mode
    OFF_THE_BUS = "OffTheBus"  # it does not answer on its bus: quarantined, nothing is written to it
    HOOK_IN_PLACE = "HookInPlace"  # new containers with a share of a GPU get libhook
    HOOK_NOT_IN_PLACE = "HookNotInPlace"  # new containers get HAMi's own library; the sentence says why

    # Service
    NOT_LEADER = "NotLeader"  # this manager does not hold the lease; the sentence says why
    NOT_SYNCED = "NotSynced"  # the cluster has not been read completely yet; nothing is moved before that
    STALE_SNAPSHOT = "StaleSnapshot"  # the view of the cluster is too old to act on
    STALE_GENERATION = "StaleGeneration"  # the object has changed since it was read: read it again
    POOL_NOT_FOUND = "PoolNotFound"  # no GPUPool has this name; the sentence lists the pools
    NOT_FOUND = "NotFound"  # no such object or path
    INVALID_BODY = "InvalidBody"  # the request's body is invalid; the sentence names the field
    API_UNAVAILABLE = "ApiUnavailable"  # the Kubernetes API cannot be reached; poolmgr tries again
    STORE_UNAVAILABLE = "StoreUnavailable"  # no ledger: moves go on, but history is not recorded
    INVARIANT_BROKEN = "InvariantBroken"  # an invariant is broken; nothing is done until a person looks
    UNAUTHENTICATED = "Unauthenticated"  # a call without a valid bearer token
    FORBIDDEN = "Forbidden"  # the caller lacks the right; the sentence names it
    REQUEST_TOO_LARGE = "RequestTooLarge"  # the request's body is too long
    HOST_NOT_SERVED = "HostNotServed"  # the request names another host than this server answers to
    METHOD_NOT_ALLOWED = "MethodNotAllowed"  # the path exists, the HTTP method does not
    API_FORBIDDEN = "ApiForbidden"  # the service account lacks a right (RBAC)
    LEARNED_STATE_DAMAGED = "LearnedStateDamaged"  # the saved demand history is unreadable; it starts over
    OBJECT_UNREAD = "ObjectUnread"  # an object cannot be read: GPUs that it may use stay as they are
    STILL_THERE = "StillThere"  # only a GPU that is gone can be forgotten, but this one answers on its bus

    # Reservations
    RESERVATION_PENDING = "ReservationPending"  # promised; its next window is still far off
    RESERVATION_READY = "ReservationReady"  # all reserved GPUs are ready, or its holders use them
    RESERVATION_SHORT = "ReservationShort"  # fewer GPUs are ready than reserved; the sentence says why
    RESERVATION_OVER = "ReservationOver"  # its last window is over
    RESERVATION_CONFLICT = "ReservationConflict"  # others reserved first; the sentence names free windows

    # Idle VMs
    VM_IDLE = "VmIdle"  # a VM holds a GPU and has not used it for the pool's idle time
    VM_IDLE_NOTICE = "VmIdleNotice"  # the pool's policy asks for it to be stopped; its notice period runs

    @classmethod
    def _missing_(cls, value: object) -> "Reason | None":
        """A code that an earlier release wrote."""
        return cls(ALIASES[value]) if isinstance(value, str) and value in ALIASES else None


ALIASES = {
    "MemoryDamaged": "LearnedStateDamaged",
}
"""Old code → the one that is used now; read, never written. Each goes one release later."""
