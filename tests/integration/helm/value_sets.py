"""Values that people set, with what each set changes in the rendered objects."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
DIGEST = "sha256:" + "0a" * 32
POD = "spec.template.spec"
META = "spec.template.metadata"
MANAGER, WEBHOOK, AGENT = (
    "Deployment/poolmgr-manager",
    "Deployment/poolmgr-webhook",
    "DaemonSet/poolmgr-agent",
)
ACCOUNT = {"create": False, "name": "ours"}
TOLERATION = {"key": "gpu", "operator": "Exists"}
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]
        }
    }
}
SPREAD = {
    "maxSkew": 2,
    "topologyKey": "topology.kubernetes.io/zone",
    "whenUnsatisfiable": "ScheduleAnyway",
    "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "manager"}},
}
AUTHORITY = {"name": "authority", "secret": {"secretName": "database-ca"}}
AUTHORITY_MOUNT = {"name": "authority", "mountPath": "/authority", "readOnly": True}
RELABELING = {"action": "replace", "targetLabel": "cluster", "replacement": "lab"}


@dataclass(frozen=True)
class ValueSet:
    values: Json
    expects: dict[str, Any] = field(default_factory=dict)
    """`KIND/NAME:PATH` → what is there; None: the object or field is not."""


def manager(**values: Any) -> Json:
    return {"manager": values}


SETS: dict[str, ValueSet] = {
    "nothing": ValueSet(
        {},
        {
            f"{MANAGER}:spec.replicas": 2,
            f"{WEBHOOK}:spec.strategy.rollingUpdate.maxUnavailable": 0,
            f"{AGENT}:{POD}.containers.0.args": ["agent", "run"],
            "Ingress/poolmgr-manager": None,
        },
    ),
    "image by digest": ValueSet(
        {"image": {"registry": "registry.example.com/", "repository": "gpu/poolmgr", "digest": DIGEST}},
        {f"{AGENT}:{POD}.containers.0.image": f"registry.example.com/gpu/poolmgr@{DIGEST}"},
    ),
    "image by tag": ValueSet(
        {"image": {"tag": "0.1.1", "pullPolicy": "Always"}},
        {
            f"{MANAGER}:{POD}.containers.0.image": "poolmgr:0.1.1",
            f"{WEBHOOK}:{POD}.containers.0.imagePullPolicy": "Always",
        },
    ),
    "registry of the whole installation": ValueSet(
        {"global": {"imageRegistry": "mirror.example.com", "imagePullSecrets": [{"name": "mirror"}]}},
        {
            f"{WEBHOOK}:{POD}.containers.0.image": "mirror.example.com/poolmgr:0.1.0",
            f"{WEBHOOK}:{POD}.imagePullSecrets": [{"name": "mirror"}],
            "Pod/poolmgr-test:spec.imagePullSecrets": [{"name": "mirror"}],
        },
    ),
    "pull secrets": ValueSet(
        {"imagePullSecrets": [{"name": "own"}]}, {f"{AGENT}:{POD}.imagePullSecrets": [{"name": "own"}]}
    ),
    "another name": ValueSet(
        {"fullnameOverride": "gpus"},
        {
            "Deployment/gpus-manager:spec.selector.matchLabels.app\\.kubernetes\\.io/name": "poolmgr",
            "ServiceAccount/gpus-agent:metadata.namespace": "poolmgr-system",
            "ClusterRoleBinding/gpus-manager:subjects.0.name": "gpus-manager",
            MANAGER: None,
        },
    ),
    "another name and label": ValueSet(
        {"nameOverride": "gpus"},
        {"Deployment/gpus-manager:spec.selector.matchLabels.app\\.kubernetes\\.io/name": "gpus"},
    ),
    "labels for everything": ValueSet(
        {"commonLabels": {"team": "platform"}}, {"Service/poolmgr-webhook:metadata.labels.team": "platform"}
    ),
    "labels and annotations of pods": ValueSet(
        {
            part: {"podLabels": {"team": "platform"}, "podAnnotations": {"example.com/log": "json"}}
            for part in ("manager", "webhook", "agent")
        },
        {
            f"{MANAGER}:{META}.labels.team": "platform",
            f"{WEBHOOK}:{META}.annotations.example\\.com/log": "json",
            f"{AGENT}:{META}.annotations.example\\.com/log": "json",
            f"{AGENT}:spec.selector.matchLabels.team": None,
        },
    ),
    "accounts that exist": ValueSet(
        {part: {"serviceAccount": ACCOUNT} for part in ("manager", "webhook", "agent")},
        {
            f"{MANAGER}:{POD}.serviceAccountName": "ours",
            "ServiceAccount/poolmgr-manager": None,
            "ServiceAccount/ours": None,
            "RoleBinding/poolmgr-webhook:subjects.0.name": "ours",
        },
    ),
    "accounts with annotations": ValueSet(
        manager(serviceAccount={"annotations": {"example.com/role": "reader"}}),
        {"ServiceAccount/poolmgr-manager:metadata.annotations.example\\.com/role": "reader"},
    ),
    "no roles": ValueSet(
        {"rbac": {"create": False}},
        {"ClusterRole/poolmgr-manager": None, "ServiceAccount/poolmgr-manager:kind": "ServiceAccount"},
    ),
    "one manager": ValueSet(
        manager(replicas=1, podDisruptionBudget=False), {"PodDisruptionBudget/poolmgr-manager": None}
    ),
    "history on a volume": ValueSet(
        manager(replicas=1, persistence={"enabled": True, "size": "5Gi", "storageClassName": "fast"}),
        {
            "PersistentVolumeClaim/poolmgr-manager:spec.resources.requests.storage": "5Gi",
            "PersistentVolumeClaim/poolmgr-manager:metadata.annotations.helm\\.sh/resource-policy": "keep",
            f"{MANAGER}:spec.strategy.type": "Recreate",
            f"{MANAGER}:{POD}.volumes.0.persistentVolumeClaim.claimName": "poolmgr-manager",
        },
    ),
    "history on a volume that exists": ValueSet(
        manager(replicas=1, persistence={"enabled": True, "existingClaim": "ours"}),
        {
            "PersistentVolumeClaim/poolmgr-manager": None,
            f"{MANAGER}:{POD}.volumes.0.persistentVolumeClaim.claimName": "ours",
        },
    ),
    "history in a database with an authority of its own": ValueSet(
        manager(
            ledger={"existingSecret": "ledger"},
            extraVolumes=[AUTHORITY],
            extraVolumeMounts=[AUTHORITY_MOUNT],
        ),
        {
            f"{MANAGER}:{POD}.containers.0.env.1.valueFrom.secretKeyRef.name": "ledger",
            f"{MANAGER}:{POD}.volumes.2": AUTHORITY,
            f"{MANAGER}:{POD}.containers.0.volumeMounts.2": AUTHORITY_MOUNT,
        },
    ),
    "another port, followed by probes and Service": ValueSet(
        manager(settings={"POOLMGR_API__PORT": 9000}, service={"port": 8443}),
        {
            f"{MANAGER}:{POD}.containers.0.ports.0.containerPort": 9000,
            f"{MANAGER}:{POD}.containers.0.readinessProbe.httpGet.port": "http",
            "Service/poolmgr-manager:spec.ports.0.targetPort": "http",
            "Service/poolmgr-manager:spec.ports.0.port": 8443,
            "ConfigMap/poolmgr-manager:data.POOLMGR_API__PORT": "9000",
        },
    ),
    "a load balancer": ValueSet(
        manager(service={"type": "LoadBalancer", "annotations": {"example.com/internal": "true"}}),
        {
            "Service/poolmgr-manager:spec.type": "LoadBalancer",
            "Service/poolmgr-manager:metadata.annotations.example\\.com/internal": "true",
        },
    ),
    "an Ingress": ValueSet(
        manager(
            ingress={
                "enabled": True,
                "className": "nginx",
                "annotations": {"example.com/login": "sso"},
                "hosts": ["gpus.example.com"],
                "tls": [{"secretName": "gpus-tls", "hosts": ["gpus.example.com"]}],
            }
        ),
        {
            "Ingress/poolmgr-manager:spec.rules.0.host": "gpus.example.com",
            "Ingress/poolmgr-manager:spec.ingressClassName": "nginx",
            "Ingress/poolmgr-manager:spec.tls.0.secretName": "gpus-tls",
        },
    ),
    "an HTTPRoute": ValueSet(
        manager(
            httpRoute={
                "enabled": True,
                "parentRefs": [{"name": "public"}],
                "hostnames": ["gpus.example.com"],
            }
        ),
        {
            "HTTPRoute/poolmgr-manager:spec.parentRefs.0.name": "public",
            "HTTPRoute/poolmgr-manager:spec.rules.0.backendRefs.0.port": 80,
            "Ingress/poolmgr-manager": None,
        },
    ),
    "manager on certain nodes": ValueSet(
        manager(
            nodeSelector={"role": "infra"},
            tolerations=[TOLERATION],
            affinity=AFFINITY,
            topologySpreadConstraints=[SPREAD],
            strategy={"type": "Recreate"},
            priorityClassName="high",
        ),
        {
            f"{MANAGER}:{POD}.topologySpreadConstraints": [SPREAD],
            f"{MANAGER}:spec.strategy": {"type": "Recreate"},
            f"{MANAGER}:{POD}.nodeSelector": {"role": "infra"},
        },
    ),
    "webhook on certain nodes": ValueSet(
        {"webhook": {"affinity": AFFINITY, "topologySpreadConstraints": [SPREAD], "replicas": 3}},
        {f"{WEBHOOK}:spec.replicas": 3, f"{WEBHOOK}:{POD}.affinity": AFFINITY},
    ),
    "agent on certain nodes": ValueSet(
        {"agent": {"nodeSelector": {"example.com/gpu": "true"}, "affinity": AFFINITY}},
        {f"{AGENT}:{POD}.affinity": AFFINITY},
    ),
    "a kubelet elsewhere": ValueSet(
        {"agent": {"kubeletDir": "/var/lib/k0s/kubelet/"}},
        {
            f"{AGENT}:{POD}.volumes.4.hostPath.path": "/var/lib/k0s/kubelet/device-plugins",
            f"{AGENT}:{POD}.containers.0.volumeMounts.4.mountPath": "/var/lib/kubelet/device-plugins",
        },
    ),
    "the GPU operator's driver": ValueSet(
        {"agent": {"driverRoot": "/run/nvidia/driver", "runtimeClassName": "nvidia"}},
        {f"{AGENT}:{POD}.runtimeClassName": "nvidia"},
    ),
    "libhook installed": ValueSet({"agent": {"hook": {"mode": "Install"}}}),
    "OpenShift": ValueSet(
        {"openshift": {"enabled": True}},
        {
            f"{MANAGER}:{POD}.securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "RoleBinding/poolmgr-agent-privileged:roleRef.name": "system:openshift:scc:privileged",
        },
    ),
    "network policies": ValueSet(
        {"networkPolicy": {"enabled": True}}, {"NetworkPolicy/poolmgr-agent:spec.ingress": []}
    ),
    "monitoring": ValueSet(
        {
            "serviceMonitor": {
                "enabled": True,
                "scrapeTimeout": "10s",
                "relabelings": [RELABELING],
                "metricRelabelings": [RELABELING],
            },
            "prometheusRule": {"enabled": True, "docs": "https://docs.example.com/poolmgr/"},
            "dashboard": {"enabled": True},
        },
        {
            "ServiceMonitor/poolmgr-manager:spec.endpoints.0.scrapeTimeout": "10s",
            "ServiceMonitor/poolmgr-webhook:spec.endpoints.0.tlsConfig.ca.secret.key": "ca.crt",
            "ServiceMonitor/poolmgr-webhook:spec.endpoints.0.metricRelabelings": [RELABELING],
        },
    ),
    "monitoring from another namespace": ValueSet(
        {
            "serviceMonitor": {"enabled": True, "namespace": "monitoring", "labels": {"release": "prom"}},
            "prometheusRule": {"enabled": True, "namespace": "monitoring", "labels": {"release": "prom"}},
            "dashboard": {"enabled": True, "namespace": "monitoring"},
        },
        {
            "ServiceMonitor/poolmgr-webhook:metadata.namespace": "monitoring",
            "ServiceMonitor/poolmgr-webhook:spec.namespaceSelector.matchNames": ["poolmgr-system"],
            "ServiceMonitor/poolmgr-webhook:spec.endpoints.0.tlsConfig": {"insecureSkipVerify": True},
            "PrometheusRule/poolmgr:metadata.namespace": "monitoring",
        },
    ),
    "cert-manager": ValueSet(
        {"webhook": {"certificate": {"source": "certManager"}}},
        {"Certificate/poolmgr-webhook:spec.secretName": "poolmgr-webhook-certificate"},
    ),
    "a certificate that exists": ValueSet(
        {"webhook": {"certificate": {"source": "existingSecret", "existingSecret": "t", "caBundle": "Zm9v"}}},
        {"ValidatingWebhookConfiguration/00-poolmgr:webhooks.0.clientConfig.caBundle": "Zm9v"},
    ),
    "a webhook elsewhere": ValueSet(
        {"webhook": {"url": "https://192.0.2.7:9443"}}, {WEBHOOK: None, "Service/poolmgr-webhook": None}
    ),
    "no webhook": ValueSet({"webhook": {"enabled": False}}, {"MutatingWebhookConfiguration/00-poolmgr": None}),
    "no agent": ValueSet({"agent": {"enabled": False}}, {AGENT: None, "ServiceAccount/poolmgr-agent": None}),
    "no manager": ValueSet(
        {"manager": {"enabled": False}}, {MANAGER: None, "Pod/poolmgr-test": None, "Service/poolmgr-manager": None}
    ),
    "some hooks": ValueSet(
        {"webhook": {"hooks": {"pods": {"enabled": False}, "gpupools": {"failurePolicy": "Fail"}}}}
    ),
    "HAMi with other names": ValueSet(
        {
            "hami": {
                "namespace": "hami",
                "deviceConfigMap": "x-scheduler-device",
                "resources": {"gpus": "vendor/gpu"},
            }
        },
        {
            "ConfigMap/poolmgr-manager:data.POOLMGR_HAMI_NAMESPACE": "hami",
            "Pod/poolmgr-test:spec.containers.0.args.2": "--hami-device-config=x-scheduler-device",
        },
    ),
    "a token for writing": ValueSet(
        manager(writeToken={"existingSecret": "token"}, access="token"),
        {"ConfigMap/poolmgr-manager:data.POOLMGR_API__ACCESS": "token"},
    ),
    "no policies": ValueSet(
        {
            "policies": dict.fromkeys(("agentOwnNodeOnly", "specByManagerOnly", "managerPausesOnly", "managerFieldsOnly", "ownKeysOnNodes", "protectHami", "admissionGate"), False)
        },
        {"ValidatingAdmissionPolicy/poolmgr-spec-by-manager": None},
    ),
    "a first pool": ValueSet(
        {"defaultPool": {"enabled": True, "name": "all", "spec": {"rebalance": {"mode": "Automatic"}}}},
        {"GPUPool/all:spec.rebalance.mode": "Automatic"},
    ),
    "objects of one's own": ValueSet(
        {
            "extraObjects": [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "more", "namespace": "{{ .Release.Namespace }}"},
                    "data": {"release": "{{ .Release.Name }}"},
                }
            ]
        },
        {
            "ConfigMap/more:data.release": "poolmgr",
            "ConfigMap/more:metadata.namespace": "poolmgr-system",
        },
    ),
}  # fmt: skip

INSTALLED = (
    "nothing",
    "another name",
    "accounts that exist",
    "history on a volume",
    "an Ingress",
    "OpenShift",
    "no policies",
    "objects of one's own",
)
"""Those that are installed, too."""
