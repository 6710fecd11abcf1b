"""The emulated node is a node: its kubelet is the control plane's, pods run on it, node programs find the API."""

import json

from e2e.node.builders import pod
from e2e.node.images import GUEST_ROOT, view
from e2e.node.kubelet import KUBERNETES_SERVICE, WAIT_FOR_TERM, KubeNode
from e2e.node.machine import PYTHON

NAMESPACE = "node-tests"


def test_the_kubelet_is_ready_and_says_what_it_runs_on(kube_node: KubeNode) -> None:
    info = kube_node.object()["status"]["nodeInfo"]
    assert kube_node.ready()
    assert info["kubeletVersion"] == "v1.36.3"
    assert info["bootID"] == kube_node.guest.boot_id()
    assert info["kernelVersion"] == kube_node.guest.run(["uname", "-r"]).out.strip()


def test_the_node_has_what_launcher_pods_ask_for(kube_node: KubeNode) -> None:
    assert kube_node.object()["metadata"]["labels"]["kubevirt.io/schedulable"] == "true"
    kube_node.plane.wait_for("the patched resources", lambda: kube_node.object()["status"]["allocatable"])
    assert kube_node.object()["status"]["allocatable"]["devices.kubevirt.io/kvm"] == "1k"


def test_an_ordinary_pod_is_scheduled_and_runs(kube_node: KubeNode) -> None:
    kube_node.plane.ensure_namespace(NAMESPACE)
    command = ["sh", "-c", f"echo hello from $(hostname); {WAIT_FOR_TERM}"]
    kube_node.plane.apply(pod("ordinary", NAMESPACE, command=command))
    found = kube_node.wait_for_pod(NAMESPACE, "ordinary")
    assert found["spec"]["nodeName"] == kube_node.name
    assert "hello from" in kube_node.pod_log(NAMESPACE, "ordinary")
    kube_node.plane.kubectl("delete", "pod", "-n", NAMESPACE, "ordinary", "--timeout=300s")


ASK_THE_API = """
import json, ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
context = ssl.create_default_context(cafile=folder + "ca.crt")
request = urllib.request.Request("https://%s:%d/version" % ADDRESS)
request.add_header("Authorization", "Bearer " + open(folder + "token").read())
print(json.load(urllib.request.urlopen(request, context=context))["gitVersion"])
"""


def test_a_pod_reaches_the_api_server_by_its_service_account(kube_node: KubeNode) -> None:
    """With Python of the checkout, from an image that only holds links into the node's root."""
    kube_node.plane.ensure_namespace(NAMESPACE)
    kube_node.load_images([view("localhost/view:1", ["/bin/sh", "-c", WAIT_FOR_TERM], {})])
    script = f"ADDRESS = {json.dumps(KUBERNETES_SERVICE)}\nADDRESS = tuple(ADDRESS)\n{ASK_THE_API}"
    kube_node.plane.apply(
        pod(
            "client",
            NAMESPACE,
            image="localhost/view:1",
            command=[f"{GUEST_ROOT}{PYTHON}", "-c", script],
            restartPolicy="Never",
        )
    )
    kube_node.wait_for_pod(NAMESPACE, "client", "Succeeded")
    assert kube_node.pod_log(NAMESPACE, "client").strip() == "v1.36.3"
    kube_node.plane.kubectl("delete", "pod", "-n", NAMESPACE, "client", "--timeout=300s")
