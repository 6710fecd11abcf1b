"""One emulated machine: Debian's kernel under QEMU's software emulation, an IOMMU, PCI GPUs, a disk.

virtme-ng (virtme-run) works out the QEMU command and the initramfs that makes the host's file system the
guest's root; this module adds the hardware and owns the process. It knows nothing about Kubernetes.
"""

import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cache import cache_folder
from e2e.node.machine_lock import Holder, MachineLock
from e2e.processes import Process, free_port

HERE = Path(__file__).resolve().parent
GUEST = HERE / "guest"
CHECKOUT = HERE.parent.parent
PYTHON = Path(sys.executable).absolute()
"""This environment's interpreter, with its packages; it lies at the same path in the guest."""
COMMAND_PORT = 7070
"""The command server's port in the guest; the host's side is a free loopback port."""
TUNNEL_PORT = 7071
"""The proxy to the node's pods (`guest/tunnel.py`) in the guest; the host's side is a free loopback port."""
LOCK_SECONDS = 2400
"""How long to wait for another guest of this user; less than a test's timeout, so that the reason is told."""
FIRST_GPU_SLOT = 0x10
"""PCI slot of the first GPU on bus 0: above everything that QEMU and virtme place themselves."""
SRIOV_SLOT, SPARE_SLOT = 0x18, 0x19
VIRTUAL_FUNCTIONS = 4
"""How many the SR-IOV device can have, at functions 1 to 4 of its slot."""


class NodeUnavailable(RuntimeError):
    """The emulated node cannot be had here; the sentence says what to install or to do."""


@dataclass(frozen=True)
class MachineSpec:
    """What to boot. GPU k sits at 0000:00:(10+k).0 (hexadecimal)."""

    name: str = "gpu-node-1"
    gpus: int = 2
    companions: frozenset[int] = field(default_factory=frozenset)
    """Indices of GPUs with a second function (an `edu` device, no driver) in the same IOMMU group, as a
    graphics card has its audio function."""
    shapeable: bool = True
    """With two functions more, for `shape.py`: an NVMe controller with SR-IOV, and an `edu` device without a driver."""
    memory: str = "3G"
    cpus: int = 2
    disk: str = "8G"
    """Size of the sparse disk that keeps /var/lib/{poolmgr,kubelet,containerd} over a reboot."""

    def gpu_address(self, index: int) -> str:
        return f"0000:00:{FIRST_GPU_SLOT + index:02x}.0"

    @property
    def gpu_addresses(self) -> tuple[str, ...]:
        return tuple(self.gpu_address(index) for index in range(self.gpus))

    @property
    def sriov_address(self) -> str:
        return f"0000:00:{SRIOV_SLOT:02x}.0"

    @property
    def virtual_function_addresses(self) -> tuple[str, ...]:
        """Where the kernel will find them; there are none until they are asked for."""
        return tuple(f"0000:00:{SRIOV_SLOT:02x}.{number}" for number in range(1, VIRTUAL_FUNCTIONS + 1))

    @property
    def spare_address(self) -> str:
        return f"0000:00:{SPARE_SLOT:02x}.0"

    def companion_address(self, index: int) -> str:
        return f"0000:00:{FIRST_GPU_SLOT + index:02x}.1"


def newest_kernel() -> Path:
    """Debian's newest installed kernel image. Raises NodeUnavailable when there is none."""
    kernels = [
        path for path in Path("/boot").glob("vmlinuz-*") if Path("/lib/modules", path.name[8:]).is_dir()
    ]
    if not kernels:
        raise NodeUnavailable(
            "no kernel with modules in /boot: run tools/packages.sh node (linux-image-amd64)"
        )
    return max(
        kernels,
        key=lambda path: [
            int(part) if part.isdigit() else 0 for part in path.name.replace("-", ".").split(".")
        ],
    )


def require_programs() -> Path:
    """Checks what booting needs. Returns virtme-run's path; raises NodeUnavailable with what is missing."""
    virtme = shutil.which(
        "virtme-run", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    needed = ("qemu-system-x86_64", "mkfs.ext4", "file", "ip", "modprobe")  # `file`: virtme-run asks it
    missing = [name for name in needed if _which(name) is None]
    if virtme is None:
        missing.append("virtme-run (the locked Python environment has it: tools/setup.sh)")
    if missing or virtme is None:
        raise NodeUnavailable(
            f"missing for the emulated node: {', '.join(missing)}; run tools/packages.sh node"
        )
    return Path(virtme)


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def say(message: str) -> None:
    """Progress for a person: on stderr, at once."""
    print(f"· node: {message}", file=sys.stderr, flush=True)


def hardware(spec: MachineSpec, disk: Path, command_port: int, tunnel_port: int) -> list[str]:
    """QEMU's arguments for what virtme does not add itself: IOMMU, GPUs, disk, network."""
    options = [
        "-machine", "q35,kernel-irqchip=split",
        "-accel", "tcg,thread=multi",
        "-device", "intel-iommu,intremap=on,caching-mode=on",
        "-drive", f"file={disk},format=raw,if=none,id=node,cache=writeback",
        "-device", "virtio-blk-pci,drive=node,serial=node",
        "-netdev", f"user,id=net,restrict=off,hostfwd=tcp:127.0.0.1:{command_port}-:{COMMAND_PORT},"
                   f"hostfwd=tcp:127.0.0.1:{tunnel_port}-:{TUNNEL_PORT}",
        "-device", "virtio-net-pci,netdev=net",
    ]  # fmt: skip
    for index in range(spec.gpus):
        slot = f"{FIRST_GPU_SLOT + index:#x}"
        shared = index in spec.companions
        options += ["-device", f"bochs-display,addr={slot}.0,multifunction={'on' if shared else 'off'}"]
        if shared:
            options += ["-device", f"edu,addr={slot}.1"]
    if spec.shapeable:
        # QEMU wants two queues and one interrupt vector for each virtual function, beyond the controller's own.
        virtual = f"sriov_max_vfs={VIRTUAL_FUNCTIONS},sriov_vq_flexible={2 * VIRTUAL_FUNCTIONS},"
        virtual += f"sriov_vi_flexible={VIRTUAL_FUNCTIONS},max_ioqpairs=26,msix_qsize=17"
        options += [
            "-device", "nvme-subsys,id=sriov",
            "-device", f"nvme,serial=sriov,subsys=sriov,addr={SRIOV_SLOT:#x}.0,{virtual}",
            "-device", f"edu,addr={SPARE_SLOT:#x}.0",
        ]  # fmt: skip
    return options


def shared_folder(tag: str, folder: Path, options: str = "") -> list[str]:
    """QEMU's arguments for a folder of this machine that the guest mounts by `tag`."""
    return [
        "-fsdev", f"local,id={tag},path={folder},security_model=none,multidevs=remap{options}",
        "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
    ]  # fmt: skip


def cached_folders() -> list[Path]:
    """Folders with programs that the guest starts often; see init.sh. /usr is always among them."""
    candidates = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), cache_folder()}
    return sorted(path for path in candidates if not path.is_relative_to("/usr") and path.is_dir())


def first_commands(name: str) -> str:
    """The guest's first shell commands: the host's root at /run/host, then guest/init.sh from there."""
    init = [f"/run/host{GUEST / 'init.sh'}", CHECKOUT, PYTHON, COMMAND_PORT, name, *cached_folders()]
    mount = "mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /run/host"
    return f"mkdir -p /run/host && {mount} && exec {shlex.join(map(str, init))}"


class Machine:
    """A booted QEMU; files of the session lie under `directory` (console.log, disk.img, token)."""

    def __init__(self, spec: MachineSpec, directory: Path) -> None:
        self.spec = spec
        self.directory = directory
        self.console = directory / "console.log"
        self.disk = directory / "disk.img"
        self.token = secrets.token_hex(16)
        self.command_port = free_port()
        self.tunnel_port = free_port()
        self._started_at = 0.0
        self._qemu: Process | None = None
        self._lock = MachineLock()

    def start(self) -> None:
        """Starts QEMU with the session's disk (made at the first start). Does not wait for the guest, but for
        another guest on this machine to end. Raises NodeUnavailable, TimeoutError."""
        virtme = require_programs()
        holder = Holder(os.getpid(), str(self.directory), self.command_port, self.token)
        self._lock.acquire(holder, LOCK_SECONDS, say)
        self.directory.mkdir(parents=True, exist_ok=True)
        token_file = self.directory / "token"
        token_file.write_text(self.token)
        token_file.chmod(0o600)
        if not self.disk.exists():
            self._make_disk()
        command = self._qemu_command(virtme)
        (self.directory / "qemu.command").write_text(shlex.join(command) + "\n")
        self._started_at = time.time()
        self._qemu = Process("qemu", command, self.console)
        self._qemu.start()

    def _make_disk(self) -> None:
        with self.disk.open("wb") as image:
            image.truncate(int(self.spec.disk.rstrip("G")) << 30)
        mkfs = _which("mkfs.ext4")
        assert mkfs is not None, "require_programs checks it"
        subprocess.run(
            [mkfs, "-q", "-F", "-L", "node", "-E", "lazy_itable_init=1,nodiscard", str(self.disk)], check=True
        )

    def _qemu_command(self, virtme: Path) -> list[str]:
        initramfs = self.directory / "initramfs"
        initramfs.unlink(missing_ok=True)
        # Under load the emulated CPU stands still for seconds. That is no lockup (nowatchdog), and the kernel's early
        # count of ticks, which ends in a panic where an IOMMU remaps interrupts, says nothing (no_timer_check).
        options = [
            "intel_iommu=on",
            "iommu=pt",
            "mitigations=off",
            "nowatchdog",
            "no_timer_check",
            "rcupdate.rcu_cpu_stall_suppress=1",
        ]
        listing = subprocess.run(
            [
                virtme, "--kimg", newest_kernel(), "--mods", "auto", "--force-9p",
                "--disable-kvm", "--disable-microvm", "--name", self.spec.name, "--cwd", "/",
                "--memory", self.spec.memory, "--cpus", str(self.spec.cpus),
                "--show-boot-console", "--verbose", "--no-dhcp",
                "--script-sh", first_commands(self.spec.name),
                *(argument for option in options for argument in ("--kopt", option)),
                "--save-initramfs", initramfs, "--show-command", "--dry-run",
            ],
            check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(self.directory)},
        )  # fmt: skip
        if listing.returncode != 0:
            raise RuntimeError(f"virtme-run makes no QEMU command: {listing.stderr.strip()[-2000:]}")
        command = shlex.split(listing.stdout.strip().splitlines()[-1])
        return [
            *command,
            *hardware(self.spec, self.disk, self.command_port, self.tunnel_port),
            *shared_folder("host", Path("/"), ",readonly=on"),
            *shared_folder("session", self.directory),
        ]

    @property
    def running(self) -> bool:
        return self._qemu is not None and self._qemu.running

    def kill(self) -> None:
        """Pulls the plug: QEMU dies at once, what the guest had not written to its disk is lost."""
        if self._qemu is not None:
            self._qemu.kill()

    def close(self) -> None:
        """Kills the guest and gives up its disk and the machine's lock; console and logs stay."""
        self.kill()
        for spent in (self.disk, self.directory / "initramfs", *self.directory.glob("virtme_ret*")):
            spent.unlink(missing_ok=True)
        self._lock.release()

    def console_tail(self, lines: int = 30) -> str:
        """The end of the console, without the carriage returns of a serial line."""
        try:
            text = self.console.read_text(errors="replace").replace("\r", "")
        except FileNotFoundError:
            return "(no console output yet)"
        return "\n".join(text.splitlines()[-lines:])

    def console_age_seconds(self) -> float:
        """Seconds since the console last said something, or since the start when it has said nothing yet."""
        try:
            spoke_at = self.console.stat().st_mtime
        except FileNotFoundError:
            spoke_at = 0.0
        return time.time() - max(spoke_at, self._started_at)
