#!/bin/sh
# First program of the guest: devices, network, disk; then the command server for the rest of its life.
# Usage (set by machine.py): init.sh PYTHON SESSION_DIR PORT NODE_NAME
# The guest's root is the host's own file system, read-only over 9p, with overlays in memory.
set -eu
python=$1 session=$2 port=$3 name=$4
here=${0%/*}
say() { echo "node-init: $*" >/dev/console; }
trap 'say "failed in line $LINENO"' EXIT

hostname "$name"
modprobe -a virtio_blk ext4 overlay br_netfilter veth bridge bochs vfio-pci vfio_iommu_type1 || say "a module is missing"

# --- network: QEMU's user network, no DHCP client needed
nic=$(ls /sys/class/net | grep -v '^lo$' | head -1)
ip link set lo up
ip link set "$nic" up
ip addr add 10.0.2.15/24 dev "$nic" 2>/dev/null || true
ip route replace default via 10.0.2.2
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true

# --- what a node keeps over a reboot lies on a real disk; the rest of /var/lib is memory
mount -t tmpfs tmpfs /var/lib
mkdir -p /run/disk
mount -t ext4 -o noatime /dev/disk/by-id/virtio-node /run/disk 2>/dev/null || mount -t ext4 -o noatime /dev/vda /run/disk
for kept in poolmgr kubelet containerd; do
  mkdir -p /run/disk/$kept /var/lib/$kept
  mount --bind /run/disk/$kept /var/lib/$kept
done
mount --make-rshared /

# --- cgroup v2: the kubelet wants the controllers enabled below the root
mkdir -p /sys/fs/cgroup/system
for pid in $(cat /sys/fs/cgroup/cgroup.procs); do echo "$pid" >/sys/fs/cgroup/system/cgroup.procs 2>/dev/null || true; done
for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true; done

ulimit -l unlimited
ulimit -n 65536
trap - EXIT
say "ready in $(cut -d' ' -f1 /proc/uptime) s"
exec "$python" -I -S "$here/execd.py" "$port" "$session/token"
