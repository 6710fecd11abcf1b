"""The chart itself: lints, renders in every variant, refuses wrong values, keeps to Pod Security."""

import json
from typing import Any

import pytest
import yaml

from e2e.controlplane.client import ApiError
from e2e.controlplane.plane import CommandFailed, ControlPlane
from poolmgr.agent.hook_node import parse_settings
from tests.integration.helm.installation import CHART, NAMESPACE, installation

pytestmark = pytest.mark.integration


def rendered(plane: ControlPlane, *values: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Objects by kind and name."""
    sets = [word for value in values for word in ("--set", value)]
    text = plane.helm("template", "poolmgr", str(CHART), "-n", NAMESPACE, *sets)
    return {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(text) if o}


def test_lints_without_a_complaint(control_plane: ControlPlane) -> None:
    assert "0 chart(s) failed" in control_plane.helm("lint", "--strict", str(CHART))


def test_the_default_has_every_part(control_plane: ControlPlane) -> None:
    kinds = {kind for kind, _ in rendered(control_plane)}
    assert kinds >= {"Deployment", "DaemonSet", "Service", "PodDisruptionBudget", "ValidatingAdmissionPolicy"}


def test_our_webhook_is_asked_before_hamis(control_plane: ControlPlane) -> None:
    names = [name for kind, name in rendered(control_plane) if kind == "MutatingWebhookConfiguration"]
    assert names == ["00-poolmgr"]
    assert sorted([*names, "hami-webhook"]) == [*names, "hami-webhook"]


def test_the_manager_tolerates_the_cordons_that_it_sets(control_plane: ControlPlane) -> None:
    pod = rendered(control_plane)["Deployment", "poolmgr-manager"]["spec"]["template"]["spec"]
    cordon = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}
    assert cordon in pod["tolerations"]


@pytest.mark.parametrize("component", ["manager", "webhook"])
def test_a_node_short_of_cpu_neither_restarts_a_slow_part_nor_forgets_it(
    control_plane: ControlPlane, component: str
) -> None:
    """With a second for each answer the webhook was restarted over and over beside four busy processes, and users were told
    nothing."""
    objects = rendered(control_plane, "webhook.timeoutSeconds=4")
    (container,) = objects["Deployment", f"poolmgr-{component}"]["spec"]["template"]["spec"]["containers"]
    alive, ready = container["livenessProbe"], container["readinessProbe"]
    assert alive["timeoutSeconds"] > ready["timeoutSeconds"] >= 4
    assert alive["failureThreshold"] * alive["periodSeconds"] >= 60
    if component == "webhook":
        assert ready["timeoutSeconds"] == 4, "what the API server waits"


def test_a_webhook_elsewhere_needs_no_deployment(control_plane: ControlPlane) -> None:
    objects = rendered(control_plane, "webhook.url=https://192.0.2.7:9443/")
    assert ("Deployment", "poolmgr-webhook") not in objects
    assert ("Service", "poolmgr-webhook") not in objects
    hook = objects["MutatingWebhookConfiguration", "00-poolmgr"]["webhooks"][0]
    assert hook["clientConfig"] == {"url": "https://192.0.2.7:9443/admit/pods"}


def test_cert_manager_can_make_the_certificate(control_plane: ControlPlane) -> None:
    objects = rendered(control_plane, "webhook.certificate.source=certManager")
    certificate = objects["Certificate", "poolmgr-webhook"]
    assert certificate["spec"]["dnsNames"] == ["poolmgr-webhook.poolmgr-system.svc"]
    annotations = objects["ValidatingWebhookConfiguration", "00-poolmgr"]["metadata"]["annotations"]
    assert annotations == {"cert-manager.io/inject-ca-from": "poolmgr-system/poolmgr-webhook"}
    assert ("Role", "poolmgr-webhook") not in objects
    settings = objects["ConfigMap", "poolmgr-webhook"]["data"]
    assert settings["POOLMGR_TLS_CERTIFICATE"] == "/tls/tls.crt"


def test_an_agent_for_a_node_without_a_registry_can_run_from_the_nodes_root(
    control_plane: ControlPlane,
) -> None:
    values = {
        "agent": {
            "image": "localhost/tiny:1",
            "command": [
                "/bin/busybox",
                "chroot",
                "/host",
                "python3",
                "-m",
                "poolmgr.cli.main",
                "agent",
                "run",
            ],
            "extraEnv": [{"name": "KUBECONFIG", "value": "/etc/agent.kubeconfig"}],
            "extraVolumes": [{"name": "root", "hostPath": {"path": "/"}}],
            "extraVolumeMounts": [{"name": "root", "mountPath": "/host"}],
        }
    }
    text = control_plane.helm(
        "template", "poolmgr", str(CHART), "-n", NAMESPACE, "-f", "-", stdin=json.dumps(values)
    )
    (agent,) = [o for o in yaml.safe_load_all(text) if o and o["kind"] == "DaemonSet"]
    container = agent["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "localhost/tiny:1"
    assert container["command"][:3] == ["/bin/busybox", "chroot", "/host"]
    assert "args" not in container
    assert {"name": "root", "mountPath": "/host"} in container["volumeMounts"]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("webhook.timeoutSeconds=30", "/webhook/timeoutSeconds"),
        ("webhook.hooks.pods.failurePolicy=Sometimes", "/webhook/hooks/pods/failurePolicy"),
        ("manager.replica=3", "replica"),
        ("webhook.unknownResources=Maybe", "/webhook/unknownResources"),
        ("webhook.url=http://plain", "/webhook/url"),
        ("agent.nodeSelector=gpu", "/agent/nodeSelector"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(
    control_plane: ControlPlane, value: str, complaint: str
) -> None:
    with pytest.raises(CommandFailed) as refused:
        rendered(control_plane, value)
    assert complaint in str(refused.value)


def test_manager_and_webhook_keep_to_restricted_pod_security_and_the_agent_cannot(
    control_plane: ControlPlane,
) -> None:
    control_plane.ensure_namespace("restricted", {"pod-security.kubernetes.io/enforce": "restricted"})
    objects = rendered(control_plane)

    def pod_of(kind: str, name: str) -> dict[str, Any]:
        template = objects[kind, name]["spec"]["template"]
        spec = template["spec"] | {"serviceAccountName": "default"}
        spec.pop("priorityClassName", None)
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "trial"}, "spec": spec}

    path = "/api/v1/namespaces/restricted/pods"
    for name in ("poolmgr-manager", "poolmgr-webhook"):
        control_plane.api.create(path, pod_of("Deployment", name), dryRun="All")
    with pytest.raises(ApiError, match="violates PodSecurity"):
        control_plane.api.create(path, pod_of("DaemonSet", "poolmgr-agent"), dryRun="All")


def test_installs_upgrades_and_leaves_pools_when_it_goes(control_plane: ControlPlane) -> None:
    with installation(control_plane, "defaultPool.enabled=true") as release:
        notes = control_plane.helm("get", "notes", "poolmgr", "-n", NAMESPACE)
        assert "kubectl describe gpupool default" in notes
        release.install("defaultPool.enabled=true", "manager.replicas=3")
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/poolmgr-manager"
        assert control_plane.api.get(path)["spec"]["replicas"] == 3
        control_plane.helm("uninstall", "poolmgr", "-n", NAMESPACE)
        assert control_plane.api.exists("/apis/poolmgr.io/v1alpha1/gpupools/default")
        release.install()


def test_network_policies_let_in_whom_the_values_name(control_plane: ControlPlane) -> None:
    assert not any(kind == "NetworkPolicy" for kind, _ in rendered(control_plane))
    peer = "networkPolicy.managerFrom[0].namespaceSelector.matchLabels.team=monitoring"
    objects = rendered(control_plane, "networkPolicy.enabled=true", peer)
    policies = {name: o["spec"] for (kind, name), o in objects.items() if kind == "NetworkPolicy"}
    assert {name: spec["ingress"] for name, spec in policies.items()} == {
        "poolmgr-manager": [
            {
                "ports": [{"port": "http", "protocol": "TCP"}],
                "from": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
            }
        ],
        "poolmgr-webhook": [{"ports": [{"port": "https", "protocol": "TCP"}]}],
        "poolmgr-agent": [],
    }
    for name, spec in policies.items():
        kind = "DaemonSet" if name == "poolmgr-agent" else "Deployment"
        labels = objects[kind, name]["spec"]["template"]["metadata"]["labels"]
        assert spec["podSelector"]["matchLabels"].items() <= labels.items()


def test_network_policies_without_peers_close_the_manager(control_plane: ControlPlane) -> None:
    objects = rendered(control_plane, "networkPolicy.enabled=true")
    assert objects["NetworkPolicy", "poolmgr-manager"]["spec"]["ingress"] == []


@pytest.mark.parametrize(
    ("values", "access"),
    [
        ((), None),
        (("manager.writeToken.existingSecret=t",), None),
        (("manager.access=open",), "open"),
        (("manager.access=kubernetes",), "kubernetes"),
    ],
)
def test_access_is_the_managers_to_choose_unless_it_is_set(
    control_plane: ControlPlane, values: tuple[str, ...], access: str | None
) -> None:
    settings = rendered(control_plane, *values)["ConfigMap", "poolmgr-manager"]["data"]
    assert settings.get("POOLMGR_API__ACCESS") == access


def test_no_role_of_the_chart_moves_gpus_for_those_who_merely_view(control_plane: ControlPlane) -> None:
    objects = rendered(control_plane)
    for (kind, name), role in objects.items():
        if (
            kind == "ClusterRole"
            and "rbac.authorization.k8s.io/aggregate-to-view" in role["metadata"]["labels"]
        ):
            verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
            assert verbs <= {"get", "list", "watch"}, name


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ((), {"context_memory": "measured", "context_bytes": "128Mi"}),
        (("agent.hook.settings.context_memory=off", "agent.hook.settings.burst_ms=5"),
         {"context_memory": "off", "context_bytes": "128Mi", "burst_ms": "5"}),
        (("agent.hook.settings.context_memory=null", "agent.hook.settings.context_bytes=null"), {}),
    ],
)  # fmt: skip
def test_the_agent_reads_the_hooks_settings_as_they_are_written(
    control_plane: ControlPlane, values: tuple[str, ...], settings: dict[str, str]
) -> None:
    agent = rendered(control_plane, "agent.hook.mode=Install", *values)["DaemonSet", "poolmgr-agent"]
    variables = agent["spec"]["template"]["spec"]["containers"][0]["env"]
    (text,) = (variable["value"] for variable in variables if variable["name"] == "POOLMGR_HOOK_SETTINGS")
    assert parse_settings(text) == settings
