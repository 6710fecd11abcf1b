"""The pages for the job: every manifest is one that a real API server takes, and every command does what it is there for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.controlplane.plane import CommandFailed, ControlPlane
from e2e.fixtures import running_control_plane
from tests.integration.helm.installation import CHART, DEVICE, MINIMAL_KUBEVIRT, NAMESPACE, Installation
from tests.integration.helm.page_commands import Step, begins, steps_of, why_not_here

pytestmark = pytest.mark.integration

PAGES = [
    "prepare-a-node.md",
    "first-workloads.md",
    "pools-and-limits.md",
    "migrate.md",
    "expose-the-page.md",
    "keep-the-history.md",
    "upgrade.md",
]
INSTALL = ("upgrade", "--install", "poolmgr", str(CHART), "-n", NAMESPACE)


def stand_in(group: str, version: str, kind: str, plural: str, scope: str) -> dict[str, object]:
    """A kind of somebody else's, without its schema."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in of a test"},
        },
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


OF_OTHERS = [
    *MINIMAL_KUBEVIRT,
    stand_in(
        "instancetype.kubevirt.io",
        "v1beta1",
        "VirtualMachineClusterInstancetype",
        "virtualmachineclusterinstancetypes",
        "Cluster",
    ),
    stand_in("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", "Namespaced"),
]
VMI = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachineInstance",
    "metadata": {"name": "desk-1", "namespace": "desktops"},
    "spec": {},
}


@pytest.fixture(scope="module")
def plane(artifacts: Path) -> Iterator[ControlPlane]:
    """With poolmgr and two GPU nodes, as a reader has them who begins with one of these pages."""
    for started in running_control_plane(artifacts / "pages"):
        started.apply(*OF_OTHERS)
        started.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=300s")
        for namespace in (NAMESPACE, "desktops", "ml"):
            started.ensure_namespace(namespace)
        started.apply(VMI)
        started.helm(*INSTALL)
        for node in ("gpu-1", "gpu-2"):
            labels = {"example.com/pool": "vm"}
            started.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": labels}})
            Installation(started).report(node, DEVICE)
        yield started


def run(plane: ControlPlane, words: list[str], folder: Path) -> None:
    """As a reader does in a checkout."""
    words = [str(CHART) if word == "helm/poolmgr" else word for word in words]
    words = [word.replace("helm/poolmgr/crds", str(CHART / "crds")) for word in words]
    if words[0] == "helm":
        if begins(words) == "helm package":
            words[words.index("--destination") + 1] = str(folder)
        plane.helm(*words[1:])
    elif words[0] == "kubectl":
        try:
            plane.kubectl(*words[1:])
        except CommandFailed as failed:
            if begins(words) != "kubectl create" or "AlreadyExists" not in str(failed):
                raise
    else:
        assert words[0] == "poolmgr", f"nobody knows how to run {words}"
        command = [sys.executable, "-m", "poolmgr.cli.main", *words[1:]]
        environment = os.environ | {"KUBECONFIG": str(plane.kubeconfig)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found_something = begins(words) == "poolmgr doctor" and done.returncode in (1, 2)
        assert done.returncode == 0 or found_something, (words, done.stdout, done.stderr)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_can_be_run_as_it_stands(
    plane: ControlPlane, page: str, tmp_path: Path
) -> None:
    steps: list[Step] = list(steps_of(page))
    assert steps
    ran = 0
    for step in steps:
        if step.language == "yaml":
            plane.kubectl("apply", "--validate=strict", "-f", "-", stdin=step.text)
            ran += 1
            continue
        assert step.language == "sh", f"a block of {step.language}"
        commands = step.commands()
        if any(words[0] == "helm" for words in commands):
            plane.helm(*INSTALL, "--reset-values")  # each block is one way of several
        for words in commands:
            if not why_not_here(words):
                run(plane, words, tmp_path)
                ran += 1
    assert ran >= len(steps) / 2
    plane.kubectl("delete", "gpupools", "--all")
