"""Lays a `Shape` over the emulated node. What is real and what is shaped: see README.md."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from e2e.node.machine import GUEST, PYTHON, MachineSpec
from e2e.node.node import GuestNode
from e2e.node.shape import Shape

ACCELERATORS = Path(__file__).with_name("shaped.yaml")
"""The accelerator file by which the agent knows shaped GPUs (POOLMGR_ACCELERATORS)."""
FOLDER = "/run/shape"
PROGRAM = "shape"

_SPEC = MachineSpec()
_GPUS = (*_SPEC.gpu_addresses, _SPEC.sriov_address)
_DRIVERS = {2: "nvme"}
SHAPES = {
    "whole": Shape(
        gpus=_GPUS,
        host_driver="bochs-drm",
        drivers=_DRIVERS,
        mig={0: ("1g.10gb", "3g.40gb")},
        render=True,
        vfs={2: _SPEC.virtual_function_addresses[:2]},
        mdevs={1: 1},
        nvswitches=(_SPEC.spare_address,),
        console_on=0,
    ),
    "masked": Shape(gpus=_GPUS, host_driver="bochs-drm", drivers=_DRIVERS, masked=(0,)),
    "fallen": Shape(
        gpus=_GPUS, host_driver="bochs-drm", drivers=_DRIVERS, off_bus=frozenset({0}), known=False
    ),
}
"""What `tests/integration/agent/test_shape_contract.py` looks at, on the fake node and on the emulated one."""


class ShapedNode:
    """A guest with a shape over it. `lay` again for another shape; `take_off` leaves the node as it was."""

    def __init__(self, guest: GuestNode) -> None:
        self.guest = guest
        self.shape: Shape | None = None
        self._pid = 0
        self._boot = 0

    def lay(self, shape: Shape) -> None:
        """Raises NodeFailed. GPUs of the shape are where their host driver is when this is called."""
        self.take_off()
        self.shape, self._boot = shape, self.guest.boots
        self._run("modprobe -a fuse cuse mdev")
        for index, functions in shape.vfs.items():
            self._make_virtual_functions(shape.gpus[index], len(functions))
        self._bind_console(shape.console_on is not None)
        folders = [
            {**asdict(folder), "config": folder.config.hex()}
            for folder in (*shape.sysfs_folders(), *shape.proc_folders())
        ]
        devices = [asdict(file) for file in shape.device_files()]
        spec = {"host_drivers": shape.host_drivers, "folders": folders, "devices": devices}
        self.guest.put(json.dumps(spec), f"{FOLDER}/spec.json")
        self.guest.run(f"rm -f /var/log/node/{PROGRAM}.log")
        self._pid = self.guest.start(
            PROGRAM, [str(PYTHON), "-I", "-S", str(GUEST / "shapefs.py"), f"{FOLDER}/spec.json"]
        )
        self.guest.wait_for(f"grep -q ready /var/log/node/{PROGRAM}.log", what="the shape is laid")
        for file in shape.device_files():
            self.guest.wait_for(f"test -c {file.path}", what=f"{file.path} is there")
        self._name_majors(shape)
        if shape.masked is not None:
            self.mask([shape.gpus[index] for index in shape.masked])

    def take_off(self) -> None:
        """Removes all that was laid. Who has a shaped device open keeps a dead one."""
        if self.shape is None or self._boot != self.guest.boots:
            return  # a reboot has taken it off
        self.unmask()
        self._run(
            f"umount -l /proc/devices 2>/dev/null || true; kill {self._pid}; while kill -0 {self._pid} 2>/dev/null; do sleep 0.2; done"
        )
        for index in self.shape.vfs:
            self._run(f"echo 0 >/sys/bus/pci/devices/{self.shape.gpus[index]}/sriov_numvfs")
        self._bind_console(True)
        self.shape = None

    def _make_virtual_functions(self, address: str, count: int) -> None:
        """Real ones. No driver is looked for: the emulated controller's are not up by themselves."""
        folder = f"/sys/bus/pci/devices/{address}"
        self._run(f"cd {folder} && echo 0 >sriov_drivers_autoprobe && echo {count} >sriov_numvfs")

    def _bind_console(self, bound: bool) -> None:
        self._run(
            "for c in /sys/class/vtconsole/*; do grep -q 'frame buffer' $c/name || continue; "
            f"[ $(cat $c/bind) = {int(bound)} ] || echo {int(bound)} >$c/bind; done"
        )

    def _name_majors(self, shape: Shape) -> None:
        """CUSE's own lines in /proc/devices, one a device, are replaced by those of NVIDIA's driver."""
        ours = "|".join(sorted({str(major) for major, _ in shape.majors()}))
        lines = "".join(f"{major:3} {name}\\n" for major, name in shape.majors())
        self._run(
            f"grep -vE '^ *({ours}) ' /proc/devices | sed \"s/^Character devices:$/&\\n{lines}/\" >{FOLDER}/devices "
            f"&& mount --bind {FOLDER}/devices /proc/devices"
        )

    def mask(self, addresses: Sequence[str]) -> None:
        """As container runtimes do: a tmpfs, in it these of the GPUs that are there now, bound from the driver's folder."""
        behind = f"{FOLDER}/nvidia"
        self._run(
            # private: what is mounted on the one would be mounted on the other as well
            f"mkdir -p {behind} && mount --bind /proc/driver/nvidia {behind} && mount --make-private {behind} && "
            "mount -t tmpfs -o mode=0555 tmpfs /proc/driver/nvidia && cd /proc/driver/nvidia && "
            f"cp {behind}/version . && sed 's/^ModifyDeviceFiles: 1/ModifyDeviceFiles: 0/' {behind}/params >params"
        )
        for address in addresses:
            self._run(
                f"if [ -e {behind}/gpus/{address} ]; then mkdir -p /proc/driver/nvidia/gpus/{address} && "
                f"mount --bind {behind}/gpus/{address} /proc/driver/nvidia/gpus/{address}; fi"
            )

    def unmask(self) -> None:
        """The driver's own folder again; nothing where no mask is."""
        self._run(
            f"for at in /proc/driver/nvidia/gpus/* /proc/driver/nvidia {FOLDER}/nvidia; do "
            "umount -l $at 2>/dev/null || true; done"
        )

    def _run(self, command: str) -> None:
        self.guest.run(command, check=True)
