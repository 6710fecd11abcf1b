"""NVML on the emulated node: NVIDIA's mock, showing exactly the GPUs that are on their host driver."""

from e2e.node.container_runtime import NVML_DIRECTORY
from e2e.node.guest.nvml_view import gpu_uuid
from e2e.node.machine import GUEST, PYTHON
from e2e.node.node import GuestNode
from e2e.parts import part

HOST_DRIVER = "bochs-drm"
PROFILE = "l40s"
"""The mock's profile: name, memory and PCI ids that NVML tells (NVIDIA L40S, 48 GiB)."""
ENVIRONMENT = {"LD_LIBRARY_PATH": f"{NVML_DIRECTORY}/lib", "MOCK_NVML_CONFIG": f"{NVML_DIRECTORY}/gpus.yaml"}
"""What a program needs to load the mock, on the node and in a container."""

__all__ = ["ENVIRONMENT", "HOST_DRIVER", "NVML_DIRECTORY", "ensure_nvml", "gpu_uuid", "nvml_addresses"]


def ensure_nvml(node: GuestNode) -> None:
    """Installs the mock and follows the GPUs' drivers from now on. Raises PartMissing."""
    library = part("nvml-mock/libnvidia-ml.so.1")
    profile = part(f"nvml-mock/configs/mock-nvml-config-{PROFILE}.yaml")
    node.run(f"mkdir -p {NVML_DIRECTORY}/lib && cp {library} {NVML_DIRECTORY}/lib/", check=True)
    node.put(profile, f"{NVML_DIRECTORY}/profile.yaml")
    view = [
        str(PYTHON),
        "-I",
        "-S",
        str(GUEST / "nvml_view.py"),
        f"{NVML_DIRECTORY}/profile.yaml",
        HOST_DRIVER,
    ]
    node.start("nvml", [*view, NVML_DIRECTORY, *node.spec.gpu_addresses])
    node.wait_for(f"test -s {NVML_DIRECTORY}/gpus.yaml", what="NVML's view is written")


def nvml_addresses(node: GuestNode) -> list[str]:
    """PCI addresses that NVML shows now."""
    return node.get(f"{NVML_DIRECTORY}/gpus.list").split()
