"""Every reason code. A code is never reused or renamed: logs, Events, the API and dashboards carry it.

Each member's docstring-like comment says when it is used; `docs/reference/reasons.md` is made from this
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
    RECOMMEND_ONLY = "RecommendOnly"  # rebalance is Recommend: shown, not done
    IOMMU_GROUP_SHARED = "IommuGroupShared"  # its IOMMU group holds a device that cannot move with it
    UNSUITABLE = "Unsuitable"  # a property of the GPU or node rules the move out
    NO_DEMAND = "NoDemand"  # nobody waits for the other mode

    # Demand that cannot be served now
    NO_CANDIDATE = "NoCandidate"  # no GPU of the model can be moved now
    UNKNOWN_RESOURCE = "UnknownResource"  # no GPU of the cluster has this resource name or model
    MORE_THAN_ANY_NODE = "MoreThanAnyNode"  # more GPUs than any one node has
    MORE_MEMORY_THAN_ANY_CARD = "MoreMemoryThanAnyCard"
    INVALID_REQUEST = "InvalidRequest"  # the request contradicts itself or has a value out of range
    QUOTA_EXCEEDED = "QuotaExceeded"  # the namespace's share of the pool is used up
    SERVED = "Served"  # it has what it asked for
    FREE_CAPACITY = "FreeCapacity"  # the right side already has room; the scheduler will place it
    MOVE_UNDER_WAY = "MoveUnderWay"  # a GPU is on its way for this demand

    # Admission
    WILL_WAIT = "WillWait"  # admitted, but has to wait; the warning says for what
    GPU_LEAVING = "GpuLeaving"  # GPUs that leave the shared side are excluded for this pod
    ADMITTED = "Admitted"
    NOT_OURS = "NotOurs"  # asks for no GPU; left untouched
    POOL_OVERLAP = "PoolOverlap"  # two pools would claim the same GPU
    FLEET_UNKNOWN = "FleetUnknown"  # the webhook has no view of the fleet yet and lets the request pass

    # Steps of a move
    STEP_STARTED = "StepStarted"
    STEP_DONE = "StepDone"
    STEP_WAITING = "StepWaiting"  # not yet; the sentence says what for
    STEP_TIMED_OUT = "StepTimedOut"
    ROLLED_BACK = "RolledBack"
    MOVE_COMPLETED = "MoveCompleted"
    DRAIN_WAITING = "DrainWaiting"  # workloads are still on the GPU
    BIND_IN_FLIGHT = "BindInFlight"  # HAMi is allocating on this node right now
    PLUGIN_STILL_RUNNING = "PluginStillRunning"
    REGISTRATION_PENDING = "RegistrationPending"
    EVICTED = "Evicted"
    EVICTION_DENIED = "EvictionDenied"  # a disruption budget said no

    # Agent
    HOLDER_PRESENT = "HolderPresent"  # a process has the device open
    KUBELET_ALLOCATED = "KubeletAllocated"  # the kubelet gave it to a pod
    UNBIND_TIMED_OUT = "UnbindTimedOut"
    BIND_FAILED = "BindFailed"
    VERIFY_FAILED = "VerifyFailed"
    NO_IOMMU = "NoIommu"
    GROUP_NOT_VIABLE = "GroupNotViable"
    BOOT_DISPLAY = "BootDisplay"  # the host's console is on it
    SRIOV_ACTIVE = "SriovActive"
    MIG_ENABLED = "MigEnabled"
    DRIVER_MISSING = "DriverMissing"
    STALE_EPOCH = "StaleEpoch"
    RECOVERED = "Recovered"  # an interrupted move was finished or undone after a restart
    DEVICE_GONE = "DeviceGone"
    AGENT_AT_WORK = "AgentAtWork"
    JOURNAL_DAMAGED = "JournalDamaged"  # the agent's journal was unreadable and begun anew
    IOMMU_PRESENT = "IommuPresent"
    NVML_ANSWERS = "NvmlAnswers"
    NVML_UNAVAILABLE = "NvmlUnavailable"
    PLUGIN_REGISTERED = "PluginRegistered"  # the kubelet knows every passthrough resource of the node
    KUBELET_UNREACHABLE = "KubeletUnreachable"  # the kubelet's sockets do not answer
    DRIFTED = "Drifted"  # found in another mode than desired, as after a reboot; the manager repairs it

    # Service
    NOT_LEADER = "NotLeader"
    NOT_SYNCED = "NotSynced"
    STALE_SNAPSHOT = "StaleSnapshot"
    STALE_GENERATION = "StaleGeneration"
    POOL_NOT_FOUND = "PoolNotFound"
    NOT_FOUND = "NotFound"
    INVALID_BODY = "InvalidBody"
    API_UNAVAILABLE = "ApiUnavailable"
    STORE_UNAVAILABLE = "StoreUnavailable"
    INVARIANT_BROKEN = "InvariantBroken"
    UNAUTHENTICATED = "Unauthenticated"  # a writing call without the right bearer token
    METHOD_NOT_ALLOWED = "MethodNotAllowed"  # the path exists, the HTTP method does not
    API_FORBIDDEN = "ApiForbidden"  # the service account lacks a verb

    # Idle VMs
    VM_IDLE = "VmIdle"
    VM_IDLE_NOTICE = "VmIdleNotice"
    VM_STOPPED_BY_POLICY = "VmStoppedByPolicy"
