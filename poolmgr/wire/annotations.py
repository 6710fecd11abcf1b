"""Our own annotations, labels and gates on Kubernetes' objects, and KubeVirt's labels that we read."""

BEST_EFFORT_ONLY = "poolmgr.io/best-effort-only"
"""Label of nodes on which new containers have to be best-effort ones: what a VM may soon want back is lent to those
who can be asked to leave. Our webhook keeps the others away by node affinity."""

CORDONED = "poolmgr.io/cordoned"
"""On a Node: the plan that cordoned it."""
FENCED = "poolmgr.io/fenced"
"""On a Node: the GPU UUIDs that we put into HAMi's device cordon, comma-separated. One with `*` was there before."""
OPENED = "poolmgr.io/opened"
"""Label of a Node: when HAMi was last given back its GPUs there, Unix seconds. It is for kube-scheduler to see a change."""
ASKED = "poolmgr.io/asked"
"""On a Node: `PLAN@UNIX-SECONDS`, for which plan and when HAMi's scheduler was last made to look."""
PLUGIN_LABELS = "poolmgr.io/plugin-labels"
"""On a Node: JSON object of the labels that we removed to stop HAMi's plugin, to put back exactly."""
UPGRADES_HELD = "poolmgr.io/upgrades-held"
"""On a Node: the label that keeps the GPU operator from upgrading the driver there is ours, and goes with this."""
EPOCH = "poolmgr.io/epoch"
"""On a Node or GPUNode: lease epoch of the last write."""
AGENT_LAST_SEEN = "poolmgr.io/agent-last-seen"
"""On a GPUNode, while its agent is silent: when the manager last heard it, RFC 3339, or `never`."""
RETRY = "poolmgr.io/retry"
"""On a GPUNode, by an operator: `all`, or PCI addresses with commas between them, of GPUs that rest after failed moves
and are to be tried again at once. The manager takes it off when it has done so."""

CORDONED_GPUS = "poolmgr.io/cordoned-gpus"
"""On a GPUNode, by an operator: `all`, or PCI addresses with commas between them, of GPUs that stay in their mode."""
QUARANTINED_GPUS = "poolmgr.io/quarantined-gpus"
"""On a GPUNode, by an operator: the same of GPUs that nobody new gets."""
DRAIN_TO = "poolmgr.io/drain-to"
"""On a GPUNode, by an operator: `Shared` or `Passthrough`, the side to which its GPUs go as soon as nobody uses them."""
FORGOTTEN_GPUS = "poolmgr.io/forgotten-gpus"
"""On a GPUNode, by an operator: PCI addresses of cards that are gone for good. The manager takes it off when it is done."""
OPERATOR_NOTES = "poolmgr.io/operator-notes"
"""On a GPUNode: JSON object from a directive (`cordon:ADDRESS`, `quarantine:all`, `drain`) to who gave it, when and why."""

PAUSED_FROM = "poolmgr.io/paused-from"
"""On a GPUPool that `poolmgr pause` set Off: the mode that it had."""

BEST_EFFORT = "poolmgr.io/best-effort"
"""On a Pod: its owner allows its eviction for a waiting virtual machine; only `true` does."""
EXCLUDED_BY_US = "poolmgr.io/excluded-by-poolmgr"
"""On a Pod: the part of HAMi's `nouse-gpuuuid` that our webhook added while those GPUs leave, so that it can be taken
back when one returns."""

RESERVATION = "poolmgr.io/reservation"
"""On a Pod or a VirtualMachineInstance, by its owner: the GPUReservation that it uses, `NAME` of its own namespace or
`NAMESPACE/NAME`."""

IDLE_SINCE = "poolmgr.io/idle-since"
"""On a VirtualMachineInstance: since when nobody works on it (RFC 3339), as a connection broker says."""

ADMISSION_GATE = "poolmgr.io/admission"
"""Scheduling gate of pods that the manager admits: our webhook sets it where a quota or a reservation has a say, and only
the manager takes it off."""

LEADS, LEADS_VALUE = "poolmgr.io/leads", "true"
"""Label of the manager's pod that leads."""

LAUNCHER_LABEL = "kubevirt.io"
LAUNCHER_VALUE = "virt-launcher"
SCHEDULABLE_LABEL = "kubevirt.io/schedulable"
"""On a Node: `true` while virt-handler says that it can run machines; every launcher selects it."""
