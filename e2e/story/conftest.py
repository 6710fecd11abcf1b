"""The story's stage, built in front of the reader: each real part is started, timed and named."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.controlplane.hami import Hami
from e2e.controlplane.kubevirt import KubeVirt
from e2e.controlplane.plane import ControlPlane
from e2e.hami import edition
from e2e.node.hami_plugin import HamiPlugin
from e2e.node.kubelet import KubeNode
from e2e.node.poolmgr_release import Poolmgr
from e2e.story.acts import Acts
from e2e.story.in_shape import InShape
from e2e.story.narrative import Narrative
from e2e.story.onlooker import Onlooker
from e2e.story.stage import Stage, driver_links, versions
from e2e.story.workloads import NAMESPACE, VM_RESOURCE, VM_SELECTOR
from tools.image.build import Built

FAKE_NODES = ("office-1", "office-2")

_BROKEN = pytest.StashKey[str]()
_FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def narrative(artifacts: Path, pytestconfig: pytest.Config) -> Iterator[Narrative]:
    """The log: on the terminal while it happens, whatever pytest captures, and in `story.log`."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    uncaptured = capture.global_and_fixture_disabled if capture else contextlib.nullcontext
    story = Narrative(artifacts / "story.log", uncaptured=uncaptured)
    yield story
    story.say("story", f"was on {edition.ran_on() or 'no HAMi'}; this log: {story.path}")
    story.close()


@pytest.fixture(scope="session")
def onlooker(control_plane: ControlPlane, narrative: Narrative) -> Iterator[Onlooker]:
    with Onlooker(control_plane, narrative) as watching:
        yield watching
    narrative.say("onlooker", f"looked {watching.looks} times; violations: {watching.violations or 'none'}")


@pytest.fixture(scope="session")
def stage(narrative: Narrative, onlooker: Onlooker, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Control plane, HAMi, KubeVirt, the real node, and poolmgr by its chart; both GPUs with HAMi."""
    narrative.title("poolmgr: the main job", {})
    with narrative.timed("cluster", "poolmgr's image, from this tree"):
        image: Built = request.getfixturevalue("image")
    with narrative.timed("cluster", "etcd, API server, controller manager, scheduler, two KWOK nodes"):
        plane: ControlPlane = request.getfixturevalue("kwok")
        for name in FAKE_NODES:
            plane.add_fake_node(name)
    with narrative.timed("cluster", "HAMi: scheduler and webhook"):
        hami: Hami = request.getfixturevalue("hami")
    with narrative.timed("cluster", "KubeVirt: virt-controller"):
        kubevirt: KubeVirt = request.getfixturevalue("kubevirt")
        kubevirt.permit({VM_SELECTOR: VM_RESOURCE})
    with narrative.timed("cluster", "the real node: Linux under QEMU, containerd, kubelet"):
        node: KubeNode = request.getfixturevalue("kube_node")
    narrative.title("versions", versions(plane, hami, node.guest, image))
    plane.ensure_namespace(NAMESPACE)
    with narrative.timed("cluster", "HAMi's device plugin has registered both GPUs with the real kubelet"):
        plugin: HamiPlugin = request.getfixturevalue("hami_plugin")
        plugin.label(on=True)
        plugin.wait_registered(2)
    poolmgr = Poolmgr(node, image)
    with narrative.timed("cluster", "poolmgr is installed by its chart from that image"):
        narrative.quote("admin", f"$ helm install poolmgr helm/poolmgr\n{poolmgr.install()}")
        for component in ("webhook", "manager", "agent"):
            poolmgr.wait_ready(component)
    narrative.say("sysfs", driver_links(node.guest))
    yield Stage(plane, hami, node, poolmgr, poolmgr.admin_kubeconfig(), narrative)
    poolmgr.uninstall()
    plugin.label(on=False)
    for name in FAKE_NODES:
        plane.api.delete(f"/api/v1/nodes/{name}")


@pytest.fixture(scope="session")
def acts(stage: Stage) -> Acts:
    """One for the whole story: it remembers which pods must stay as they are."""
    return Acts(stage)


@pytest.fixture(scope="session")
def in_shape(
    acts: Acts, hami_plugin: HamiPlugin, kubevirt: KubeVirt, request: pytest.FixtureRequest
) -> InShape:
    """The stage in NVIDIA's shape, for the rest of the session; nothing that ran there before runs on."""
    if broken := request.session.stash.get(_BROKEN, ""):
        pytest.skip(f"the story ended in {broken}")
    acts.narrative.title("poolmgr: what is in use stays", {})
    laid = InShape(acts, hami_plugin, kubevirt)
    with acts.narrative.timed(
        "cluster", "the node is in NVIDIA's shape, and everybody has looked at it anew"
    ):
        laid.lay()
    return laid


@pytest.fixture
def story(acts: Acts, onlooker: Onlooker, request: pytest.FixtureRequest) -> Iterator[Acts]:
    """The stage with verbs, if every earlier chapter came to its end; nothing forbidden may have been seen."""
    if broken := request.session.stash.get(_BROKEN, ""):
        pytest.skip(f"the story ended in {broken}")
    request.session.stash[_BROKEN] = request.node.name
    yield acts
    assert onlooker.violations == []
    if not request.node.stash.get(_FAILED, True):
        request.session.stash[_BROKEN] = ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Lets `story` know how its chapter went."""
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report
