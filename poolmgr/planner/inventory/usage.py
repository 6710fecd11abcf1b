"""Who uses what: workloads joined with the GPUs they are on."""

from collections.abc import Sequence
from dataclasses import dataclass

from poolmgr.domain.demand import SharedPod
from poolmgr.domain.fleet import Gpu
from poolmgr.domain.occupancy import Occupancy, occupancy_of
from poolmgr.domain.snapshot import ClusterSnapshot


@dataclass(slots=True)
class Usage(Occupancy):
    """Who is on which GPU, and what else a planner asks about that. Build with `usage_of`."""

    def load_on(self, gpu: Gpu) -> tuple[int, int, int]:
        """(memory MiB, compute percent, slices) taken from a shared GPU."""
        memory = cores = slices = 0
        uuid = gpu.uuid
        for pod in self.pods_on(gpu):
            for part in pod.slices:
                if part.uuid == uuid:
                    memory += part.memory_mib
                    cores += part.cores_percent
                    slices += part.slots
        return memory, cores, slices

    def why_busy(self, gpu: Gpu) -> str:
        """The end of the sentence "GPU … is busy with …"; empty when nothing uses it."""
        pods = self.pods_on(gpu)
        if pods and self.vm_on(gpu) is None:
            return busy_with_pods(pods)
        users = self.users_of(gpu)
        return users[0].name if users else ""


def busy_with_pods(pods: Sequence[SharedPod]) -> str:
    """The same for pods: the first one by name and how many more."""
    more = f" and {len(pods) - 1} more" if len(pods) > 1 else ""
    return f"pod {pods[0].namespace}/{pods[0].name}{more}"


def usage_of(snapshot: ClusterSnapshot) -> Usage:
    """O(GPUs + VMs + slices)."""
    found = occupancy_of(snapshot)
    return Usage(found.assigned, found.scattered, found.vms_by_node, found.vm_by_launcher, found.unplaced)
