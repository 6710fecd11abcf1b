"""A cluster in which nothing stands in the way, for tests that break one thing of it."""

from typing import Any, TypeVar

from poolmgr import wire
from poolmgr.doctor.facts import Facts, Seen
from poolmgr.wire.admission import ClientConfig, Webhook, WebhookConfiguration
from poolmgr.wire.kubevirt_config import KubeVirt
from poolmgr.wire.lease import Lease
from tests.unit.cluster import builders as build

T = TypeVar("T")
NOW = build.CREATED_AT + 3_600
RELEASE = "0.1.0"
Json = dict[str, Any]


def seen(kind: type[T], *documents: Json) -> Seen[T]:
    return Seen(tuple(build.as_wire(document, kind) for document in documents))


def gpu_node(name: str = "gpu-1", conditions: dict[str, str] | None = None, **device: Any) -> Json:
    said = {"Ready": "True", "IOMMU": "True", "NVML": "True", "DevicePlugin": "True"} | (conditions or {})
    card = build.device("0000:3b:00.0", **{"vendorId": "10de", "deviceId": "2236", **device})
    document = build.gpu_node(name, [card])
    document["status"]["agentVersion"] = RELEASE
    document["status"]["conditions"] = [
        {"type": kind, "status": status, "reason": "R", "message": f"{kind} is {status}"}
        for kind, status in said.items()
    ]
    return document


def deployment(component: str, version: str = RELEASE) -> Json:
    labels = {
        "helm.sh/chart": f"poolmgr-{RELEASE}",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/version": version,
    }
    return {"metadata": {"name": f"poolmgr-{component}", "namespace": "poolmgr-system", "labels": labels}}


def plugin(selector: dict[str, str] | None = None) -> Json:
    found = build.plugin(node_selector={"gpu": "on"} if selector is None else selector)
    found["metadata"]["labels"] = {"app.kubernetes.io/component": "hami-device-plugin"}
    return found


def hami_scheduler(tag: str = "v2.10.0") -> Json:
    return build.scheduler(tag, labels={"app.kubernetes.io/component": "hami-scheduler"})


def daemon_set(name: str, image: str) -> Json:
    template = {"spec": {"containers": [{"name": "main", "image": image}]}}
    return {"metadata": {"name": name, "namespace": "gpu-operator"}, "spec": {"template": template}}


def kubevirt(*entries: Json, gates: tuple[str, ...] = ("HostDevices",), release: str = "v1.8.4") -> Json:
    return {
        "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
        "spec": {
            "configuration": {
                "permittedHostDevices": {"pciHostDevices": list(entries)},
                "developerConfiguration": {"featureGates": list(gates)},
            }
        },
        "status": {"observedKubeVirtVersion": release},
    }


ENTRY = {"pciVendorSelector": "10DE:2236", "resourceName": build.A10, "externalResourceProvider": True}


def webhooks(ours: str = "00-poolmgr", bundle: str = "Q0E=") -> Seen[WebhookConfiguration]:
    def configuration(name: str, hook: str, authority: str) -> WebhookConfiguration:
        return WebhookConfiguration(wire.ObjectMeta(name=name), (Webhook(hook, ClientConfig(authority)),))

    return Seen(
        (
            configuration("hami-webhook", "vgpu.hami.io", "Q0E="),
            configuration(ours, "pods.poolmgr.io", bundle),
        )
    )


def lease(**spec: Any) -> Json:
    said = {"holderIdentity": "poolmgr-manager-7c9d_0a1b2c3d", "renewTime": "2026-11-22T10:59:57.000000Z"}
    return {"metadata": {"name": "poolmgr-manager"}, "spec": said | spec}


def heartbeat(renewed: str = "2026-11-22T10:59:50.000000Z", node: str = "gpu-1") -> Json:
    return {"metadata": {"name": f"poolmgr-agent-{node}"}, "spec": {"renewTime": renewed}}


def well(**over: Any) -> Facts:
    """Every kind as it should be, but for what a test puts in its place."""
    return Facts(
        **{
            "now": NOW,
            "client_version": RELEASE,
            "pools": seen(wire.GpuPool, build.pool()),
            "gpu_nodes": seen(wire.GpuNode, gpu_node()),
            "nodes": seen(wire.Node, build.node("gpu-1", labels={"nvidia.com/gpu.present": "true"})),
            "leases": seen(Lease, lease()),
            "heartbeats": seen(Lease, heartbeat()),
            "daemon_sets": seen(wire.DaemonSet, plugin()),
            "deployments": seen(
                wire.Deployment, deployment("manager"), deployment("webhook"), hami_scheduler()
            ),
            "hami_configs": seen(
                wire.ConfigMap,
                {"metadata": {"name": "hami-scheduler-device", "namespace": "hami"}, "data": {}},
            ),
            "mutating": webhooks(),
            "kubevirts": seen(KubeVirt, kubevirt(ENTRY)),
            "hyperconvergeds": Seen(absent=True),
            "cluster_policies": Seen(absent=True),
            **over,
        }
    )
