"""The agent dies at every point of a move there and back, and something fails at every write.

A point is every effect the agent has on the world and every question it asks: before and after each write
to sysfs, to the journal, to the API server, each change of what is offered to the kubelet. After each
death a new agent starts on what is left. It must reach the wanted state, its status must tell what is
true, and on the way nothing of `FakeNode.violations` may have happened: unbound while held, given or
offered; offered while not on vfio-pci; touched while a write about it hangs.
"""

import errno
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from poolmgr.domain.modes import Mode, Step
from tests.fake_cluster_of_agent import AgentUnderTest
from tests.fake_node import Crash, FakeNode

A = "0000:00:04.0"
SOUND = "0000:00:04.1"
B = "0000:00:05.0"
THERE = {A: Mode.PASSTHROUGH, B: Mode.SHARED}
BACK = {A: Mode.SHARED, B: Mode.SHARED}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def build(folder: Path) -> AgentUnderTest:
    node = FakeNode(folder)
    node.add_device(A, group=9)
    node.add_device(SOUND, device="2222", pci_class="040300", group=9, host_driver="snd_hda_intel")
    node.add_device(B, group=10)
    return AgentUnderTest(node, {A: "GPU-a", B: "GPU-b"})


async def there(under: AgentUnderTest) -> None:
    """The manager's part of a move to passthrough: it goes on only when the status says so."""
    under.api.want(THERE, "there", step=Step.REBIND, moving=[A])
    await under.until(
        lambda: reported(under, A, "Passthrough", "there") and under.api.device(A)["advertised"]
    )
    under.api.want(THERE, "there")
    await under.passes(1)


async def back(under: AgentUnderTest) -> None:
    under.api.want(BACK, "back", step=Step.FENCE, moving=[A])
    await under.until(lambda: bool(under.api.body.get("status")) and not under.api.device(A)["advertised"])
    under.api.want(BACK, "back", step=Step.REBIND, moving=[A])
    await under.until(lambda: reported(under, A, "Shared", "back"))
    under.api.want(BACK, "back")
    await under.passes(1)


async def there_and_back(under: AgentUnderTest) -> None:
    await there(under)
    await back(under)


def reported(under: AgentUnderTest, address: str, mode: str, plan_id: str) -> bool:
    if not under.api.body.get("status"):
        return False
    gpu = under.api.device(address)
    return bool(gpu["mode"] == mode and gpu["phase"] == "Ready" and gpu["planId"] == plan_id)


def check_truth(under: AgentUnderTest) -> None:
    node = under.node
    assert node.violations == []
    for address in (A, B):
        gpu = under.api.device(address)
        assert gpu["driver"] == node.driver_of(address)
        assert gpu["advertised"] is (address in node.offered)
    assert node.driver_of(B) == "bochs-drm", "the other GPU was never touched"
    assert not any(B in write for write in node.writes)


async def points_of(folder: Path, story: Callable[[AgentUnderTest], Awaitable[None]]) -> range:
    """The points of an undisturbed story, those of the first start left out."""
    under = build(folder)
    first = under.node.tripwire.points + 1
    await story(under)
    check_truth(under)
    return range(first, under.node.tripwire.points + 1)


async def survive(
    under: AgentUnderTest, point: int, story: Callable[[AgentUnderTest], Awaitable[None]], *, reboot: bool
) -> None:
    under.node.tripwire.crash_at = point
    with pytest.raises(Crash):
        await story(under)
    if reboot:
        under.node.reboot()
    under.restart()
    await story(under)
    check_truth(under)


@pytest.mark.parametrize("reboot", [False, True], ids=["agent killed", "node rebooted"])
async def test_dying_anywhere_loses_no_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reboot: bool
) -> None:
    points = await points_of(tmp_path / "dry", there_and_back)
    for point in points:
        under = build(tmp_path / str(point))
        await survive(under, point, there_and_back, reboot=reboot)
    with capsys.disabled():
        how = "rebooted the node" if reboot else "killed the agent"
        say(f"\n{how} at each of {len(points)} points of a move there and back")
    assert len(points) > 80


async def test_after_dying_anywhere_the_spec_alone_brings_the_gpu_home(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No manager helps: the spec stays as it was at the moment of death, its transition included."""
    points = await points_of(tmp_path / "dry", there_and_back)
    for point in points:
        under = build(tmp_path / str(point))
        under.node.tripwire.crash_at = point
        with pytest.raises(Crash):
            await there_and_back(under)
        under.restart()
        await under.passes(4)
        check_truth(under)
        gpu = under.api.device(A)
        assert gpu["phase"] == "Ready", gpu
        transition = under.api.body["spec"].get("transition")
        wanted = under.api.body["spec"]["devices"][0]["mode"]
        if transition is None or transition["step"] == "Rebind":
            assert gpu["mode"] == wanted
            assert gpu["planId"] == under.api.body["spec"]["devices"][0]["planId"]
    with capsys.disabled():
        say(f"\nkilled the agent at each of {len(points)} points and left it alone with its spec")


async def test_dying_while_somebody_opens_the_gpu_takes_it_from_nobody(tmp_path: Path) -> None:
    points = await points_of(tmp_path / "dry", there)
    for point in points:
        under = build(tmp_path / str(point))
        under.node.tripwire.crash_at = point
        with pytest.raises(Crash):
            await there(under)
        held = {"bochs-drm": "/dev/dri/card4", "vfio-pci": "/dev/vfio/9"}.get(under.node.driver_of(A))
        if held is not None:
            under.node.start_process(held)
        before = under.node.driver_of(A)
        under.restart()
        await under.passes(4)
        assert under.node.violations == []
        if held is not None:
            assert under.node.driver_of(A) == before


@pytest.mark.parametrize("number", [errno.EIO, errno.EBUSY, errno.ENODEV])
async def test_any_one_write_may_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    dry = build(tmp_path / "dry")
    await there_and_back(dry)
    for write in range(1, len(dry.node.writes) + 1):
        under = build(tmp_path / str(write))
        under.node.faults.fail_write[write] = number
        await there_and_back(under)
        check_truth(under)
    with capsys.disabled():
        say(f"\nfailed each of {len(dry.node.writes)} writes to sysfs with {errno.errorcode[number]}")


async def test_any_one_write_may_hang(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dry = build(tmp_path / "dry")
    await there_and_back(dry)
    count = len(dry.node.writes)
    for write in range(1, count + 1):
        under = build(tmp_path / str(write))
        node = under.node
        node.faults.hang_write.add(write)
        under.api.want(THERE, "there", step=Step.REBIND, moving=[A])
        await under.passes(4)
        if not node.hung:
            under.api.want(BACK, "back", step=Step.FENCE, moving=[A])
            await under.passes(2)
            under.api.want(BACK, "back", step=Step.REBIND, moving=[A])
            await under.passes(4)
        assert node.hung, "the write that hangs was reached"
        assert node.violations == [], write
        stuck = under.api.device(A)
        assert (stuck["phase"], stuck["reason"]) == ("Quarantined", "UnbindTimedOut"), stuck
        assert stuck["advertised"] is False
        assert under.api.device(B)["phase"] == "Ready"
        written = len(node.writes)
        under.restart()
        await under.passes(4)
        assert len(node.writes) == written, "nothing more is tried"
        node.faults.hang_write.clear()
        node.reboot()
        under.restart()
        await there_and_back(under)
        check_truth(under)
    with capsys.disabled():
        say(f"\nhung each of {count} writes to sysfs, with a restart and a reboot after it")
