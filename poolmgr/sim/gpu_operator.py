"""NVIDIA's GPU operator as far as its neighbours can tell: operands that run where a label says `true` and keep the node's
shared GPUs open, a controller that gives a node each label that it lacks and honours any value that is there, and the
upgrade of a driver, whose pod takes every GPU off vfio-pci in its first step.

Written from the operator's own documentation and manifests (v26.7); `wire.gpu_operator` names what was read.
"""

from collections.abc import Callable, Iterable
from functools import partial

from poolmgr.domain.identifiers import NodeName
from poolmgr.sim.clock import VirtualClock
from poolmgr.sim.world import NVIDIA, VFIO, SimNode, SimOperand, World
from poolmgr.wire.gpu_operator import (
    DEPLOY,
    NOT_UPGRADING,
    PAUSABLE,
    RUNS,
    UPGRADE_SKIP,
    UPGRADE_STATE,
    NeighbourPod,
)

OPERANDS = (
    "dcgm-exporter",
    "gpu-feature-discovery",
    "mig-manager",
    "operator-validator",
    "container-toolkit",
)
"""As it installs them beside HAMi, whose plugin stands in for its own."""
HOLDING = frozenset({"dcgm", "dcgm-exporter", "device-plugin"})
"""Operands that keep every GPU that is on its driver open."""
FOR_DRIVER_UPGRADE = "paused-for-driver-upgrade"
REQUIRED, RESTART, DONE = "upgrade-required", "pod-restart-required", "upgrade-done"


class SimOperator:
    """The operator of the whole cluster; absent until `install`."""

    def __init__(self, world: World, clock: VirtualClock, touch: Callable[[NodeName], None]) -> None:
        self._world = world
        self._clock = clock
        self._touch = touch
        self._operands: tuple[str, ...] = ()

    def install(self, operands: Iterable[str] = OPERANDS) -> None:
        """On every node, with the driver in a container; all operands run at once."""
        self._operands = ("driver", *operands)
        for node in self._world.nodes.values():
            node.labels |= {DEPLOY + operand: RUNS for operand in self._operands}
            for operand in operands:
                self._start(node, operand)
            self._touch(node.name)

    def set_label(self, name: NodeName, label: str, value: str | None) -> None:
        """Anybody's write of a label of the node; None takes it off."""
        node = self._world.nodes[name]
        if value is None:
            node.labels.pop(label, None)
        else:
            node.labels[label] = value
        self.labels_changed(node)

    def labels_changed(self, node: SimNode) -> None:
        """The operator's controller and the DaemonSets' look at the labels of a node."""
        self._touch(node.name)
        if self._operands:
            self._clock.call_later(self._world.timings.operator_reaction, lambda: self._reconcile(node))

    def reset(self, node: SimNode) -> None:
        """After a reboot of the node its operands start anew."""
        node.operands.clear()
        self.labels_changed(node)

    def pods_on(self, node: SimNode) -> tuple[NeighbourPod, ...]:
        """As the manager's view reads them."""
        found = [
            NeighbourPod(operand.uid, DEPLOY + name if DEPLOY + name in PAUSABLE else "")
            for name, operand in node.operands.items()
        ]
        if node.driver_restarts:
            found.append(
                NeighbourPod(f"driver-{node.name}", driver=f"nvidia/driver-{node.name} is in its first step")
            )
        return tuple(found)

    def upgrade(self, name: NodeName) -> None:
        """A new driver is wanted on the node."""
        self.set_label(name, UPGRADE_STATE, REQUIRED)

    def delete_pod(self, node: SimNode, operand: str) -> None:
        """Its DaemonSet starts another one, where the label has it run."""
        if node.operands.pop(operand, None) is not None:
            self._world.changed_on(node.name)
            self.labels_changed(node)

    def restart_driver(self, name: NodeName) -> None:
        """Its pod is deleted, by the upgrade or by hand."""
        node = self._world.nodes[name]
        node.driver_restarts = True
        self._touch(name)
        self._clock.call_later(self._world.timings.driver_restart, lambda: self._driver_started(node))

    def _reconcile(self, node: SimNode) -> None:
        for name in self._operands:
            if not node.labels.get(DEPLOY + name):
                node.labels[DEPLOY + name] = (
                    RUNS  # what lacks or is empty is set; any other value is honoured
                )
                self._touch(node.name)
        for name in self._operands[1:]:
            runs = node.up and node.labels[DEPLOY + name] == RUNS
            operand = node.operands.get(name)
            if runs and operand is None:
                self._clock.call_later(self._world.timings.operand_start, partial(self._start, node, name))
            elif not runs and operand is not None and not operand.ending:
                operand.ending = True
                after = self._world.timings.operand_stop
                self._clock.call_later(after, partial(self._stopped, node, name, operand))
        state = node.labels.get(UPGRADE_STATE, "")
        if state == REQUIRED and node.labels.get(UPGRADE_SKIP) != RUNS:
            self.set_label(node.name, UPGRADE_STATE, RESTART)
        elif state not in NOT_UPGRADING and not node.driver_restarts:
            self._pause_for_upgrade(node)
            self.restart_driver(node.name)

    def _start(self, node: SimNode, name: str) -> None:
        if name in node.operands or node.labels.get(DEPLOY + name) != RUNS or not node.up:
            return
        node.operand_starts += 1
        node.operands[name] = SimOperand(f"{name}-{node.name}-{node.operand_starts}", name in HOLDING)
        self._world.changed_on(node.name)
        self._touch(node.name)

    def _stopped(self, node: SimNode, name: str, operand: SimOperand) -> None:
        if node.operands.get(name) is operand:
            del node.operands[name]
            self._world.changed_on(node.name)
            self.labels_changed(node)

    def _pause_for_upgrade(self, node: SimNode) -> None:
        """As the driver manager does: what is off stays off, what another tool has paused is paused once more."""
        for name in self._operands[1:]:
            value = node.labels[DEPLOY + name]
            if value == RUNS:
                node.labels[DEPLOY + name] = FOR_DRIVER_UPGRADE
            elif value != "false" and FOR_DRIVER_UPGRADE not in value:
                node.labels[DEPLOY + name] = f"{value}_{FOR_DRIVER_UPGRADE}"

    def _driver_started(self, node: SimNode) -> None:
        node.driver_restarts = False
        for gpu in node.gpus:
            if gpu.driver != VFIO:
                continue
            if gpu.allocated_to:
                self._world.violations.append(
                    f"the driver's pod took {gpu.pci_address} of {node.name} out of a running VM"
                )
            gpu.driver, gpu.flipping, gpu.advertised = NVIDIA, False, False
        for name in self._operands[1:]:
            value = node.labels[DEPLOY + name]
            left = value.replace(f"_{FOR_DRIVER_UPGRADE}", "").replace(FOR_DRIVER_UPGRADE, RUNS)
            node.labels[DEPLOY + name] = left
        if node.labels.get(UPGRADE_STATE, "") not in NOT_UPGRADING:
            node.labels[UPGRADE_STATE] = DONE
        self._world.changed_on(node.name)
        self.labels_changed(node)
