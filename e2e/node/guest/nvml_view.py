"""Shows NVML (NVIDIA's mock) the GPUs that are on their host driver, as a real driver would.

`python -I -S nvml_view.py PROFILE DRIVER FOLDER BDF…` writes FOLDER/gpus.yaml from PROFILE (one of the mock's)
with a device for each BDF whose sysfs driver link is DRIVER, and FOLDER/gpus.list with those addresses, then
follows the kernel's bind and unbind events. UUID and minor number belong to the address, so a GPU that comes back
is the same GPU. Consumers read the file when they initialise NVML.
"""

import os
import socket
import sys
import uuid

NETLINK_KOBJECT_UEVENT = 15  # <linux/netlink.h>
KERNEL_EVENTS = 1  # the multicast group that the kernel itself sends to
NAMESPACE = uuid.UUID("6f2f1c3e-6d1c-4a51-9f0e-0c6d5a0b7f10")  # arbitrary, fixed: UUIDs must not change


def gpu_uuid(address: str) -> str:
    return f"GPU-{uuid.uuid5(NAMESPACE, address)}"


def on_driver(address: str, driver: str) -> bool:
    try:
        link = os.readlink(f"/sys/bus/pci/devices/{address}/driver")  # noqa: PTH115 - pathlib costs a second here
    except OSError:
        return False
    return link.rpartition("/")[2] == driver


def render(profile: str, addresses: list[str], present: list[str]) -> str:
    """The mock's configuration with the GPUs that are `present`, of all `addresses` that the node has."""
    head = profile.partition("\ndevices:")[0]
    text = head + "\ndevices:" + ("" if present else " []") + "\n"
    for index, address in enumerate(present):
        text += (
            f'  - index: {index}\n    uuid: "{gpu_uuid(address)}"\n'
            f'    pci:\n      bus_id: "{address}"\n    minor_number: {addresses.index(address)}\n'
        )
    return text


def write(path: str, text: str) -> None:
    """Whole or not at all: a reader never sees half a file."""
    with open(f"{path}.new", "w") as file:  # noqa: PTH123
        file.write(text)
    os.rename(f"{path}.new", path)  # noqa: PTH104


def main() -> None:
    profile_path, driver, folder, addresses = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    with open(profile_path) as file:  # noqa: PTH123
        profile = file.read()
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT)
    events.bind((0, KERNEL_EVENTS))  # before the first look, so that no change falls between
    shown: list[str] | None = None
    while True:
        present = [address for address in addresses if on_driver(address, driver)]
        if present != shown:
            write(f"{folder}/gpus.yaml", render(profile, addresses, present))
            write(f"{folder}/gpus.list", "".join(f"{address}\n" for address in present))
            print("nvml sees:", *present, flush=True)
            shown = present
        try:
            while b"SUBSYSTEM=pci" not in events.recv(8192):
                pass
        except OSError:
            continue  # the socket's buffer overflowed (ENOBUFS): events were lost, so look


if __name__ == "__main__":
    main()
