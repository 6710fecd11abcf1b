"""NVML on the emulated node: libhook's fake of it, showing exactly the GPUs that are on their host driver."""

from e2e.node.container_runtime import NVML_DIRECTORY
from e2e.node.guest.nvml_view import gpu_uuid
from e2e.node.machine import GUEST, PYTHON
from e2e.node.node import GuestNode
from e2e.nvml.library import ensure_nvml_library
from e2e.nvml.state import L40S, gpu, system

HOST_DRIVER = "bochs-drm"
STATE = f"{NVML_DIRECTORY}/gpus"
ENVIRONMENT = {"LD_LIBRARY_PATH": f"{NVML_DIRECTORY}/lib", "FAKE_NVML_STATE": STATE}
"""What a program needs to load it, on the node and in a container."""

__all__ = [
    "ENVIRONMENT",
    "HOST_DRIVER",
    "NVML_DIRECTORY",
    "ensure_nvml",
    "gpu_uuid",
    "nvml_addresses",
    "show_in_nvml",
    "tell_nvml",
]


def ensure_nvml(node: GuestNode) -> None:
    """Installs NVML and follows the GPUs' drivers from now on. Raises PartMissing."""
    library = ensure_nvml_library()
    node.run(f"mkdir -p {NVML_DIRECTORY}/lib && cp {library} {NVML_DIRECTORY}/lib/", check=True)
    node.put(system(), f"{NVML_DIRECTORY}/system")
    for address in node.spec.gpu_addresses:
        _put_section(node, address, _section(node, address))
    view = [str(PYTHON), "-I", "-S", str(GUEST / "nvml_view.py"), NVML_DIRECTORY, HOST_DRIVER]
    node.start("nvml", [*view, *node.spec.gpu_addresses])
    node.wait_for(f"test -s {STATE}", what="NVML's view is written")


def tell_nvml(node: GuestNode, address: str, lines: str) -> None:
    """What NVML shows of a GPU beside what it is, such as "state = lost"; "" takes it back. See `show_in_nvml`."""
    show_in_nvml(node, address, _section(node, address, lines))


def show_in_nvml(node: GuestNode, address: str, section: str) -> None:
    """All that NVML shows of a GPU, as `Shape.nvml` makes it. There when this returns, if the GPU is on its host
    driver."""
    mark = f"# told {node.run('cat /proc/sys/kernel/random/uuid', check=True).out.strip()}"
    _put_section(node, address, f"{section}{mark}\n")
    if node.driver(address) == HOST_DRIVER:
        node.wait_for(f"grep -q '{mark}' {STATE}", what=f"NVML shows {address} anew")


def nvml_addresses(node: GuestNode) -> list[str]:
    """PCI addresses that NVML shows now."""
    return node.get(f"{NVML_DIRECTORY}/gpus.list").split()


def _section(node: GuestNode, address: str, lines: str = "") -> str:
    minor = node.spec.gpu_addresses.index(address)
    return gpu(address, gpu_uuid(address), L40S, minor=minor, lines=lines)


def _put_section(node: GuestNode, address: str, section: str) -> None:
    path = f"{NVML_DIRECTORY}/gpus.d/{address}"
    node.put(section, f"{path}.new")
    node.run(["mv", f"{path}.new", path], check=True)
