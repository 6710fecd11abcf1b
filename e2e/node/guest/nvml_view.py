"""Shows NVML the GPUs that are on their host driver, as a real driver would.

`python -I -S nvml_view.py FOLDER DRIVER BDF…` joins FOLDER/system and, for each BDF whose sysfs driver link is DRIVER,
FOLDER/gpus.d/BDF into FOLDER/gpus (NVML's state file) and writes those addresses to FOLDER/gpus.list. It follows the
kernel's bind and unbind events, and looks at the files twice a second: a test rewrites a GPU's to let it fall off its
bus. UUID and minor number belong to the address, so a GPU that comes back is the same GPU.
"""

import os
import socket
import sys
import uuid

NETLINK_KOBJECT_UEVENT = 15  # <linux/netlink.h>
KERNEL_EVENTS = 1  # the multicast group that the kernel itself sends to
LOOK_AGAIN_SECONDS = 0.5
NAMESPACE = uuid.UUID("6f2f1c3e-6d1c-4a51-9f0e-0c6d5a0b7f10")  # arbitrary, fixed: UUIDs must not change


def gpu_uuid(address: str) -> str:
    return f"GPU-{uuid.uuid5(NAMESPACE, address)}"


def on_driver(address: str, driver: str) -> bool:
    try:
        link = os.readlink(f"/sys/bus/pci/devices/{address}/driver")  # noqa: PTH115 - pathlib costs a second here
    except OSError:
        return False
    return link.rpartition("/")[2] == driver


def read(path: str) -> str:
    with open(path) as file:  # noqa: PTH123
        return file.read()


def write(path: str, text: str) -> None:
    """Whole or not at all: a reader never sees half a file."""
    with open(f"{path}.new", "w") as file:  # noqa: PTH123
        file.write(text)
    os.rename(f"{path}.new", path)  # noqa: PTH104


def show(folder: str, present: list[str]) -> str:
    """Writes what NVML and the tests read. Returns the state file's text."""
    text = "".join(read(path) for path in (f"{folder}/system", *(f"{folder}/gpus.d/{a}" for a in present)))
    write(f"{folder}/gpus", text)
    write(f"{folder}/gpus.list", "".join(f"{address}\n" for address in present))
    return text


def stamps(folder: str, addresses: list[str]) -> list[tuple[int, int]]:
    """Changes with the files that NVML's view is made of."""
    files = [os.stat(f"{folder}/gpus.d/{address}") for address in addresses]  # noqa: PTH116
    return [(file.st_mtime_ns, file.st_ino) for file in files]


def main() -> None:
    folder, driver, addresses = sys.argv[1], sys.argv[2], sys.argv[3:]
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT)
    events.bind((0, KERNEL_EVENTS))  # before the first look, so that no change falls between
    events.settimeout(LOOK_AGAIN_SECONDS)
    shown: object = None
    while True:
        present = [address for address in addresses if on_driver(address, driver)]
        if (seen := (present, stamps(folder, addresses))) != shown:
            show(folder, present)
            print("nvml sees:", *present, flush=True)
            shown = seen
        try:
            while b"SUBSYSTEM=pci" not in events.recv(8192):
                pass
        except OSError:
            continue  # nothing for a while, or the socket's buffer overflowed (ENOBUFS): look


if __name__ == "__main__":
    main()
