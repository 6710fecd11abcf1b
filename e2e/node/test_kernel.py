"""What the emulated node's kernel does with GPUs: the ground that the agent stands on."""

from e2e.node.node import GuestNode

FIRST, SECOND = "0000:00:10.0", "0000:00:11.0"


def test_the_kernel_has_an_iommu_and_a_group_per_gpu(guest_node: GuestNode) -> None:
    assert guest_node.drivers() == {FIRST: "bochs-drm", SECOND: "bochs-drm"}
    assert guest_node.iommu_group(FIRST) != guest_node.iommu_group(SECOND)
    members = guest_node.run(f"ls /sys/bus/pci/devices/{FIRST}/iommu_group/devices", check=True).out.split()
    assert members == [FIRST]


def test_a_gpu_moves_to_vfio_and_back(guest_node: GuestNode) -> None:
    group = guest_node.iommu_group(FIRST)
    guest_node.rebind(FIRST, "vfio-pci")
    assert guest_node.driver(FIRST) == "vfio-pci"
    assert guest_node.run(["test", "-c", f"/dev/vfio/{group}"]).rc == 0
    assert guest_node.driver(SECOND) == "bochs-drm"
    guest_node.rebind(FIRST, "bochs-drm")
    assert guest_node.driver(FIRST) == "bochs-drm"
    assert guest_node.run(["test", "-e", f"/dev/vfio/{group}"]).rc != 0


def test_drivers_probe_says_yes_even_when_no_driver_took_the_device(guest_node: GuestNode) -> None:
    device = f"/sys/bus/pci/devices/{FIRST}"
    result = guest_node.run(
        f"echo no-such-driver >{device}/driver_override; echo {FIRST} >{device}/driver/unbind; "
        f"echo {FIRST} >/sys/bus/pci/drivers_probe"
    )
    assert result.rc == 0
    assert guest_node.driver(FIRST) is None, "which is why the agent reads the link back"
    guest_node.rebind(FIRST, "bochs-drm")


HOLD_AS_A_VM_DOES = """
import fcntl, os, sys, time
VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU = 0x3B66, 1
VFIO_GROUP_SET_CONTAINER, VFIO_GROUP_GET_DEVICE_FD = 0x3B68, 0x3B6A
container, group = os.open("/dev/vfio/vfio", os.O_RDWR), os.open("/dev/vfio/" + sys.argv[1], os.O_RDWR)
fcntl.ioctl(group, VFIO_GROUP_SET_CONTAINER, container.to_bytes(4, "little"))
fcntl.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU)
print("holding", flush=True)
time.sleep(600)
"""


def test_the_kernel_lets_a_gpu_be_pulled_from_under_a_holder(guest_node: GuestNode) -> None:
    """Documents why the agent checks for holders: the kernel does not refuse for them."""
    group = guest_node.iommu_group(FIRST)
    guest_node.rebind(FIRST, "vfio-pci")
    guest_node.put(HOLD_AS_A_VM_DOES, "/run/hold.py")
    holder = guest_node.start("holder", ["python3", "/run/hold.py", str(group)])
    guest_node.wait_for("grep -q holding /var/log/node/holder.log", what="the holder has the group open")
    result = guest_node.run(f"echo {FIRST} >/sys/bus/pci/drivers/vfio-pci/unbind", timeout_seconds=30)
    assert result.rc == 0
    assert guest_node.driver(FIRST) is None
    assert guest_node.run(f"kill -0 {holder}").rc == 0, "and the holder knows nothing of it"
    guest_node.run(f"kill -9 {holder}")
    guest_node.rebind(FIRST, "bochs-drm")
