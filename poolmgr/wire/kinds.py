"""The kinds this project reads or writes, and where the API server keeps them."""

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the Kubernetes API. `group` is empty for the core group."""

    group: str
    version: str
    plural: str
    namespaced: bool = False

    def path(self, name: str = "", *, namespace: str = "", subresource: str = "") -> str:
        """URL path of the collection (no name) or of one object. An empty namespace means all of them."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/" + "/".join(quote(part, safe="") for part in parts)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


POOLMGR_GROUP = "poolmgr.io"
POOLMGR_API_VERSION = f"{POOLMGR_GROUP}/v1alpha1"

NODES = Kind("", "v1", "nodes")
PODS = Kind("", "v1", "pods", namespaced=True)
VOLUME_CLAIMS = Kind("", "v1", "persistentvolumeclaims", namespaced=True)
VOLUMES = Kind("", "v1", "persistentvolumes")
STORAGE_CLASSES = Kind("storage.k8s.io", "v1", "storageclasses")
EVENTS = Kind("", "v1", "events", namespaced=True)
CONFIG_MAPS = Kind("", "v1", "configmaps", namespaced=True)
DAEMON_SETS = Kind("apps", "v1", "daemonsets", namespaced=True)
DEPLOYMENTS = Kind("apps", "v1", "deployments", namespaced=True)
DISRUPTION_BUDGETS = Kind("policy", "v1", "poddisruptionbudgets", namespaced=True)
LEASES = Kind("coordination.k8s.io", "v1", "leases", namespaced=True)
SECRETS = Kind("", "v1", "secrets", namespaced=True)
MUTATING_WEBHOOKS = Kind("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations")
VALIDATING_WEBHOOKS = Kind("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations")
GPU_POOLS = Kind(POOLMGR_GROUP, "v1alpha1", "gpupools")
GPU_NODES = Kind(POOLMGR_GROUP, "v1alpha1", "gpunodes")
GPU_RESERVATIONS = Kind(POOLMGR_GROUP, "v1alpha1", "gpureservations", namespaced=True)
VIRTUAL_MACHINES = Kind("kubevirt.io", "v1", "virtualmachines", namespaced=True)
VIRTUAL_MACHINE_INSTANCES = Kind("kubevirt.io", "v1", "virtualmachineinstances", namespaced=True)
