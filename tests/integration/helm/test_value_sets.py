"""The chart with the values that people set: a real API server takes every object, strictly, and each value does what it says."""

import json
import re
from typing import Any

import pytest
import yaml

from e2e.controlplane.plane import CommandFailed, ControlPlane
from tests.integration.helm.installation import CHART, NAMESPACE
from tests.integration.helm.value_sets import INSTALLED, SETS, ValueSet, manager

pytestmark = pytest.mark.integration

Json = dict[str, Any]
OF_OTHERS = ("monitoring.coreos.com/v1", "cert-manager.io/v1", "gateway.networking.k8s.io/v1")
"""Kinds that this API server does not have."""


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:
    for crd in sorted((CHART / "crds").glob("*.yaml")):
        control_plane.apply(crd)
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=300s")
    for name in (NAMESPACE, "monitoring"):
        control_plane.ensure_namespace(name)
    if not control_plane.api.exists("/apis/scheduling.k8s.io/v1/priorityclasses/high"):
        control_plane.apply(
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": "high"},
                "value": 1000,
            }
        )
    return control_plane


def rendered(plane: ControlPlane, values: Json) -> list[Json]:
    text = plane.helm("template", "poolmgr", str(CHART), "-n", NAMESPACE, "-f", "-", stdin=json.dumps(values))
    return [o for o in yaml.safe_load_all(text) if o]


def at(document: Json, path: str) -> Any:
    """What is at a dotted path; None where nothing is."""
    inside: Any = document
    for word in re.split(r"(?<!\\)\.", path):
        step = word.replace("\\.", ".")
        if isinstance(inside, list):
            inside = inside[int(step)] if int(step) < len(inside) else None
        elif isinstance(inside, dict):
            inside = inside.get(step)
        else:
            return None
    return inside


def strictly(plane: ControlPlane, objects: list[Json]) -> None:
    """The API server checks them and keeps none."""
    known = [o for o in objects if o["apiVersion"] not in OF_OTHERS]
    for each in known:
        if each["kind"] == "Pod":  # its account is not there
            each["spec"]["serviceAccountName"] = "default"
    said = plane.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=yaml.safe_dump_all(known)
    )
    assert said.count("(server dry run)") == len(known), said


def test_there_are_forty() -> None:
    assert len(SETS) >= 40
    assert len(INSTALLED) == 8


@pytest.mark.parametrize("name", SETS)
def test_every_object_is_one_that_a_real_api_server_takes_and_each_value_does_what_it_says(
    plane: ControlPlane, name: str
) -> None:
    found: ValueSet = SETS[name]
    objects = rendered(plane, found.values)
    by_name = {f"{o['kind']}/{o['metadata']['name']}": o for o in objects}
    assert len(by_name) == len(objects), "two objects of one name"
    for place, wanted in found.expects.items():
        key, _, path = place.partition(":")
        document = by_name.get(key)
        if document is None:
            assert wanted is None, f"there is no {key}"
        else:
            assert path or wanted is not None, f"there is a {key}"
            assert at(document, path) == wanted, place
    strictly(plane, objects)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (manager(persistence={"enabled": True}), "set manager.replicas to 1"),
        (
            manager(replicas=1, persistence={"enabled": True}, ledger={"existingSecret": "x"}),
            "both say where the history is",
        ),
        (manager(ingress={"enabled": True}), "manager.ingress.hosts names no host"),
        (manager(httpRoute={"enabled": True}), "manager.httpRoute.parentRefs names no Gateway"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        (manager(service={"type": "ExternalName"}), "/manager/service/type"),
        ({"agent": {"kubeletDir": "kubelet"}}, "/agent/kubeletDir"),
        ({"agent": {"strategy": {}}}, "strategy"),
    ],
)
def test_values_that_do_not_go_together_are_refused(plane: ControlPlane, values: Json, said: str) -> None:
    with pytest.raises(CommandFailed) as refused:
        rendered(plane, values)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", INSTALLED)
def test_installs_and_goes_again(plane: ControlPlane, name: str) -> None:
    values = json.dumps(SETS[name].values)
    try:
        plane.helm("install", "poolmgr", str(CHART), "-n", NAMESPACE, "-f", "-", stdin=values)
    finally:
        plane.helm("uninstall", "poolmgr", "-n", NAMESPACE)
    left = plane.kubectl(
        "get",
        "deployments,daemonsets,services,clusterroles,validatingadmissionpolicies,mutatingwebhookconfigurations",
        "-A",
        "-l",
        "app.kubernetes.io/instance=poolmgr",
        "-o",
        "name",
    )
    assert left.strip() in ("", "No resources found")
    plane.kubectl("delete", "pvc", "--all", "-n", NAMESPACE, "--wait=false")
