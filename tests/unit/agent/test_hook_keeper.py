"""libhook in an agent's rounds: kept in place, told in the status, never in the way."""

from pathlib import Path
from typing import Any

from poolmgr.agent.hook_install import HookPlace
from poolmgr.agent.hook_keeper import HookKeeper, HookMode
from poolmgr.domain.modes import Mode, Step
from tests.fake_cluster_of_agent import AgentUnderTest
from tests.fake_node import FakeNode

A = "0000:00:04.0"


def with_hook(tmp_path: Path, mode: HookMode) -> tuple[AgentUnderTest, HookPlace]:
    place = HookPlace(tmp_path / "image.so", tmp_path / "vgpu", tmp_path / "state/hook")
    place.library.write_bytes(b"\x7fELF ours")
    place.folder.mkdir()
    place.target.write_bytes(b"\x7fELF hami")
    node = FakeNode(tmp_path)
    node.add_device(A, numa=0)
    under = AgentUnderTest(node, {A: "GPU-a"})
    under.hook = HookKeeper(mode, place)
    under.restart()
    return under, place


def hook_condition(under: AgentUnderTest) -> dict[str, Any] | None:
    conditions = under.api.body["status"]["conditions"]
    return next((c for c in conditions if c["type"] == "Hook"), None)


async def test_installs_keeps_and_reports(tmp_path: Path) -> None:
    under, place = with_hook(tmp_path, HookMode.INSTALL)
    await under.rounds(1)
    condition = hook_condition(under)
    assert condition is not None and (condition["status"], condition["reason"]) == ("True", "HookInPlace")
    place.target.unlink()
    place.target.write_bytes(b"\x7fELF hami again")
    await under.rounds(1)
    assert place.target.read_bytes() == b"\x7fELF ours"


async def test_by_default_the_library_is_hamis_business(tmp_path: Path) -> None:
    under, place = with_hook(tmp_path, HookMode.LEAVE)
    await under.rounds(1)
    assert hook_condition(under) is None
    assert place.target.read_bytes() == b"\x7fELF hami"


async def test_is_taken_away_when_asked(tmp_path: Path) -> None:
    under, place = with_hook(tmp_path, HookMode.INSTALL)
    await under.rounds(1)
    under.hook = HookKeeper(HookMode.REMOVE, place)
    under.restart()
    await under.rounds(1)
    assert place.target.read_bytes() == b"\x7fELF hami"
    condition = hook_condition(under)
    assert condition is not None and condition["message"].startswith("not wanted")


async def test_an_image_without_libhook_is_reported_and_gpus_still_move(tmp_path: Path) -> None:
    under, place = with_hook(tmp_path, HookMode.INSTALL)
    place.library.unlink()
    under.api.want({A: Mode.PASSTHROUGH}, step=Step.REBIND, moving=[A])
    await under.rounds(2)
    assert under.node.driver_of(A) == "vfio-pci"
    condition = hook_condition(under)
    assert condition is not None and condition["status"] == "False"
    assert "built without libhook" in condition["message"]


async def test_says_nothing_new_while_nothing_changes(tmp_path: Path) -> None:
    under, _ = with_hook(tmp_path, HookMode.INSTALL)
    await under.rounds(2)
    before = under.api.patches
    await under.rounds(5)
    assert under.api.patches == before
