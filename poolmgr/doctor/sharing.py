"""HAMi, and whoever else offers or keeps the same GPUs: NVIDIA's device plugins, the GPU operator."""

from collections.abc import Iterator

from poolmgr import wire
from poolmgr.doctor.facts import Facts
from poolmgr.doctor.findings import Finding, Grade
from poolmgr.domain.reasons import Reason
from poolmgr.wire.gpu_operator import PAUSABLE, ClusterPolicy, neighbours_of, restored_by_others
from poolmgr.wire.hami import names
from poolmgr.wire.hami.config import parse_device_config

SUPPORTED = ("2.8", "2.9", "2.10")
"""docs/reference/hami-versions.md"""
HOLDERS = frozenset({"dcgm-exporter", "dcgm"})
"""Images of programs that keep every GPU of their node open."""
PLUGINS = {
    "k8s-device-plugin": "NVIDIA's device plugin offers the GPUs as nvidia.com/gpu beside HAMi",
    "kubevirt-gpu-device-plugin": "NVIDIA's plugin for KubeVirt offers GPUs on vfio-pci beside poolmgr's agent",
    "sandbox-device-plugin": "NVIDIA's sandbox plugin offers GPUs on vfio-pci beside poolmgr's agent",
}
"""Last part of the image's name → what its running means."""


def hami(facts: Facts) -> Iterator[Finding]:
    if facts.deployments.unread or facts.daemon_sets.unread:
        yield Finding("hami", "cluster", Grade.UNKNOWN, facts.deployments.unread or facts.daemon_sets.unread)
        return
    schedulers = [d for d in facts.deployments.items if _is(d, names.SCHEDULER_COMPONENT)]
    plugins = [d for d in facts.daemon_sets.items if _is(d, names.PLUGIN_COMPONENT)]
    if not schedulers and not plugins:
        message = "HAMi is not installed: no container can use a slice of a GPU; everything else works"
        yield Finding("hami", "cluster", Grade.NOTE, message)
        return
    homes = sorted(
        {found.metadata.namespace for found in schedulers} | {p.metadata.namespace for p in plugins}
    )
    if len(homes) > 1:
        message = (
            f"objects of {len(homes)} namespaces look like HAMi's: {', '.join(homes)}; poolmgr uses "
            "those in the namespace of the oldest one"
        )
        yield Finding("hami", "cluster", Grade.PROBLEM, message, "set hami.namespace in poolmgr's values")
    for scheduler in schedulers:
        yield _release(scheduler)
    if not schedulers:
        yield Finding(
            "hami",
            "cluster",
            Grade.PROBLEM,
            "its plugin runs, but its scheduler does not",
            "install all of HAMi's chart",
        )
    if not plugins:
        message = "its plugin is not a DaemonSet with HAMi's labels, so poolmgr cannot stop it on a node"
        yield Finding("hami-lever", "cluster", Grade.PROBLEM, message, "install HAMi by its chart")
    for plugin in plugins:
        yield _lever(plugin)
    yield from _configuration(facts)


def _is(found: wire.Deployment | wire.DaemonSet, component: str) -> bool:
    return found.metadata.labels.get(names.COMPONENT_LABEL) == component


def _release(scheduler: wire.Deployment) -> Finding:
    about = f"Deployment {scheduler.metadata.namespace}/{scheduler.metadata.name}"
    images = [
        c.image for c in scheduler.spec.template.spec.containers if c.name == names.EXTENDER_CONTAINER
    ] or [scheduler.metadata.labels.get(names.VERSION_LABEL, "")]
    tag = images[0].split("@", 1)[0].rpartition("/")[2].rpartition(":")[2].removeprefix("v")
    minor = ".".join(tag.split(".")[:2])
    if minor in SUPPORTED:
        return Finding("hami", about, Grade.OK, f"release {tag}")
    if minor.replace(".", "").isdigit() and "." in minor:
        message = f"release {tag}; poolmgr supports {', '.join(SUPPORTED)}"
        return Finding("hami", about, Grade.PROBLEM, message, f"install one of HAMi {', '.join(SUPPORTED)}")
    message = (
        f"its image {images[0] or '(none)'} does not name the release, which poolmgr must know to take a GPU"
    )
    return Finding(
        "hami", about, Grade.UNKNOWN, message, "set manager.settings.POOLMGR_HAMI_VERSION, e.g. 2.10"
    )


def _lever(plugin: wire.DaemonSet) -> Finding:
    """The node label that starts and stops the plugin on a node."""
    about = f"DaemonSet {plugin.metadata.namespace}/{plugin.metadata.name}"
    selector = plugin.spec.template.spec.node_selector
    own = {key: value for key, value in selector.items() if not restored_by_others(key)}
    if own:
        label = ", ".join(f"{key}={value}" for key, value in sorted(own.items()))
        return Finding("hami-lever", about, Grade.OK, f"poolmgr stops it on a node by removing {label}")
    message = (
        "every label that selects its nodes is put back when removed, so poolmgr cannot stop it on a node"
    )
    fix = 'set devicePlugin.nvidianodeSelector in HAMi\'s values, e.g. gpu: "on", and give the GPU nodes that label'
    return Finding("hami-lever", about, Grade.PROBLEM, message, fix)


def _configuration(facts: Facts) -> Iterator[Finding]:
    if facts.hami_configs.unread:
        yield Finding("hami-config", "cluster", Grade.UNKNOWN, facts.hami_configs.unread)
    for config in facts.hami_configs.items:
        about = f"ConfigMap {config.metadata.namespace}/{config.metadata.name}"
        try:
            parsed = parse_device_config(config.data.get(names.DEVICE_CONFIG_KEY, "") or "{}")
        except ValueError as error:
            yield Finding(
                "hami-config",
                about,
                Grade.PROBLEM,
                f"{error}; nothing moves until it can be read",
                "repair it",
            )
            continue
        yield Finding(
            "hami-config", about, Grade.OK, f"containers request slices with {', '.join(parsed.names)}"
        )
    if not facts.hami_configs.items and not facts.hami_configs.unread:
        message = (
            f"there is no ConfigMap {names.DEVICE_CONFIG_MAP}: poolmgr assumes the chart's resource names"
        )
        fix = "if HAMi was installed under another name, set manager.settings.POOLMGR_HAMI_DEVICE_CONFIG"
        yield Finding("hami-config", "cluster", Grade.UNKNOWN, message, fix)


def neighbours(facts: Facts) -> Iterator[Finding]:
    """Device plugins of others for the same GPUs."""
    if facts.daemon_sets.unread:
        yield Finding("device-plugins", "cluster", Grade.UNKNOWN, facts.daemon_sets.unread)
        return
    found = False
    for daemon in facts.daemon_sets.items:
        for container in daemon.spec.template.spec.containers:
            image = _image(container.image)
            if image in PLUGINS and not _is(daemon, names.PLUGIN_COMPONENT):
                found = True
                about = f"DaemonSet {daemon.metadata.namespace}/{daemon.metadata.name}"
                fix = "keep it off the GPU nodes (GPU operator: nvidia.com/gpu.deploy.device-plugin=false on them, or "
                fix += "devicePlugin.enabled=false), or remove it"
                yield Finding("device-plugins", about, Grade.PROBLEM, PLUGINS[image], fix)
                break
    if not found:
        yield Finding("device-plugins", "cluster", Grade.OK, "no other plugin offers the GPUs")


def driver_keepers(facts: Facts) -> Iterator[Finding]:
    """Nodes that somebody else manages or changes now, and programs that keep GPUs open and cannot be paused."""
    ours = {node.metadata.name for node in facts.gpu_nodes.items}
    for node in facts.nodes.items:
        name = node.metadata.name
        verdict = neighbours_of(name, node.metadata.labels, ()).verdict
        if name in ours and not verdict:
            grade = Grade.PROBLEM if verdict.reason is Reason.GPUS_OF_OTHERS else Grade.NOTE
            yield Finding("driver", f"node {name}", grade, verdict.message)
    for daemon in facts.daemon_sets.items:
        template = daemon.spec.template.spec
        images = {_image(container.image) for container in template.containers}
        if images & HOLDERS and not PAUSABLE & template.node_selector.keys():
            about = f"DaemonSet {daemon.metadata.namespace}/{daemon.metadata.name}"
            message = "it keeps GPUs open and cannot be paused for a move, so no GPU leaves the shared side"
            fix = 'add nvidia.com/gpu.deploy.client: "true" to its nodeSelector (the GPU operator labels nodes so since 26.7)'
            yield Finding("driver", about, Grade.PROBLEM, message, fix)


def _image(image: str) -> str:
    """Its name, without registry, tag and digest."""
    return image.split("@", 1)[0].rpartition("/")[2].partition(":")[0]


def gpu_operator(facts: Facts) -> Iterator[Finding]:
    """Settings of NVIDIA's GPU operator that do not go with GPUs that change sides."""
    seen = facts.cluster_policies
    if seen.absent:
        return
    if seen.unread:
        yield Finding("gpu-operator", "cluster", Grade.UNKNOWN, seen.unread)
    for policy in seen.items:
        found = list(_policy(policy))
        about = f"ClusterPolicy {policy.metadata.name}"
        yield from found or [
            Finding("gpu-operator", about, Grade.OK, "none of its settings conflicts with poolmgr")
        ]


def _policy(policy: ClusterPolicy) -> Iterator[Finding]:
    about, spec = f"ClusterPolicy {policy.metadata.name}", policy.spec

    def patch(body: str) -> str:
        return f"kubectl patch clusterpolicy {policy.metadata.name} --type merge -p '{{\"spec\":{body}}}'"

    if spec.device_plugin.enabled is not False:
        message = "devicePlugin is on: NVIDIA's plugin offers the same GPUs as HAMi"
        yield Finding(
            "gpu-operator", about, Grade.PROBLEM, message, patch('{"devicePlugin":{"enabled":false}}')
        )
    if spec.sandbox_workloads.enabled:
        message = (
            "sandboxWorkloads is on: its vfio manager binds all GPUs of a node, and its plugin offers them"
        )
        yield Finding(
            "gpu-operator", about, Grade.PROBLEM, message, patch('{"sandboxWorkloads":{"enabled":false}}')
        )
    if spec.driver.enabled is not False:
        message = "the driver is installed by the operator, in a container: the agent finds NVML at /run/nvidia/driver"
        yield Finding(
            "gpu-operator",
            about,
            Grade.NOTE,
            message,
            "set agent.driverRoot: /run/nvidia/driver in poolmgr's values",
        )
    if spec.dcgm_exporter.enabled is not False:
        message = "the DCGM exporter is on: each move on a node pauses it there, a gap of about a minute in its metrics"
        yield Finding("gpu-operator", about, Grade.NOTE, message)
