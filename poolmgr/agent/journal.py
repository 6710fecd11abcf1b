"""What the agent must still know after a crash or a reboot, in one small file.

Intent → act → confirm: a move is written here before its first write to sysfs and taken out after the
result was read back. A crash leaves the intent; the next start reads sysfs, which is the truth about the
hardware, and finishes or undoes. A reboot voids moves and quarantines (the kernel state they spoke of is
gone) and keeps the desired modes, which are then restored.
"""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason

VERSION = 1
DAMAGED = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding raises, whatever the file holds: other bytes than UTF-8 and brackets without end, too."""


class RebindIntent(msgspec.Struct, frozen=True, rename="camel"):
    """A rebind that was begun and not yet confirmed."""

    plan_id: str
    epoch: int
    to_mode: Mode
    started_at: float


class Failure(msgspec.Struct, frozen=True, rename="camel"):
    """The last thing that went wrong with a device."""

    reason: str
    message: str
    plan_id: str
    to_mode: Mode
    at: float
    attempts: int = 1
    quarantined: bool = False

    @property
    def code(self) -> Reason:
        """What a newer release wrote and this one does not know is taken as the more careful of our own."""
        try:
            return Reason(self.reason)
        except ValueError:
            return Reason.UNBIND_TIMED_OUT if self.quarantined else Reason.BIND_FAILED


class DeviceRecord(msgspec.Struct, frozen=True, rename="camel"):
    """One GPU. Identity is kept because nobody can ask the card while it is on vfio-pci."""

    uuid: str = ""
    model: str = ""
    memory_mib: int = 0
    vendor_id: str = ""
    device_id: str = ""
    class_id: str = ""
    seen_boot_id: str = ""
    """Boot in which it was last on the PCI bus."""
    desired_mode: Mode | None = None
    desired_plan_id: str = ""
    done_plan_id: str = ""
    mode: Mode | None = None
    """Last verified mode."""
    mode_since: float = 0.0
    move: RebindIntent | None = None
    failure: Failure | None = msgspec.field(default=None, name="trouble")
    note_reason: str = ""
    """Why the last change of mode happened outside a plan: recovered, restored after a reboot."""
    note_message: str = ""


class JournalState(msgspec.Struct, frozen=True, rename="camel"):
    version: int = VERSION
    boot_id: str = ""
    highest_epoch: int = 0
    devices: dict[str, DeviceRecord] = {}

    def device(self, address: PciAddress) -> DeviceRecord:
        return self.devices.get(address, DeviceRecord())


def void_by_reboot(state: JournalState, boot_id: str) -> JournalState:
    """The state as it holds for the boot `boot_id`: unchanged within the same one."""
    if state.boot_id == boot_id:
        return state
    devices = {
        address: replace(record, move=None, failure=None, note_reason="", note_message="")
        for address, record in state.devices.items()
    }
    return replace(state, boot_id=boot_id, devices=devices)


class Journal:
    """The file. `state` is always what is on disk: a save that fails raises and changes nothing."""

    def __init__(self, path: Path, write: Callable[[Path, bytes], None] | None = None) -> None:
        self._path = path
        self._write = write or replace_durably
        self.complaint = ""
        """Set when the file could not be read and was put aside."""
        self.rebooted = False
        """This is the first agent since the node came up."""
        self.state = JournalState()

    @staticmethod
    def peek(path: Path) -> JournalState:
        """What another process's journal says; empty where it cannot be read."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=JournalState)
        except (OSError, *DAMAGED):
            return JournalState()

    def load(self, boot_id: str) -> None:
        """Read the file for this boot. A damaged one is put aside under `.damaged`, not believed in part:
        the desired modes come back from the API server, only the epoch guard starts anew."""
        try:
            state = msgspec.json.decode(self._path.read_bytes(), type=JournalState)
            if state.version > VERSION:
                raise msgspec.ValidationError(f"version {state.version} was written by a newer agent")
        except FileNotFoundError:
            state = JournalState()
        except DAMAGED as error:
            aside = self._path.with_suffix(".damaged")
            self._path.replace(aside)
            self.complaint = f"the journal could not be read ({error}); it was moved to {aside}"
            state = JournalState()
        self.state = state
        self.rebooted = state.boot_id not in ("", boot_id)
        renewed = void_by_reboot(state, boot_id)
        if renewed != state:
            self.save(renewed)

    def save(self, state: JournalState) -> None:
        """Make `state` durable; nothing happens where it is what is there."""
        if state == self.state:
            return
        self._write(self._path, msgspec.json.format(msgspec.json.encode(state), indent=1))
        self.state = state

    def update(self, address: PciAddress, **changes: object) -> DeviceRecord:
        """Change fields of one device's record and save."""
        record: DeviceRecord = replace(self.state.device(address), **changes)
        self.save(replace(self.state, devices={**self.state.devices, address: record}))
        return record

    def forget(self, address: PciAddress) -> None:
        """Drop a card that is gone for good."""
        rest = {a: r for a, r in self.state.devices.items() if a != address}
        self.save(replace(self.state, devices=rest))

    def forget_epoch(self) -> None:
        """Of leaders whose writes an etcd backup has undone: the next one may count from lower."""
        self.save(replace(self.state, highest_epoch=0))

    def raise_epoch(self, epoch: int) -> None:
        """Remember the newest leader seen; an older one is refused from then on."""
        if epoch > self.state.highest_epoch:
            self.save(replace(self.state, highest_epoch=epoch))


def replace_durably(path: Path, content: bytes) -> None:
    """Write beside, fsync, rename over, fsync the folder: after a power cut it is the old or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
