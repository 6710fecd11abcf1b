"""Mistakes that are planted in the product by hand, and the cases of the property test that have to find them.

The property: no GPU that is used moves while one witness could have told, or could not be asked
(`tests/unit/controller/test_nothing_moves_on_a_guess.py`). Each mistake has one witness go unheard, or takes what cannot be
told for free in one of the places that ask. `python -m tools.mutate witnesses` plants one after the other.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from tools.mutate.targets import ROOT

PROPERTY = "tests/unit/controller/test_nothing_moves_on_a_guess.py"
TEST = "test_nothing_that_is_used_is_planned_closed_or_unbound"
SEEN = " under Use("
"""What the property test says of a GPU that was planned, closed or unbound."""
EVIDENCE, OBSERVE = "poolmgr/agent/evidence.py", "poolmgr/agent/observe.py"
INVENTORY, SYSFS, NVML = "poolmgr/agent/inventory.py", "poolmgr/agent/sysfs.py", "poolmgr/agent/nvml.py"
ASSIGNMENTS, KERNEL_USERS = "poolmgr/agent/assignments.py", "poolmgr/agent/kernelusers.py"
PREFLIGHT, DECISIONS, HOLDERS = (
    "poolmgr/agent/preflight.py",
    "poolmgr/agent/decisions.py",
    "poolmgr/agent/holders.py",
)
DOUBT, DENIALS = "poolmgr/domain/doubt.py", "poolmgr/domain/denials.py"
GUARD, CONDITIONS = "poolmgr/controller/guard.py", "poolmgr/controller/executor/conditions.py"


@dataclass(frozen=True)
class Change:
    module: str
    """A path of the checkout."""
    before: str
    """Text that the module has once."""
    after: str


@dataclass(frozen=True)
class Planted:
    name: str
    case: str
    """Of the property test, which finds it."""
    changes: tuple[Change, ...]


def _unheard(witness: str, *changes: tuple[str, str, str]) -> Planted:
    return Planted(f"{witness} goes unheard", witness, tuple(Change(*change) for change in changes))


def _free(what: str, case: str, *changes: tuple[str, str, str]) -> Planted:
    return Planted(f"free, though {what}", case, tuple(Change(*change) for change in changes))


UNHEARD = (
    _unheard(
        "DEVICE_FILE",
        (
            INVENTORY,
            '[] if driver.minor is None else [DeviceFile(f"nvidia{driver.minor}", NVIDIA_MAJOR, driver.minor)]',
            "[]",
        ),
    ),
    _unheard(
        "RENDER_NODE",
        (
            INVENTORY,
            "own = [DeviceFile(*entry) for entry in sysfs.list_character_devices(address)]",
            "own = []",
        ),
    ),
    _unheard("MIG_FILE", (INVENTORY, "for major, minor in driver.capabilities", "for major, minor in ()")),
    _unheard("VFIO_FILE", (INVENTORY, 'files.append(DeviceFile(f"vfio/{group}", *group_number))', "pass")),
    _unheard(
        "NVML_PROCESSES",
        (
            OBSERVE,
            "(*found, *holders_by_nvml(pids, self._proc, self._sysfs.files))",
            "found",
        ),
    ),
    _unheard("NVML_MIG", (NVML, "return any(nvml.nvmlDeviceGetMigMode(handle))", "return False")),
    _unheard("CONSOLE", (KERNEL_USERS, "console = sysfs.console_frame_buffer()", 'console = ""')),
    _unheard(
        "BOOT_DISPLAY",
        (INVENTORY, 'boot_display=sysfs.read_attribute(address, "boot_vga") == "1"', "boot_display=False"),
    ),
    _unheard(
        "MODESET",
        (
            KERNEL_USERS,
            'modeset = sysfs.read_module_parameter(module, "modeset") if module else None',
            "modeset = None",
        ),
    ),
    _unheard("PERSISTENCE", (NVML, 'return "persistence mode stays on"', 'return ""')),
    _unheard(
        "VIRTUAL_FUNCTIONS",
        (SYSFS, 'max(self.read_count(address, "sriov_numvfs"), len(links))', "len(links)"),
    ),
    _unheard(
        "VIRTUAL_LINKS",
        (
            SYSFS,
            'max(self.read_count(address, "sriov_numvfs"), len(links))',
            'self.read_count(address, "sriov_numvfs")',
        ),
    ),
    _unheard(
        "MEDIATED",
        (INVENTORY, "mediated_devices=sysfs.has_mediated_devices(address)", "mediated_devices=False"),
    ),
    _unheard(
        "BUS",
        (INVENTORY, "off_bus=answer == ALL_ONES", "off_bus=False"),
        (INVENTORY, "answers=answer == function.vendor_id", "answers=True"),
    ),
    _unheard("KUBELET_OWN", (ASSIGNMENTS, "in kubelet.given.items():", "in ():")),
    _unheard("KUBELET_OTHERS", (ASSIGNMENTS, "in kubelet.given_by_others:", "in ():")),
    _unheard("KUBELET_CLAIM", (ASSIGNMENTS, "for pod, driver in kubelet.claims", "for pod, driver in ()")),
    _unheard(
        "GRANT",
        (OBSERVE, '(BEING_ADMITTED if self._plugins.recently_granted(address) else ""), ()', '"", ()'),
    ),
    _unheard("ANNOTATION", ("poolmgr/cluster/hami/shared_pods.py", "if may_have_slices(pod):", "if False:")),
    _unheard("REQUEST", (DOUBT, "for pod in loose:", "for pod in ():")),
    _unheard("POD_CLAIM", (ASSIGNMENTS, "in sorted(unseen, key=str)", "in ()")),
    _unheard(
        "LAUNCHER",
        (DOUBT, "[vm for vm in snapshot.vms if vm.node is not None and len(vm.devices) < vm.gpus]", "[]"),
    ),
    _unheard("REGISTER", (DOUBT, "{g.uuid for g in node.sharing.registered}.difference(uuids)", "set()")),
    _unheard(
        "DRIVER_UUID",
        (OBSERVE, 'if shown is not None and gpu.driver_uuid not in ("", shown.uuid):', "if False:"),
    ),
    _unheard(
        "UUIDS",
        (OBSERVE, "if uuid and uuids[uuid] > 1:", "if False:"),
        (DOUBT, "if count > 1}", "if False}"),
    ),
    _unheard(
        "HEARTBEAT",
        (
            "poolmgr/cluster/observe/assembly.py",
            "sign = self._agents.get(NodeName(name), HEARD)",
            "sign = HEARD",
        ),
    ),
    _unheard(
        "ACKNOWLEDGEMENT",
        (
            "poolmgr/wire/gpu_nodes.py",
            "return 0 < node.metadata.generation <= node.status.observed_generation",
            "return True",
        ),
    ),
)
"""By the names of `tests.guesses.world.Witness`."""

FREE = (
    _free(
        "the walk over processes was refused",
        "no PROCESS",
        (HOLDERS, "opened = [(address, UNREADABLE) for address in found]", "opened = []"),
    ),
    _free("the kubelet does not answer", "no KUBELET", (EVIDENCE, "if not seen.kubelet_known:", "if False:")),
    _free("there are doubts", "no NVML_PROCESSES", (EVIDENCE, "if seen.doubts:", "if False:")),
    _free(
        "NVML has no list of processes",
        "no NVML_PROCESSES",
        (OBSERVE, "if shown is not None and not shown.processes_known:", "if False:"),
    ),
    _free(
        "NVML could not list processes",
        "no NVML_PROCESSES",
        (NVML, "known &= error.value in no_list", "pass"),
    ),
    _free(
        "NVML does not say whether MIG is on",
        "no NVML_MIG",
        (EVIDENCE, "(not seen.uuid or seen.mig_enabled is None)", "not seen.uuid"),
    ),
    _free(
        "NVML's answer about MIG is an error",
        "no NVML_MIG",
        (NVML, "return False if error.value == nvml.NVML_ERROR_NOT_SUPPORTED else None", "return False"),
    ),
    _free(
        "neither UUID nor MIG mode nor device files are known, so that HAMi knows more GPUs than the agent",
        "no NVML, no DRIVER_FILES",
        (DOUBT, "{g.uuid for g in node.sharing.registered}.difference(uuids)", "set()"),
        (EVIDENCE, "if not gpu.device_files_known:", "if False:"),
        (EVIDENCE, "if gpu.vendor.nvml and (not seen.uuid or seen.mig_enabled is None):", "if False:"),
        (OBSERVE, "if now.mode is Mode.SHARED and not now.device_files_known:", "if False:"),
    ),
    _free("a file of the card cannot be read", "no PARTS", (EVIDENCE, "if gpu.unreadable:", "if False:")),
    _free(
        "what refused to be read is taken for absent",
        "no CONSOLES",
        ("poolmgr/agent/refusals.py", "self.refused = self.refused or path", "pass"),
    ),
    _free(
        "its configuration space is not its own",
        "no CONFIGURATION",
        (EVIDENCE, "if not gpu.answers:", "if False:"),
    ),
    _free(
        "HAMi's registration cannot be read",
        "no REGISTER",
        (DOUBT, "{g.uuid for g in node.sharing.registered}.difference(uuids)", "set()"),
    ),
    _free(
        "the agent's standing answer is no",
        "VIRTUAL_FUNCTIONS",
        (DENIALS, "if not gpu.rebind:", "if False:"),
        (CONDITIONS, "if not gpu.rebind and gpu.rebind.reason not in WORDS:", "if False:"),
    ),
    _free(
        "the agent's standing answer skips its evidence",
        "no KUBELET",
        (DECISIONS, "        check_evidence(observed),\n", ""),
    ),
    _free(
        "the manager cannot tell",
        "REQUEST",
        (
            "poolmgr/domain/occupancy.py",
            "return doubts_of(node, self.unplaced.get(node.name, ()))",
            "return {}",
        ),
    ),
    _free(
        "the guard cannot tell",
        "at Intend",
        (GUARD, "if denial := doubt_denial(gpu, node, occupancy):", "if denial := None:"),
    ),
    _free(
        "the guard sees a user",
        "at Intend",
        (GUARD, "if in_the_way:", "if False:"),
    ),
    _free(
        "the executor cannot tell",
        "at Fence",
        (
            CONDITIONS,
            "    for gpu in gpus:\n        if gpu.observed_mode is None:",
            "    for gpu in ():\n        if gpu.observed_mode is None:",
        ),
    ),
    _free(
        "the executor sees a user",
        "at Fence",
        (
            CONDITIONS,
            "return {gpu: users for gpu in gpus if (users := occupancy.users_of(gpu))}",
            "return {}",
        ),
    ),
    _free(
        "the agent's last look finds a holder",
        "at Detach",
        (PREFLIGHT, "    if not holders:\n        return OK\n", "    return OK\n"),
    ),
    _free(
        "the agent's last look finds a pod",
        "at Rebind",
        (DECISIONS, "preflight.check_pods(gpu, observed.allocated_to, in_shared),", ""),
    ),
)
"""Places that ask, each of which takes what it cannot tell, or does not like, for free."""

PLANTED = (*UNHEARD, *FREE)


def planted_sources(mistake: Planted) -> list[tuple[str, str]]:
    """(absolute path, changed text) of each module. Raises LookupError where a module has the text never or twice."""
    texts: dict[str, str] = {}
    for change in mistake.changes:
        text = texts.get(change.module) or (ROOT / change.module).read_text()
        if text.count(change.before) != 1:
            raise LookupError(
                f"{mistake.name}: {change.module} has {change.before!r} {text.count(change.before)} times"
            )
        texts[change.module] = text.replace(change.before, change.after)
    return [(str(ROOT / module), text) for module, text in texts.items()]


def is_found(mistake: Planted) -> bool:
    """By its case of the property test, in a process that imports the changed modules."""
    from tools.mutate.runner import PLANTED as VARIABLE

    with tempfile.NamedTemporaryFile(suffix=".pickle") as file:
        file.write(pickle.dumps(planted_sources(mistake)))
        file.flush()
        quiet = (
            "-q",
            "-x",
            "-p",
            "no:schemathesis",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--hypothesis-profile",
            "first",
        )
        command = [sys.executable, "-m", "pytest", "-p", "tools.mutate.runner", *quiet]
        ended = subprocess.run(
            [*command, f"{PROPERTY}::{TEST}[{mistake.case}]"],
            cwd=ROOT,
            env={**os.environ, VARIABLE: file.name},
            capture_output=True,
            text=True,
            check=False,
        )
    found = ended.returncode == 1 and SEEN in ended.stdout
    if not found and ended.returncode != 0:
        raise RuntimeError(
            f"{mistake.name}: pytest {ended.returncode}\n{ended.stdout[-3000:]}{ended.stderr[-1000:]}"
        )
    return found


def main() -> int:
    """Plants them all. How many the property did not find."""
    missed = 0
    for mistake in PLANTED:
        found = is_found(mistake)
        missed += not found
        print(f"{'found ' if found else 'MISSED'} {mistake.name}, by [{mistake.case}]", flush=True)
    print(f"{len(PLANTED)} planted mistakes, {missed} not found")
    return missed
