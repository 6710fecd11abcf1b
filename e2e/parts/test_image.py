"""Parts come out of a real registry's images, are what the digest says, and whatever is wrong is told."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from e2e.parts import PartMissing, PartRefused
from e2e.parts.builders import layer, lists, oci_layout
from e2e.parts.image import ARCHITECTURES
from e2e.parts.local_registry import LocalRegistry, RegistryMissing
from e2e.parts.reachable import unanswered
from e2e.parts.resolve import Resolver
from e2e.parts.source import State
from e2e.processes import free_port

pytestmark = pytest.mark.integration

TOOL = layer({"opt/bin/tool": "#!/bin/sh\necho hello\n", "opt/bin/helper": "helper"})
PARTS = """
[parts."tool-1/tool"]
version = "1"
image = { name = "tool", path = "opt/bin/tool" }
[parts."tool-1/helper"]
version = "1"
image = { name = "tool", path = "opt/bin/helper" }
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is missing: run tools/packages.sh parts")
    try:
        running = LocalRegistry(tmp_path_factory.mktemp("registry")).start()
    except RegistryMissing as missing:
        pytest.skip(str(missing))
    yield running
    running.process.stop()


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """One for each test: what one pushes is not what another finds."""
    return f"made/{request.node.name.partition('[')[0].replace('_', '-')}"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: LocalRegistry) -> None:
    monkeypatch.setenv("POOLMGR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POOLMGR_REGISTRY", f"http://{registry.host}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("POOLMGR_PARTS", raising=False)


def push(
    registry: LocalRegistry, folder: Path, repository: str, platforms: Mapping[str, Sequence[bytes]]
) -> str:
    return registry.push(oci_layout(folder, platforms), repository, "v1")


def tool(folder: Path, repository: str, *, digest: str = "", tag: str = "v1", parts: str = PARTS) -> Resolver:
    image = (
        f'registry = "published.example"\nrepository = "{repository}"\ntag = "{tag}"\ndigest = "{digest}"\n'
    )
    return lists(folder, parts, f"[images.tool]\n{image}")


def test_a_part_is_fetched_recorded_and_kept(
    registry: LocalRegistry, repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = push(registry, tmp_path / "image", repository, {"amd64": [TOOL]})
    found = tool(tmp_path, repository)
    left_by_a_killed_run = tmp_path / "cache/parts/fetching-x"
    left_by_a_killed_run.mkdir(parents=True)
    assert found.outlook("tool-1/tool").state is State.OBTAINABLE
    part = found.obtain("tool-1/tool")
    assert not left_by_a_killed_run.exists()
    assert subprocess.run([part.path], capture_output=True, text=True, check=True).stdout == "hello\n"
    assert part.origin == f"image published.example/{repository}:v1@{digest}, /opt/bin/tool"

    monkeypatch.setenv("POOLMGR_REGISTRY", "none")
    later = tool(tmp_path, repository)
    assert later.obtain("tool-1/tool") == part
    assert digest in later.outlook("tool-1/tool").where
    assert later.obtain("tool-1/helper").path.read_text() == "helper", (
        "one fetch serves all of an image's parts"
    )


def test_the_upper_layers_file_is_taken(registry: LocalRegistry, repository: str, tmp_path: Path) -> None:
    upper = layer({"opt/bin/.wh..wh..opq": "", "opt/bin/tool": "new", "opt/bin/helper": "new"})
    push(registry, tmp_path / "image", repository, {"amd64": [TOOL, upper]})
    assert tool(tmp_path, repository).obtain("tool-1/tool").path.read_text() == "new"


def test_of_an_index_this_machines_architecture_is_taken(
    registry: LocalRegistry, repository: str, tmp_path: Path
) -> None:
    platforms = {
        name: [layer({"opt/bin/tool": name, "opt/bin/helper": name})]
        for name in [*ARCHITECTURES.values(), "s390x"]
    }
    digest = push(registry, tmp_path / "image", repository, platforms)
    part = tool(tmp_path, repository, digest=digest).obtain("tool-1/tool")
    own = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    assert (part.path.read_text(), digest in part.origin) == (ARCHITECTURES[own], True)


def test_an_image_without_this_machines_architecture_is_missing(
    registry: LocalRegistry, repository: str, tmp_path: Path
) -> None:
    push(registry, tmp_path / "image", repository, {"s390x": [TOOL], "ppc64le": [TOOL]})
    with pytest.raises(PartMissing, match=r"no image found in .* for architecture"):
        tool(tmp_path, repository).obtain("tool-1/tool")


def test_a_pinned_image_is_taken_when_its_tag_has_moved_on(
    registry: LocalRegistry, repository: str, tmp_path: Path
) -> None:
    pinned = push(registry, tmp_path / "old", repository, {"amd64": [TOOL]})
    newer = layer({"opt/bin/tool": "newer", "opt/bin/helper": "newer"})
    assert push(registry, tmp_path / "new", repository, {"amd64": [newer]}) != pinned
    part = tool(tmp_path, repository, digest=pinned).obtain("tool-1/helper")
    assert (part.path.read_text(), pinned in part.origin) == ("helper", True)


def test_a_digest_that_the_registry_has_not_is_refused(
    registry: LocalRegistry, repository: str, tmp_path: Path
) -> None:
    digest = push(registry, tmp_path / "image", repository, {"amd64": [TOOL]})
    wrong = f"sha256:{'0' * 64}"
    with pytest.raises(PartRefused, match=f"has no {wrong}.*is {digest} there"):
        tool(tmp_path, repository, digest=wrong).obtain("tool-1/tool")


def test_a_changed_pin_makes_a_kept_part_stale(
    registry: LocalRegistry, repository: str, tmp_path: Path
) -> None:
    push(registry, tmp_path / "old", repository, {"amd64": [TOOL]})
    tool(tmp_path, repository).obtain("tool-1/tool")
    newer = layer({"opt/bin/tool": "newer", "opt/bin/helper": "newer"})
    digest = push(registry, tmp_path / "new", repository, {"amd64": [newer]})
    assert tool(tmp_path, repository).obtain("tool-1/tool").path.read_text() != "newer", (
        "an unpinned one is kept"
    )
    assert tool(tmp_path, repository, digest=digest).obtain("tool-1/tool").path.read_text() == "newer"


def test_a_layer_that_was_changed_in_the_registry_is_refused(
    registry: LocalRegistry, repository: str, tmp_path: Path
) -> None:
    content = layer({"opt/bin/tool": "honest", "opt/bin/helper": ""})
    layout = oci_layout(tmp_path / "image", {"amd64": [content]})
    registry.push(layout, repository, "v1")
    stored = next(path for path in registry.storage.rglob("data") if path.read_bytes() == content)
    stored.write_bytes(layer({"opt/bin/tool": "forged", "opt/bin/helper": ""}))
    with pytest.raises(PartRefused, match="not what its digest says"):
        tool(tmp_path, repository).obtain("tool-1/tool")


def test_a_path_that_the_image_has_not_is_refused_and_the_others_are_taken(
    registry: LocalRegistry, repository: str, tmp_path: Path
) -> None:
    push(registry, tmp_path / "image", repository, {"amd64": [TOOL]})
    found = tool(tmp_path, repository, parts=PARTS.replace("bin/helper", "bin/other"))
    assert found.obtain("tool-1/tool").path.exists()
    with pytest.raises(PartRefused, match="has no /opt/bin/other"):
        found.obtain("tool-1/helper")


def test_a_fetch_that_failed_is_not_tried_again(
    registry: LocalRegistry, repository: str, tmp_path: Path
) -> None:
    found = tool(tmp_path, repository)
    with pytest.raises(PartMissing, match="manifest unknown"):
        found.obtain("tool-1/tool")
    push(registry, tmp_path / "image", repository, {"amd64": [TOOL]})
    with pytest.raises(PartMissing, match="manifest unknown"):
        found.obtain("tool-1/helper")
    assert tool(tmp_path, repository).obtain("tool-1/helper").path.exists(), "another run tries anew"


def test_a_registry_that_is_switched_off_or_gone_is_told(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOLMGR_REGISTRY", "none")
    with pytest.raises(PartMissing, match="switched off"):
        tool(tmp_path, repository).obtain("tool-1/tool")
    monkeypatch.setenv("POOLMGR_REGISTRY", f"http://127.0.0.1:{free_port()}")
    outlook = tool(tmp_path, repository).outlook("tool-1/tool")
    assert outlook.state is State.MISSING
    assert "published.example" in outlook.passed[-1]
    assert "does not answer" in outlook.passed[-1]


def test_a_server_that_is_no_registry_is_told(registry: LocalRegistry) -> None:
    assert unanswered(f"http://{registry.host}/v2/", (200, 401)) is None
    assert "answers 404" in str(unanswered(f"http://{registry.host}/nothing", (200, 401)))
