"""Who else keeps a node's driver, and what runs beside it: NVIDIA's GPU operator, or whoever speaks by its labels."""

from dataclasses import dataclass

from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason


@dataclass(frozen=True, slots=True)
class Service:
    """A program that keeps GPUs open for monitoring or the like, and that its owner lets be paused on one node."""

    label: str
    """Of the node: it runs where the label says `true`."""
    paused: bool
    """By us and nobody else."""
    pods: tuple[WorkloadUid, ...] = ()
    """Its pods on the node, terminating ones included."""

    @property
    def name(self) -> str:
        """As a sentence names it, e.g. `dcgm-exporter`."""
        return self.label.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What they say of one node."""

    verdict: Verdict = Verdict(True, Reason.ADMITTED)
    """Whether they leave its GPUs to poolmgr, now."""
    services: tuple[Service, ...] = ()
    """Those that may be paused there, by label."""
    installs_driver: bool = False
    """The driver is in a pod of the GPU operator."""
    upgrades_held: bool = False
    """The operator is told not to upgrade the driver there, by whomever."""
    upgrades_held_by_us: bool = False
    upgrades_let: bool = False
    """Somebody has said that upgrades are to happen there whatever its GPUs do."""
    driver_restarts: str = ""
    """The driver's pod that is on its way out or in; its first step may take every GPU off vfio-pci."""

    @property
    def lasting(self) -> bool:
        """They keep the node's GPUs for good, so that nothing about them is poolmgr's."""
        return self.verdict.reason is Reason.GPUS_OF_OTHERS

    def service_of(self, pod: str) -> str:
        """Label of the service that a pod belongs to; empty for all others."""
        return next((s.label for s in self.services if pod and pod in s.pods), "")


NOBODY = Neighbours()
