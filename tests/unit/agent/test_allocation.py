"""KubeVirt's contract and the preference for one NUMA node."""

from poolmgr.agent.deviceplugin.allocation import Offer, environment_name, grant, prefer
from poolmgr.domain.identifiers import PciAddress


def test_environment_is_named_as_kubevirt_reads_it() -> None:
    assert environment_name("nvidia.com/GA102GL_A10") == "PCI_RESOURCE_NVIDIA_COM_GA102GL_A10"
    assert environment_name("amd.com/x-y.z") == "PCI_RESOURCE_AMD_COM_X-Y_Z"


def test_a_container_gets_its_addresses_and_group_files_once() -> None:
    offers = [Offer(PciAddress(a), "r.io/X", g) for a, g in (("0000:00:05.0", 9), ("0000:00:04.0", 9))]
    granted = grant("r.io/X", offers)
    assert granted.environment == {"PCI_RESOURCE_R_IO_X": "0000:00:05.0,0000:00:04.0"}
    assert granted.device_files == ("/dev/vfio/vfio", "/dev/vfio/9")


NUMA = {"a0": 0, "a1": 0, "a2": 0, "b0": 1, "b1": 1, "c0": None}


def test_prefers_the_node_that_fits_most_tightly() -> None:
    assert prefer(["a0", "a1", "a2", "b0", "b1"], [], 2, NUMA) == ("b0", "b1")
    assert prefer(["a0", "a1", "a2", "b0", "b1"], [], 3, NUMA) == ("a0", "a1", "a2")


def test_stays_with_what_must_be_in() -> None:
    assert prefer(["a0", "a1", "a2", "b0", "b1"], ["a1"], 2, NUMA) == ("a1", "a0")


def test_spills_over_from_the_fullest_node_when_none_suffices() -> None:
    assert prefer(["a0", "a1", "a2", "b0", "b1"], [], 4, NUMA) == ("a0", "a1", "a2", "b0")


def test_gives_what_there_is_when_too_much_is_asked() -> None:
    assert prefer(["c0"], [], 4, NUMA) == ("c0",)
