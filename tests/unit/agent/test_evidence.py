"""Not knowing who uses a GPU never counts as nobody using it."""

import itertools
from typing import Any

import pytest

from poolmgr.agent.accelerators import load_catalogue
from poolmgr.agent.evidence import check_evidence
from poolmgr.agent.holders import UNREADABLE
from poolmgr.agent.inventory import Accelerator, DeviceFile, PciFunction
from poolmgr.agent.observed import Doubt, ObservedGpu
from poolmgr.domain.fleet import Holder
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.reasons import Reason

AT = PciAddress("0000:3b:00.0")
NVIDIA, EMULATED = load_catalogue(["nvidia", "emulated"]).vendors


def gpu(driver: str | None = "nvidia", *, files_known: bool = True, emulated: bool = False) -> Accelerator:
    vendor = EMULATED if emulated else NVIDIA
    function = PciFunction(AT, vendor.vendor_id, "2235", "0302", driver)
    files = (DeviceFile("renderD128", 226, 128),)  # there is one in any case; it is not all there is
    return Accelerator(function, vendor, 7, device_files=files, device_files_known=files_known)


def seen(card: Accelerator, **more: Any) -> ObservedGpu:
    return ObservedGpu(card, **{"uuid": "GPU-1", **more})


@pytest.mark.parametrize(
    ("kubelet", "files", "uuid", "mig"),
    [
        missing
        for missing in itertools.product((True, False), (True, False), ("GPU-1", ""), (False, None))
        if missing != (True, True, "GPU-1", False)
    ],
)
def test_any_witness_that_is_missing_keeps_a_shared_gpu(
    kubelet: bool, files: bool, uuid: str, mig: bool | None
) -> None:
    verdict = check_evidence(seen(gpu(files_known=files), uuid=uuid, mig_enabled=mig, kubelet_known=kubelet))
    assert not verdict
    assert verdict.reason is (Reason.CANNOT_TELL if kubelet else Reason.KUBELET_UNREACHABLE)
    assert AT in verdict.message


def test_with_all_witnesses_it_may_go() -> None:
    assert check_evidence(seen(gpu()))


def test_mig_that_is_on_is_no_lack_of_evidence() -> None:
    assert check_evidence(seen(gpu(), mig_enabled=True))


@pytest.mark.parametrize("driver", ["vfio-pci", None])
def test_off_its_host_driver_the_kubelet_and_open_files_tell_all(driver: str | None) -> None:
    assert check_evidence(seen(gpu(driver, files_known=False), uuid="", mig_enabled=None))
    assert not check_evidence(seen(gpu(driver), uuid="", mig_enabled=None, kubelet_known=False))


def test_a_vendor_without_nvml_needs_none_but_the_numbers_of_its_files() -> None:
    shared = gpu("bochs-drm", emulated=True)
    assert check_evidence(seen(shared, uuid="", mig_enabled=None))
    hidden = gpu("bochs-drm", emulated=True, files_known=False)
    assert not check_evidence(seen(hidden, uuid="", mig_enabled=None))


@pytest.mark.parametrize("driver", ["nvidia", "vfio-pci"])
def test_a_process_that_cannot_be_looked_into_keeps_a_gpu_on_either_driver(driver: str) -> None:
    hidden = Holder(7, "guarded", path=UNREADABLE)
    verdict = check_evidence(seen(gpu(driver), holders=(hidden,)))
    assert verdict.reason is Reason.CANNOT_TELL
    assert "guarded (pid 7)" in verdict.message and "security module" in verdict.message


@pytest.mark.parametrize("driver", ["nvidia", "vfio-pci"])
def test_a_doubt_keeps_a_gpu_on_either_driver_and_says_what_to_do(driver: str) -> None:
    verdict = check_evidence(seen(gpu(driver), doubts=(Doubt("two tell different things", "ask again"),)))
    assert verdict.reason is Reason.CANNOT_TELL
    assert verdict.message.endswith("two tell different things; ask again")
