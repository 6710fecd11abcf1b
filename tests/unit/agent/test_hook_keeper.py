"""libhook in an agent's rounds: kept in place, told in the status, never in the way."""

from pathlib import Path
from typing import Any

from poolmgr.agent.hook_install import HookPlace
from poolmgr.agent.hook_keeper import HookKeeper, HookMode
from poolmgr.agent.hook_node import REGION, ContainerLimits, container_hash
from poolmgr.domain.modes import Mode, Step
from tests.builders import library
from tests.fake_cluster_of_agent import AgentUnderTest
from tests.fake_node import FakeNode

A = "0000:00:04.0"
OURS = library()


def with_hook(tmp_path: Path, mode: HookMode) -> tuple[AgentUnderTest, HookPlace]:
    place = HookPlace(tmp_path / "image.so", tmp_path / "vgpu", tmp_path / "state/hook")
    place.library.write_bytes(OURS)
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
    await under.passes(1)
    condition = hook_condition(under)
    assert condition is not None and (condition["status"], condition["reason"]) == ("True", "HookInPlace")
    place.target.unlink()
    place.target.write_bytes(b"\x7fELF hami again")
    await under.passes(1)
    assert place.target.read_bytes() == OURS


async def test_by_default_the_library_is_hamis_business(tmp_path: Path) -> None:
    under, place = with_hook(tmp_path, HookMode.LEAVE)
    await under.passes(1)
    assert hook_condition(under) is None
    assert place.target.read_bytes() == b"\x7fELF hami"


async def test_is_taken_away_when_asked(tmp_path: Path) -> None:
    under, place = with_hook(tmp_path, HookMode.INSTALL)
    await under.passes(1)
    under.hook = HookKeeper(HookMode.REMOVE, place)
    under.restart()
    await under.passes(1)
    assert place.target.read_bytes() == b"\x7fELF hami"
    condition = hook_condition(under)
    assert condition is not None and condition["message"].startswith("not wanted")


async def test_an_image_without_libhook_is_reported_and_gpus_still_move(tmp_path: Path) -> None:
    under, place = with_hook(tmp_path, HookMode.INSTALL)
    place.library.unlink()
    under.api.want({A: Mode.PASSTHROUGH}, step=Step.REBIND, moving=[A])
    await under.passes(2)
    assert under.node.driver_of(A) == "vfio-pci"
    condition = hook_condition(under)
    assert condition is not None and condition["status"] == "False"
    assert "built without libhook" in condition["message"]


async def test_says_nothing_new_while_nothing_changes(tmp_path: Path) -> None:
    under, _ = with_hook(tmp_path, HookMode.INSTALL)
    await under.passes(2)
    before = under.api.patches
    await under.passes(5)
    assert under.api.patches == before


async def test_a_container_is_told_its_limits_in_the_round_after_it_began(tmp_path: Path) -> None:
    under, place = with_hook(tmp_path, HookMode.INSTALL)
    await under.passes(1)
    (place.folder / "containers" / "u1_work").mkdir(parents=True)
    under.api.limits = {"u1_work": ContainerLimits((3000, 2000), 30)}
    await under.passes(1)
    reported = place.folder / "license/limits" / f"{container_hash('u1_work')}.conf"
    assert reported.read_text() == "memory_limit.0 = 3000Mi\nmemory_limit.1 = 2000Mi\ncore_limit = 30\n"


async def test_what_containers_are_shown_goes_with_the_last_of_them(tmp_path: Path) -> None:
    under, place = with_hook(tmp_path, HookMode.INSTALL)
    region = place.folder / "containers/u1_work" / REGION
    region.parent.mkdir(parents=True)
    region.touch()
    await under.passes(1)
    under.hook = HookKeeper(HookMode.REMOVE, place)
    under.restart()
    await under.passes(1)
    assert (place.folder / "license/hook.conf").exists(), "its programs read it when they start"
    region.unlink()
    await under.passes(1)
    assert sorted(path.name for path in place.folder.iterdir()) == ["containers", "libvgpu.so"]
