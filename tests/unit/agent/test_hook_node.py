"""What containers are shown of their node: settings, limits, and each other's regions."""

import os
from pathlib import Path

import pytest

from poolmgr.agent.hook_node import (
    DEFAULT_SETTINGS,
    REGION,
    ContainerLimits,
    HookNode,
    container_hash,
    given_by_hami,
    parse_settings,
)
from poolmgr.domain.errors import Rejected
from poolmgr.wire.kube_pod import Container, Pod, PodAnnotations, PodMeta, PodSpec


def region(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "containers" / name / REGION
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"region")
    return path


def links(tmp_path: Path) -> set[int]:
    return {path.stat().st_ino for path in (tmp_path / "license/regions").iterdir()}


def test_settings_say_where_everything_is(tmp_path: Path) -> None:
    HookNode(tmp_path, {"context_memory": "measured"}).show()
    conf = tmp_path / "license/hook.conf"
    assert conf.read_text().splitlines()[1:] == [
        "context_memory = measured",
        f"region = {tmp_path}/poolmgr.cache",
        "activity = /tmp/license/regions",
        "limits = /tmp/license/limits",
    ]
    assert conf.stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "vgpuvalidator").is_file(), (
        "HAMi mounts it too, and a missing source stops the container"
    )


def test_each_region_is_one_link_that_comes_and_goes_with_its_container(tmp_path: Path) -> None:
    node = HookNode(tmp_path, DEFAULT_SETTINGS)
    first, second = region(tmp_path, "u1_a"), region(tmp_path, "u2_b")
    node.show()
    assert links(tmp_path) == {first.stat().st_ino, second.stat().st_ino}
    first.unlink()
    node.show()
    assert links(tmp_path) == {second.stat().st_ino}


def test_whatever_else_a_tenant_puts_there_is_not_shown(tmp_path: Path) -> None:
    node = HookNode(tmp_path, DEFAULT_SETTINGS)
    secret = tmp_path / "secret"
    secret.write_text("of the node")
    region(tmp_path, "link").unlink()
    (tmp_path / "containers/link" / REGION).symlink_to(secret)
    region(tmp_path, "fifo").unlink()
    os.mkfifo(tmp_path / "containers/fifo" / REGION)
    region(tmp_path, "setuid").chmod(0o4755)
    region(tmp_path, "other").rename(tmp_path / "containers/other/more.cache")
    node.show()
    assert links(tmp_path) == set()


def test_limits_are_written_once_and_forgotten_with_the_container(tmp_path: Path) -> None:
    node = HookNode(tmp_path, DEFAULT_SETTINGS)
    folder = region(tmp_path, "u1_a").parent
    node.show()
    assert node.unlimited()
    node.limit({"u1_a": ContainerLimits((100,), 10), "u9_z": ContainerLimits((1,), 1)})
    node.limit({"u1_a": ContainerLimits((900,), 90)})
    (reported,) = (tmp_path / "license/limits").iterdir()
    assert reported.read_text() == "memory_limit.0 = 100Mi\ncore_limit = 10\n"
    assert not node.unlimited()
    (folder / REGION).unlink()
    folder.rmdir()
    node.show()
    assert list((tmp_path / "license/limits").iterdir()) == []


def test_a_folder_that_no_pod_has_is_asked_about_a_few_times(tmp_path: Path) -> None:
    node = HookNode(tmp_path, DEFAULT_SETTINGS)
    region(tmp_path, "gone_a")
    assert [node.unlimited(tries=2) for _ in range(3)] == [True, True, False]
    region(tmp_path, "new_b")
    assert node.unlimited(tries=2)


def test_hamis_own_licence_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "license").write_text("paid for")
    with pytest.raises(Rejected, match="was not made by poolmgr"):
        HookNode(tmp_path, DEFAULT_SETTINGS).show()
    assert (tmp_path / "license").read_text() == "paid for"


def pod(annotation: str, *, init: int = 0, work: int = 1) -> Pod:
    spec = PodSpec(
        init_containers=tuple(Container(name=f"i{n}") for n in range(init)),
        containers=tuple(Container(name=f"c{n}") for n in range(work)),
    )
    return Pod(metadata=PodMeta(uid="u", annotations=PodAnnotations(allocated=annotation)), spec=spec)


ONE, TWO = "GPU-a,NVIDIA,3000,30:", "GPU-b,NVIDIA,2000,20:"


@pytest.mark.parametrize(
    ("of", "given"),
    [
        (pod(f"{ONE}{TWO};"), {"u_c0": ContainerLimits((3000, 2000), 30)}),
        (pod(f";{TWO};", work=2), {"u_c1": ContainerLimits((2000,), 20)}),
        (pod(f"{ONE};{TWO};", init=1), {"u_i0": ContainerLimits((3000,), 30), "u_c0": ContainerLimits((2000,), 20)}),
        (pod(f"{ONE};{TWO};", init=1, work=3), {}),
        (pod("GPU-a,NVIDIA,much,30:;"), {"u_c0": ContainerLimits((0,), 30)}),
        (pod("DCU-a,DCU,3000,30:;"), {}),
        (pod(""), {}),
    ],
)  # fmt: skip
def test_limits_are_what_hami_gave(of: Pod, given: dict[str, ContainerLimits]) -> None:
    assert given_by_hami(of) == given


def test_the_hash_is_the_hooks() -> None:
    """The published value of FNV-1a; libhook's unit tests have it too."""
    assert container_hash("foobar") == "85944171f73967e8"


@pytest.mark.parametrize("line", ["context_memory", "= measured", "a = b c", "a = b # why"])
def test_a_line_that_libhook_would_refuse_is_refused(line: str) -> None:
    with pytest.raises(Rejected, match="is no setting of libhook"):
        parse_settings(f"burst_ms = 5\n{line}\n")


def test_no_settings_are_none() -> None:
    assert parse_settings("# none\n") == {}
