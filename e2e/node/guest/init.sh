#!/bin/sh
# First program of the guest: file systems, devices, network; then the command server for the rest of its life.
# Usage (set by machine.py): init.sh CHECKOUT PYTHON PORT NODE_NAME CACHED_FOLDER…
# The guest's root is the host's own file system, read-only over 9p, with a /tmp of its own. machine.py has mounted
# the host's root once more at /run/host and runs this file from there: a checkout below /tmp is seen nowhere else.
set -eu
checkout=$1 python=$2 port=$3 name=$4
shift 4
here=${0%/*}
say() { echo "node-init: $*" >/dev/console; }
trap 'say "failed"' EXIT
set -x

modprobe -a virtio_blk ext4 overlay br_netfilter veth bridge bochs vfio-pci vfio_iommu_type1 9p || say "a module is missing"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# --- /run/host uses the page cache: starting programs from there is several times faster. What changes on the
# host is then not seen here, so the checkout itself stays as it is, but where only /run/host has it.
mkdir -p /run/session
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,rw session /run/session
for folder in /usr /etc /opt /var; do # writable, in memory
  mkdir -p "/run/overlay$folder/upper" "/run/overlay$folder/work"
  mount -t overlay -o "lowerdir=/run/host$folder,upperdir=/run/overlay$folder/upper,workdir=/run/overlay$folder/work" overlay "$folder"
done
mount -t tmpfs -o mode=1777 tmpfs /tmp
for folder in "$checkout" "$@"; do
  case $folder in
  /tmp/*) mkdir -p "$folder" ;;
  "$checkout") continue ;;
  esac
  mount --bind "/run/host$folder" "$folder"
done
printf '127.0.0.1 localhost\n10.0.2.15 %s\n' "$name" >/etc/hosts
hostname "$name"

# --- what a node keeps over a reboot lies on a real disk; the rest of /var/lib is memory
for folder in /var/lib /var/log /var/tmp; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p /run/disk
mount -t ext4 -o noatime /dev/vda /run/disk
for kept in poolmgr kubelet containerd; do
  mkdir -p "/run/disk/$kept" "/var/lib/$kept"
  mount --bind "/run/disk/$kept" "/var/lib/$kept"
done
mount --make-rshared /

# --- network: QEMU's user network, no DHCP client needed
nic=$(ls /sys/class/net | grep -v '^lo$' | head -1)
ip link set lo up
ip link set "$nic" up
ip addr replace 10.0.2.15/24 dev "$nic"
ip route replace default via 10.0.2.2
echo 1 >/proc/sys/net/ipv4/ip_forward

# --- cgroup v2: the kubelet wants the controllers enabled below the root
mkdir -p /sys/fs/cgroup/system
while read -r pid; do echo "$pid" >/sys/fs/cgroup/system/cgroup.procs || true; done </sys/fs/cgroup/cgroup.procs 2>/dev/null
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
  echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || say "no controller $controller"
done

ulimit -l unlimited
ulimit -n 65536
trap - EXIT
set +x
say "ready $(cut -d' ' -f1 /proc/uptime) s after the kernel's start"
exec "$python" -I -S "$here/execd.py" "$port" /run/session/token
