"""One field of an object of a file takes another value; what would change nothing is refused."""

import re

import pytest

from poolmgr import wire
from poolmgr.cluster.edits import Edit, changed, parse_edit
from poolmgr.cluster.objects import READ, ObjectStore
from poolmgr.domain.errors import Rejected
from poolmgr.wire import kinds
from tests.unit.cluster.builders import gpu_node, node, pod, pool
from tests.unit.cluster.test_objects import NOW, with_kind

OURS = "poolmgr.io/v1alpha1"


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        (
            "gpupool/a10:spec.passthrough.headroom=2",
            Edit(kinds.GPU_POOLS, "", "a10", ("spec", "passthrough", "headroom"), 2),
        ),
        (
            r'po/ml/train:metadata.annotations.poolmgr\.io/best-effort="true"',
            Edit(kinds.PODS, "ml", "train", ("metadata", "annotations", "poolmgr.io/best-effort"), "true"),
        ),
        (
            "gpunodes.poolmgr.io/n1:status.devices[0].mode=Shared",
            Edit(kinds.GPU_NODES, "", "n1", ("status", "devices", 0, "mode"), "Shared"),
        ),
        (
            "StorageClass/fast:volumeBindingMode=null",
            Edit(kinds.STORAGE_CLASSES, "", "fast", ("volumeBindingMode",), None),
        ),
        ("vm/desk/ada:spec.running={a: b=c}", None),
    ],
)
def test_edit_is_read_as_kubectl_and_helm_write_such_things(text: str, edit: Edit | None) -> None:
    found = parse_edit(text, READ)
    if edit is None:
        assert found.value == {"a": "b=c"}
    else:
        assert found == edit


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a10:spec.x=1", "is not KIND/[NAMESPACE/]NAME:PATH=VALUE"),
        ("gpupool/a10:spec..x=1", "is not KIND/[NAMESPACE/]NAME:PATH=VALUE"),
        ("gpupool/a10:[0].x=1", "is not KIND/[NAMESPACE/]NAME:PATH=VALUE"),
        ("gpupool/a10:spec.x", "is not KIND/[NAMESPACE/]NAME:PATH=VALUE"),
        ("gpupool/a10:spec.x={", "'{' is no YAML value"),
        ("service/s:spec.x=1", "no decision looks at objects of kind 'service'"),
    ],
)
def test_what_is_no_edit_is_refused_with_its_form(text: str, said: str) -> None:
    with pytest.raises(Rejected, match=re.escape(said)):
        parse_edit(text, READ)


def store() -> ObjectStore:
    return ObjectStore(
        [
            with_kind("GPUPool", pool("a10"), OURS),
            with_kind("Node", node("n1")),
            with_kind("GPUNode", gpu_node("n1"), OURS),
            with_kind("Pod", pod("train", "ml")),
            with_kind("Pod", pod("train", "desk")),
        ],
        NOW,
    )


def test_field_is_set_with_the_maps_on_its_way_and_taken_away_again() -> None:
    objects = store()
    objects.set("gpupool/a10:spec.passthrough.headroom=2")
    objects.set("pod/ml/train:metadata.labels.tier=gold")
    assert objects.of(kinds.GPU_POOLS)[0]["spec"]["passthrough"]["headroom"] == 2
    tiers = {p["metadata"]["namespace"]: p["metadata"]["labels"].get("tier") for p in objects.of(kinds.PODS)}
    assert tiers == {"ml": "gold", "desk": None}
    objects.set("gpupool/a10:spec.passthrough.headroom=null")
    assert "headroom" not in objects.of(kinds.GPU_POOLS)[0]["spec"]["passthrough"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpupool/a11:spec.passthrough.max=1", "none of the gpupools in the objects have this name; there are: a10"),
        ("pod/train:spec.priority=1", "several of the pods in the objects have this name; there are: desk/train, ml/train"),
        ("gpupool/a10:spec.passthrough.headrom=1", "no decision looks at headrom; did you mean headroom?"),
        ("gpupool/a10:spec.passthrough.headroom=many", "cannot be read"),
        ("gpunode/n1:status.devices[7].mode=Shared", "status.devices has 1"),
        ("node/n1:metadata.name.x=1", "metadata.name is no map but 'n1'"),
        ("gpupool/a10:spec[0]=1", "spec is no list"),
    ],
)  # fmt: skip
def test_edit_that_cannot_be_made_or_would_change_nothing_is_refused(text: str, said: str) -> None:
    with pytest.raises(Rejected, match=re.escape(said)):
        store().set(text)


def test_document_that_was_edited_stays_as_it_was() -> None:
    before = with_kind("GPUPool", pool("a10"), OURS)
    edit = parse_edit("gpupool/a10:spec.shared.min=3", READ)
    after = changed(before, edit, wire.GpuPool)
    assert after["spec"]["shared"]["min"] == 3
    assert before == with_kind("GPUPool", pool("a10"), OURS)
