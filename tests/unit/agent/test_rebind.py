"""One GPU from one driver to the other: in which order, what stops it, and what is said of how it ended."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from poolmgr.agent.accelerators import load_catalogue
from poolmgr.agent.inventory import Accelerator
from poolmgr.agent.kernelwrite import WriteOutcome
from poolmgr.agent.rebind import PROBE_DEADLINE_SECONDS, UNBIND_DEADLINE_SECONDS, Rebinder, RebindResult
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.fleet import Holder
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import YIELDING_DAEMONS
from tests.fake_node import Device, FakeNode

GPU = PciAddress("0000:00:04.0")
SOUND = PciAddress("0000:00:04.1")
XORG = Holder(4711, "Xorg", path="/dev/dri/card4")


@dataclass
class Bench:
    """A node with one GPU and its sound function, and all that was asked while it was rebound, in order."""

    node: FakeNode
    holders: Callable[[int], tuple[Holder, ...]] = lambda look: ()
    """Who has the GPU open at the first look, the second, ..."""
    missing_drivers: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)
    deadlines: dict[str, float] = field(default_factory=dict)
    outcomes: dict[str, WriteOutcome] = field(default_factory=dict)
    """How a write ends, where it is not taken: `unbind 0000:00:04.0` and so on."""
    looks: int = 0
    kept_open: str = ""

    def rebinder(self) -> Rebinder:
        sysfs = Sysfs(self, self.node.sys)
        return Rebinder(
            sysfs, load_catalogue(["nvidia", "emulated"]), self, self, self._look, proc=self.node.proc
        )

    async def move(self, to: Mode) -> RebindResult:
        return await self.rebinder().rebind(GPU, to)

    def _look(self, gpu: Accelerator) -> tuple[Holder, ...]:
        self.looks += 1
        self.asked.append("holders")
        return self.holders(self.looks)

    async def ensure_loaded(self, driver: str) -> bool:
        self.asked.append(f"load {driver}")
        return driver not in self.missing_drivers

    def missing_message(self, driver: str) -> str:
        return f"there is no driver {driver}"

    async def quiesce(self, address: PciAddress) -> str:
        self.asked.append("quiesce")
        return self.kept_open

    async def resume(self, address: PciAddress) -> None:
        self.asked.append("resume")

    def prepare(self) -> None:
        self.asked.append("prepare")

    def in_flight(self) -> frozenset[PciAddress]:
        return self.node.in_flight()

    async def write(self, about: PciAddress, path: Path, text: str, deadline_seconds: float) -> WriteOutcome:
        what = f"{path.name} {about}" + (f" {text}" if path.name == "driver_override" else "")
        self.asked.append(what.strip())
        self.deadlines[path.name] = deadline_seconds
        if what.strip() in self.outcomes:
            return self.outcomes[what.strip()]
        return await self.node.write(about, path, text, deadline_seconds)

    def mode(self) -> str:
        return self.node.driver_of(GPU)


NVIDIA = {"vendor": "10de", "device": "2236", "pci_class": "030200", "host_driver": "nvidia"}


def bench(
    folder: Path,
    *,
    driver: str | None = None,
    vendor: str = "emulated",
    sound_driver: str = "snd_hda_intel",
    **more: object,
) -> Bench:
    """`sound_driver`: which driver the kernel gives the companion."""
    node = FakeNode(folder)
    node.add_device(GPU, group=9, driver=driver, **(NVIDIA if vendor == "nvidia" else {}))
    sound = "vfio-pci" if driver == "vfio-pci" else None
    node.add_device(
        SOUND,
        device="2222",
        pci_class="040300",
        group=9,
        host_driver=sound_driver,
        driver=sound,
    )
    return Bench(node, **more)  # type: ignore[arg-type]


async def test_the_way_to_passthrough_is_in_the_order_that_its_page_gives(tmp_path: Path) -> None:
    b = bench(tmp_path)
    result = await b.move(Mode.PASSTHROUGH)
    assert result == RebindResult(
        True, Reason.STEP_DONE, f"{GPU} is on vfio-pci and answers", Mode.PASSTHROUGH
    )
    assert b.asked == [
        "prepare", "load vfio-pci", "holders", "quiesce",
        f"driver_override {SOUND} vfio-pci", f"driver_override {GPU} vfio-pci",
        "holders", f"unbind {SOUND}", "holders", f"unbind {GPU}",
        f"drivers_probe {SOUND}", f"drivers_probe {GPU}",
    ]  # fmt: skip
    assert b.deadlines["unbind"] == UNBIND_DEADLINE_SECONDS == 60
    assert b.deadlines["drivers_probe"] == PROBE_DEADLINE_SECONDS == 120
    assert not b.node.violations


async def test_on_the_way_back_the_gpu_comes_first_and_no_reservation_stays(tmp_path: Path) -> None:
    b = bench(tmp_path, driver="vfio-pci")
    result = await b.move(Mode.SHARED)
    assert result.ok and result.mode is Mode.SHARED
    assert b.asked == [
        "prepare", "load bochs-drm", "holders",
        f"driver_override {SOUND}", f"driver_override {GPU} bochs-drm",
        "holders", f"unbind {SOUND}", "holders", f"unbind {GPU}",
        f"drivers_probe {GPU}", f"drivers_probe {SOUND}",
        f"driver_override {SOUND}", f"driver_override {GPU}", "resume",
    ]  # fmt: skip


async def test_what_is_right_already_is_not_touched_again(tmp_path: Path) -> None:
    b = bench(tmp_path, driver="vfio-pci")
    assert (await b.move(Mode.PASSTHROUGH)).ok
    assert not [a for a in b.asked if a.startswith(("unbind", "drivers_probe", "quiesce"))]


async def test_a_move_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    b = bench(tmp_path, driver="")
    result = await b.move(Mode.PASSTHROUGH)
    assert result.ok and result.mode is Mode.PASSTHROUGH
    assert "quiesce" not in b.asked and f"unbind {GPU}" not in b.asked, "nobody has a GPU on no driver"
    assert b.looks == 0, "and so nobody is looked for"


async def test_a_holder_at_the_first_look_stops_it_before_anything_is_touched(tmp_path: Path) -> None:
    b = bench(tmp_path, holders=lambda look: (XORG,))
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.mode) == (False, Reason.HOLDER_PRESENT, Mode.SHARED)
    assert "Xorg" in result.message
    assert b.node.writes == [] and b.asked == ["prepare", "load vfio-pci", "holders"]


async def test_a_holder_that_comes_before_the_unbind_stops_it_and_the_old_side_is_restored(
    tmp_path: Path,
) -> None:
    for arrives in (2, 3):
        b = bench(tmp_path / str(arrives), holders=lambda look, at=arrives: (XORG,) if look == at else ())
        result = await b.move(Mode.PASSTHROUGH)
        assert (result.ok, result.reason, result.mode) == (False, Reason.HOLDER_PRESENT, Mode.SHARED)
        assert result.message.endswith("; it is back on Shared")
        assert b.mode() == "bochs-drm" and b.node.driver_of(SOUND) == "snd_hda_intel"
        assert f"unbind {GPU}" not in b.asked
        assert b.asked[-1] == "resume", "the driver takes clients again"


async def test_a_driver_that_the_kernel_has_not_is_named(tmp_path: Path) -> None:
    b = bench(tmp_path, missing_drivers=frozenset({"vfio-pci"}))
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.mode) == (False, Reason.DRIVER_MISSING, Mode.SHARED)
    assert result.message == "there is no driver vfio-pci"
    assert b.node.writes == []


async def test_a_gpu_that_is_gone_is_reported_as_gone(tmp_path: Path) -> None:
    b = bench(tmp_path)
    b.node.remove_from_bus(GPU)
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.mode) == (False, Reason.DEVICE_GONE, None)


async def test_an_unbind_that_hangs_ends_it_for_good(tmp_path: Path) -> None:
    b = bench(tmp_path)
    b.node.faults.hang_unbind_of.add(GPU)
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.hung) == (False, Reason.UNBIND_TIMED_OUT, True)
    assert "within 60 s" in result.message
    assert b.asked[-1] == f"unbind {GPU}", "nothing that takes the device's lock comes after it"


async def test_an_unbind_that_the_kernel_refuses_is_undone(tmp_path: Path) -> None:
    b = bench(tmp_path, outcomes={f"unbind {GPU}": WriteOutcome(error_number=errno.EBUSY)})
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.hung) == (False, Reason.BIND_FAILED, False)
    assert f"unbinding {GPU}" in result.message and "back on Shared" in result.message
    assert b.node.driver_of(SOUND) == "snd_hda_intel"


async def test_a_reservation_that_fails_is_told_and_a_hung_one_ends_it(tmp_path: Path) -> None:
    reserving = f"driver_override {GPU} vfio-pci"
    b = bench(tmp_path / "fails", outcomes={reserving: WriteOutcome(error_number=errno.EINVAL)})
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.hung) == (False, Reason.BIND_FAILED, False)
    assert f"reserving {GPU}" in result.message
    b = bench(tmp_path / "hangs", outcomes={reserving: WriteOutcome(timed_out=True)})
    result = await b.move(Mode.PASSTHROUGH)
    assert result.hung and "back on" not in result.message


async def test_a_probe_that_hangs_ends_it_and_one_that_fails_is_judged_by_what_is_there(
    tmp_path: Path,
) -> None:
    probing = f"drivers_probe {GPU}"
    b = bench(tmp_path / "hangs", outcomes={probing: WriteOutcome(timed_out=True)})
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.hung, result.mode) == (False, Reason.BIND_FAILED, True, None)
    assert f"looking for a driver of {GPU}" in result.message
    b = bench(tmp_path / "fails")
    b.node.faults.probe_binds_nothing.add(f"{GPU} vfio-pci")
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.mode) == (False, Reason.BIND_FAILED, Mode.SHARED)
    assert "should be on vfio-pci but is on no driver" in result.message


async def test_a_companion_left_behind_fails_passthrough_and_not_sharing(tmp_path: Path) -> None:
    b = bench(tmp_path / "there")
    b.node.faults.probe_binds_nothing.add(f"{SOUND} vfio-pci")
    result = await b.move(Mode.PASSTHROUGH)
    assert not result.ok and f"{SOUND} should be on vfio-pci" in result.message
    b = bench(tmp_path / "back", driver="vfio-pci")
    b.node.faults.probe_binds_nothing.add(f"{SOUND} snd_hda_intel")
    assert (await b.move(Mode.SHARED)).ok, "a GPU serves containers without its sound"
    b = bench(tmp_path / "claimed", driver="vfio-pci", sound_driver="vfio-pci")
    assert (await b.move(Mode.SHARED)).ok, "as it does where vfio-pci claims every card of that sound's id"
    assert b.node.driver_of(SOUND) == "vfio-pci"


async def test_a_gpu_that_does_not_come_back_either_is_said_to_be_nowhere(tmp_path: Path) -> None:
    b = bench(tmp_path)
    b.node.faults.probe_binds_nothing |= {f"{GPU} vfio-pci", f"{GPU} bochs-drm"}
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.mode) == (False, Reason.BIND_FAILED, None)
    assert "going back failed, too" in result.message and "resume" not in b.asked


async def test_a_gpu_that_leaves_the_bus_on_its_way_is_gone(tmp_path: Path) -> None:
    b = bench(tmp_path)
    write = b.write

    async def lose(about: PciAddress, path: Path, text: str, deadline: float) -> WriteOutcome:
        outcome = await write(about, path, text, deadline)
        if path.name == "drivers_probe" and about == GPU:
            b.node.remove_from_bus(GPU)
        return outcome

    b.write = lose  # type: ignore[method-assign]
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.mode) == (False, Reason.DEVICE_GONE, None)


async def test_passthrough_needs_the_groups_device_file(tmp_path: Path) -> None:
    b = bench(tmp_path)
    tell = b.node.followers.append
    tell(lambda device: (b.node.sys / "class/vfio/9/dev").unlink(missing_ok=True))
    tell(lambda device: (b.node.sys / "class/vfio/9").exists() and (b.node.sys / "class/vfio/9").rmdir())
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason) == (False, Reason.VERIFY_FAILED)
    assert "/dev/vfio/9" in result.message


async def test_nothing_is_written_to_a_card_that_does_not_answer(tmp_path: Path) -> None:
    b = bench(tmp_path)
    (b.node.sys / f"bus/pci/devices/{GPU}/config").write_bytes(b"\xff" * 4)
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.mode) == (False, Reason.OFF_THE_BUS, Mode.SHARED)
    assert b.asked == ["prepare"]


async def test_a_card_that_falls_off_its_bus_on_the_way_is_left_where_it_is(tmp_path: Path) -> None:
    b = bench(tmp_path)

    def fall(device: Device) -> None:
        if device.address == GPU and device.driver == "vfio-pci":
            (b.node.sys / f"bus/pci/devices/{GPU}/config").write_bytes(b"\xff" * 4)
            b.asked.append("fell")

    b.node.followers.append(fall)
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.mode) == (False, Reason.OFF_THE_BUS, Mode.PASSTHROUGH)
    assert b.asked[-1] == "fell"


async def test_a_card_that_answers_as_another_is_not_called_ready(tmp_path: Path) -> None:
    b = bench(tmp_path)
    (b.node.sys / f"bus/pci/devices/{GPU}/config").write_bytes(b"\x86\x80")
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason) == (False, Reason.VERIFY_FAILED)
    assert "does not answer" in result.message


async def test_the_unbinds_deadline_is_the_operators(tmp_path: Path) -> None:
    b = bench(tmp_path)
    rebinder = Rebinder(
        Sysfs(b, b.node.sys), load_catalogue(["nvidia", "emulated"]), b, b, b._look, proc=b.node.proc,
        unbind_deadline_seconds=7.0,
    )  # fmt: skip
    assert (await rebinder.rebind(GPU, Mode.PASSTHROUGH)).ok
    assert b.deadlines["unbind"] == 7.0


async def test_a_gpu_whose_persistence_cannot_be_ended_stays(tmp_path: Path) -> None:
    b = bench(tmp_path, kept_open="persistence mode stays on", vendor="nvidia")
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.mode) == (False, Reason.KERNEL_HOLDS, Mode.SHARED)
    assert "persistence mode stays on; run nvidia-smi" in result.message
    assert not any(what.startswith("unbind") for what in b.asked)


async def test_a_vendor_without_nvml_has_no_persistence(tmp_path: Path) -> None:
    assert (await bench(tmp_path, kept_open="NVML has not answered").move(Mode.PASSTHROUGH)).ok


async def test_a_gpu_on_no_driver_has_no_side_to_go_back_to(tmp_path: Path) -> None:
    b = bench(tmp_path, driver="")
    b.node.faults.probe_binds_nothing.add(f"{GPU} vfio-pci")
    result = await b.move(Mode.PASSTHROUGH)
    assert (result.ok, result.mode) == (False, None) and "back" not in result.message
    assert f"driver_override {GPU} bochs-drm" not in b.asked


async def test_a_gpu_that_stays_on_its_driver_is_not_closed_to_its_clients(tmp_path: Path) -> None:
    b = bench(tmp_path)
    b.node._unbind(b.node.devices[SOUND])
    b.node._bind(b.node.devices[SOUND], "vfio-pci")
    assert (await b.move(Mode.SHARED)).ok
    assert f"unbind {SOUND}" in b.asked and "quiesce" not in b.asked


async def test_the_drivers_own_daemon_lets_go_when_it_is_asked_and_else_keeps_the_gpu(tmp_path: Path) -> None:
    daemon = Holder(77, YIELDING_DAEMONS[0], path="/dev/nvidia0")
    yields = bench(tmp_path / "a", vendor="nvidia", holders=lambda look: (daemon,) if look == 1 else ())
    assert (await yields.move(Mode.PASSTHROUGH)).ok
    assert yields.asked.index("quiesce") < yields.asked.index(f"unbind {GPU}")
    stays = bench(tmp_path / "b", vendor="nvidia", holders=lambda look: (daemon,))
    result = await stays.move(Mode.PASSTHROUGH)
    assert (result.ok, result.reason, result.mode) == (False, Reason.HOLDER_PRESENT, Mode.SHARED)
    assert not any(what.startswith("unbind") for what in stays.asked)
