"""Stands in for KubeVirt's virt-launcher: an image whose `virt-launcher-monitor` starts a QEMU with the GPU.

The launcher pod, its limits and its devices are virt-controller's and the kubelet's own. In place of libvirt and
a disk image there is a small QEMU (software emulation) that takes each device of PCI_RESOURCE_* by VFIO and is
asked for its PCI bus. It holds the device as any VM does, until the pod is ended.
"""

from e2e.controlplane.kubevirt import LAUNCHER_IMAGE
from e2e.node.images import APPLETS, BUSYBOX, GUEST_ROOT, Image

MONITOR = """\
#!/bin/sh
env | grep -E '^(MDEV_)?PCI_RESOURCE_' || echo 'no PCI_RESOURCE_* given'
ls -ln /dev/vfio 2>/dev/null || echo 'no /dev/vfio'
devices=''
for address in $(env | sed -n 's/^PCI_RESOURCE_[^=]*=//p' | tr ',' ' '); do
  devices="$devices -device vfio-pci,host=$address"
  group=$(readlink /sys/bus/pci/devices/$address/iommu_group)
  echo "$address: driver $(basename $(readlink /sys/bus/pci/devices/$address/driver)), IOMMU group ${group##*/}"
done
escape=$(printf '\\033') # QEMU's monitor echoes what it is asked, letter by letter
stop() { echo 'launcher: SIGTERM'; [ -n "$vm" ] && kill $vm; wait; exit 0; }
trap stop TERM INT
if [ -n "$devices" ]; then
  dir=$(mktemp -d); mkfifo $dir/monitor
  exec 8<>$dir/monitor
  /guest/usr/bin/qemu-system-x86_64 -accel tcg -machine q35 -m 64 -nodefaults -display none -no-user-config \\
    -monitor stdio $devices <$dir/monitor 2>&1 \
    | while read -r line; do case $line in *"$escape"*) ;; *) echo "vm: $line" ;; esac; done &
  pipe=$!
  sleep 10 # its firmware looks at the bus
  echo 'info pci' >&8
  echo 'stop' >&8 # the VM holds the GPU as before, and its processor costs nothing
  vm=$(pidof qemu-system-x86_64)
  wait $pipe
  echo 'launcher: the VM has ended'
  exit 1
fi
while :; do sleep 3600 & wait $!; done
"""

TAIL = "#!/bin/sh\nexec sleep 86400000\n"

MORE_APPLETS = ("printf", "sed", "tr", "readlink", "basename", "mktemp", "mkfifo", "pidof", "kill")


def launcher_image() -> Image:
    """Named as virt-controller is told to name it. QEMU and its libraries are the node's own."""
    links = {f"/bin/{applet}": "busybox" for applet in (*APPLETS, *MORE_APPLETS)}
    links |= {f"/{folder}": f"{GUEST_ROOT}/usr/{folder}" for folder in ("lib", "lib64")}
    links |= {f"/usr/{folder}": f"{GUEST_ROOT}/usr/{folder}" for folder in ("lib", "lib64", "share")}
    return Image(
        LAUNCHER_IMAGE,
        ["/usr/bin/virt-launcher-monitor"],
        {
            "/bin/busybox": BUSYBOX.read_bytes(),
            "/usr/bin/virt-launcher-monitor": MONITOR,
            "/usr/bin/virt-tail": TAIL,
            "/etc/passwd": "root:x:0:0::/:/bin/sh\nqemu:x:107:107::/:/bin/sh\n",
        },
        links,
    )
