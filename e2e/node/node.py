"""The emulated node as tests use it: boot, run commands, move files, read drivers, reboot, end.

What the node does in a cluster is in `kubernetes.py`; the machine under it in `machine.py`.
"""

import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from e2e.node.channel import ChannelLost, Result, run_over_channel
from e2e.node.machine import Machine, MachineSpec, say

REPOSITORY = Path(__file__).resolve().parents[2]
BOOT_SECONDS = 600
"""A boot takes 13 s of guest time, 20-45 s of ours; ten times that under load."""
SILENT_SECONDS = 240
"""A booting guest whose console says nothing for this long is taken for wedged."""
LOG_DIRECTORY = "/var/log/node"
SESSION_DIRECTORY = "/run/session"
"""Where the guest sees this session's folder, writable."""


class NodeFailed(AssertionError):
    """The node, or a command that had to succeed in it, failed; the message ends with what it printed."""


class GuestNode:
    """A booted emulated node. Use as a context manager, or call `close()`.

    `boots` counts boots, `retries` lists what went wrong with boots that had to be repeated.
    """

    def __init__(self, spec: MachineSpec | None = None, directory: Path | None = None) -> None:
        self.spec = spec or MachineSpec()
        self.directory = directory or Path(tempfile.mkdtemp(prefix="poolmgr-node-"))
        self.machine = Machine(self.spec, self.directory)
        self.boots = 0
        self.boot_seconds = 0.0
        self.retries: list[str] = []
        self.after_boot: list[Callable[[GuestNode], None]] = []
        """Called in order after every boot, so that services return after a reboot."""

    # --- life -----------------------------------------------------------------------------------------

    def __enter__(self) -> "GuestNode":
        self.boot()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def boot(self) -> None:
        """Boots and waits until the guest runs a command. One repeat, which is reported on stderr and in
        `retries`. Raises NodeFailed with the console's end, NodeUnavailable when parts are missing."""
        for attempt in (1, 2):
            started = time.monotonic()
            self.machine.start()
            trouble = self._wait_until_it_answers(started + BOOT_SECONDS)
            if trouble is None:
                self.boots += 1
                self.boot_seconds = time.monotonic() - started
                say(f"{self.spec.name} is up after {self.boot_seconds:.0f} s (boot {self.boots})")
                break
            tail = self.machine.console_tail()
            self.machine.kill()
            self.retries.append(trouble)
            if attempt == 2:
                raise NodeFailed(f"the node did not boot, twice: {self.retries[-2:]}; console ends:\n{tail}")
            say(f"boot failed ({trouble}); one more try. The console ended:\n{tail}")
        for hook in self.after_boot:
            hook(self)

    def _wait_until_it_answers(self, deadline: float) -> str | None:
        """None once a command ran; otherwise a sentence on what is wrong."""
        while time.monotonic() < deadline:
            if not self.machine.running:
                return "QEMU ended by itself"
            if self.machine.console_age_seconds() > SILENT_SECONDS:
                return f"the console has been silent for {SILENT_SECONDS} s"
            try:
                # Short margin: a connection made before the guest listens is retried with growing pauses.
                self._run_once(["true"], timeout_seconds=5, margin_seconds=2)
                return None
            except ChannelLost:
                time.sleep(0.5)
        return f"no answer within {BOOT_SECONDS} s"

    def reboot(self, *, power_cut: bool = False) -> str:
        """Ends the guest and boots the same machine again. Returns the new boot id.

        /var/lib/{poolmgr,kubelet,containerd} lie on its disk and are kept: everything after a `sync`, or with
        `power_cut` only what programs had synced themselves. All else starts anew; hooks in `after_boot` run.
        """
        if not power_cut:
            self.run("sync", check=True)
        self.machine.kill()
        self.boot()
        return self.boot_id()

    def close(self) -> None:
        """Saves the logs to the session's folder and kills the guest. Safe to call twice."""
        if self.machine.running:
            try:
                self.save_logs()
            except (ChannelLost, NodeFailed) as error:
                say(f"logs could not be saved: {error}")
        self.machine.close()

    # --- commands and files ----------------------------------------------------------------------------

    def run(
        self,
        command: str | Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout_seconds: float = 600,
        check: bool = False,
        echo: bool = False,
    ) -> Result:
        """Runs a command as root in the guest: a string by `sh -c`, a list as it is.

        `rc, out, err = node.run("lspci -k")`. With `check`, a status other than 0 raises NodeFailed. With
        `echo`, output is also copied to this process as it comes. Raises ChannelLost when the guest is gone.
        """
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)

        def copy(stream: str, data: bytes) -> None:
            if echo:
                target = sys.stdout if stream == "out" else sys.stderr
                target.buffer.write(data)
                target.flush()

        result = self._run_once(
            argv, stdin=stdin, env=env, cwd=cwd, timeout_seconds=timeout_seconds, on_output=copy
        )
        if check and result.rc != 0:
            ending = "timed out" if result.timed_out else f"ended with {result.rc}"
            raise NodeFailed(f"{command!r} {ending} after {result.seconds:.0f} s: {result.out}{result.err}")
        return result

    def _run_once(self, argv: Sequence[str], **options: object) -> Result:
        return run_over_channel(self.machine.command_port, self.machine.token, argv, **options)  # type: ignore[arg-type]

    def start(
        self,
        name: str,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        supervised: bool = False,
    ) -> int:
        """Starts a program that stays; its output goes to `logs(name)`. Returns its pid in the guest.

        A `supervised` one is started again 3 s after it has ended, as a service manager would.
        """
        text = command if isinstance(command, str) else shlex.join(command)
        if supervised:
            loop = f'while :; do {text}; echo "{name} ended with $?"; sleep 3; done'
            text = f"sh -c {shlex.quote(loop)}"
        log = f"{LOG_DIRECTORY}/{name}.log"
        program = f"setsid sh -c {shlex.quote('exec ' + text)} </dev/null >>{log} 2>&1 &"
        return int(self.run(f"mkdir -p {LOG_DIRECTORY}; {program} echo $!", env=env, check=True).out)

    def run_tests(self, *arguments: str, timeout_seconds: float = 600) -> Result:
        """Runs pytest of this checkout inside the guest, as `run_tests("tests/x.py", "-k", "rebind")`.

        Output is copied through. The checkout is read-only there; pytest's temporary folders are in memory.
        """
        python = REPOSITORY / ".venv/bin/python"
        argv = [str(python), "-B", "-m", "pytest", "-p", "no:cacheprovider", "-o", "timeout=0", *arguments]
        return self.run(argv, cwd=str(REPOSITORY), timeout_seconds=timeout_seconds, echo=True)

    def put(self, content: bytes | str | Path, path: str, *, mode: str = "644") -> None:
        """Writes bytes, text or a local file to `path` in the guest, making its folder."""
        if isinstance(content, Path):
            content = content.read_bytes()
        data = content.encode() if isinstance(content, str) else content
        target = shlex.quote(path)
        script = f'mkdir -p "$(dirname {target})" && cat >{target} && chmod {mode} {target}'
        self.run(script, stdin=data, check=True)

    def get(self, path: str) -> str:
        """Text of a file of the guest. Raises FileNotFoundError."""
        result = self.run(["cat", path])
        if result.rc != 0:
            raise FileNotFoundError(f"{path} in the node: {result.err.strip()}")
        return result.out

    def wait_for(self, command: str, *, timeout_seconds: float = 600, what: str = "") -> Result:
        """Repeats a command until it succeeds. Raises NodeFailed with its last output."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            result = self.run(command)
            if result.rc == 0:
                return result
            if time.monotonic() > deadline:
                raise NodeFailed(
                    f"{what or command} not within {timeout_seconds:.0f} s: {result.out}{result.err}"
                )
            time.sleep(0.5)

    # --- what the kernel says -----------------------------------------------------------------------------

    def boot_id(self) -> str:
        return self.get("/proc/sys/kernel/random/boot_id").strip()

    def driver(self, pci_address: str) -> str | None:
        """Name of the driver that holds a PCI device, from its sysfs link; None when none does."""
        out = self.run(["readlink", f"/sys/bus/pci/devices/{pci_address}/driver"]).out.strip()
        return out.rpartition("/")[2] or None

    def drivers(self) -> dict[str, str | None]:
        """Driver of each emulated GPU by PCI address."""
        return {address: self.driver(address) for address in self.spec.gpu_addresses}

    def iommu_group(self, pci_address: str) -> int:
        link = self.run(["readlink", f"/sys/bus/pci/devices/{pci_address}/iommu_group"], check=True).out
        return int(link.strip().rpartition("/")[2])

    def rebind(self, pci_address: str, driver: str) -> None:
        """Moves a device to `driver` by driver_override, as an operator would by hand: no busy check, so that
        tests can show what the agent's check prevents. Raises NodeFailed when it ends up elsewhere."""
        device = f"/sys/bus/pci/devices/{pci_address}"
        self.run(
            f"echo {driver} >{device}/driver_override && "
            f"if [ -e {device}/driver ]; then echo {pci_address} >{device}/driver/unbind; fi && "
            f"echo {pci_address} >/sys/bus/pci/drivers_probe",
            check=True,
        )
        found = self.driver(pci_address)
        if found != driver:
            raise NodeFailed(
                f"{pci_address} is on {found}, not on {driver}; dmesg: {self.run('dmesg | tail -5').out}"
            )

    # --- logs ---------------------------------------------------------------------------------------------

    def logs(self, name: str | None = None) -> str:
        """One program's log (see `start`), or all of them with headings."""
        which = f"{LOG_DIRECTORY}/{name}.log" if name else f"{LOG_DIRECTORY}/*.log"
        return self.run(f'for f in {which}; do echo "==> $f"; cat $f; done 2>&1').out

    def console(self, lines: int = 200) -> str:
        """The end of the serial console, which survives a wedged or dead guest."""
        return self.machine.console_tail(lines)

    def save_logs(self) -> Path:
        """Copies programs' logs, pods' logs and dmesg into the session's folder and returns it."""
        name = f"logs-boot-{self.boots}"
        target = f"{SESSION_DIRECTORY}/{name}"
        self.run(
            f"mkdir -p {target}; cp {LOG_DIRECTORY}/*.log {target}/ 2>/dev/null; "
            f"cp -rL /var/log/pods {target}/ 2>/dev/null; dmesg >{target}/dmesg.log; true"
        )
        return self.directory / name
