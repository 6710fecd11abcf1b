"""poolmgr's own parts: kinds, manager, webhook, pools, and whether their releases fit."""

from collections.abc import Iterator

from poolmgr import wire
from poolmgr.doctor.facts import Facts, Seen
from poolmgr.doctor.findings import Finding, Grade
from poolmgr.wire.hami import names
from poolmgr.wire.instants import to_rfc3339, unix_or_zero

APPLY_CRDS = "kubectl apply --server-side -f helm/poolmgr/crds"
SILENT_SECONDS = 30.0
"""Twice the Lease's duration: a standby would have taken it by then."""
POD_WEBHOOK = "pods.poolmgr.io"
HAMI_WEBHOOK = "vgpu.hami.io"
CHART_LABEL = "helm.sh/chart"


def kinds(facts: Facts) -> Iterator[Finding]:
    found: tuple[tuple[str, Seen[wire.GpuPool] | Seen[wire.GpuNode] | Seen[wire.GpuReservation]], ...] = (
        ("gpupools", facts.pools),
        ("gpunodes", facts.gpu_nodes),
        ("gpureservations", facts.reservations),
    )
    for name, seen in found:
        about = f"CRD {name}.poolmgr.io"
        if seen.absent:
            yield Finding("crds", about, Grade.PROBLEM, "it is not installed", APPLY_CRDS)
        elif seen.unread:
            yield Finding("crds", about, Grade.UNKNOWN, seen.unread)
        else:
            yield Finding("crds", about, Grade.OK, f"{len(seen.items)} object(s)")


def pools(facts: Facts) -> Iterator[Finding]:
    if facts.pools.items or facts.pools.unread or facts.pools.absent:
        return
    fix = "make a GPUPool (docs/how-to/install.md, step 5); begin with rebalance.mode: Recommend"
    yield Finding("pools", "cluster", Grade.PROBLEM, "there is no GPUPool, so nothing may move", fix)


def manager(facts: Facts) -> Iterator[Finding]:
    about = "Lease poolmgr-manager"
    pods = "kubectl get pods -A -l app.kubernetes.io/component=manager; look at their logs"
    if facts.leases.unread:
        yield Finding("manager", about, Grade.UNKNOWN, facts.leases.unread)
        return
    lease = next((lease for lease in facts.leases.items if lease.metadata.name == "poolmgr-manager"), None)
    renewed = unix_or_zero(lease.spec.renew_time) if lease is not None else 0.0
    if lease is None:
        yield Finding("manager", about, Grade.PROBLEM, "there is none: no manager has ever led here", pods)
    elif not lease.spec.holder_identity:
        message = f"no manager has held it since {to_rfc3339(renewed)}; nothing moves"
        yield Finding("manager", about, Grade.PROBLEM, message, pods)
    elif facts.now - renewed > SILENT_SECONDS:
        message = f"{lease.spec.holder_identity} was last heard from at {to_rfc3339(renewed)}; nothing moves"
        yield Finding("manager", about, Grade.PROBLEM, message, pods)
    else:
        yield Finding("manager", about, Grade.OK, f"{lease.spec.holder_identity} leads")


def webhook(facts: Facts) -> Iterator[Finding]:
    """Ours must be called before HAMi's: its label keeps HAMi's webhook off the launchers of VMs."""
    if facts.mutating.unread:
        yield Finding("webhook", "MutatingWebhookConfigurations", Grade.UNKNOWN, facts.mutating.unread)
        return
    ours = next((c for c in facts.mutating.items if any(w.name == POD_WEBHOOK for w in c.webhooks)), None)
    theirs = next((c for c in facts.mutating.items if any(w.name == HAMI_WEBHOOK for w in c.webhooks)), None)
    if ours is None:
        message = "poolmgr's webhook is not configured: pods may be placed on GPUs that are about to leave"
        yield Finding(
            "webhook", "cluster", Grade.PROBLEM, message, "set webhook.enabled: true in the chart's values"
        )
        return
    about = f"MutatingWebhookConfiguration {ours.metadata.name}"
    if not all(w.client_config.ca_bundle for w in ours.webhooks):
        message = "it has no caBundle, so the API server cannot call the webhook"
        fix = "the webhook writes it within a minute of its start: kubectl get pods -A -l app.kubernetes.io/component=webhook"
        yield Finding("webhook", about, Grade.PROBLEM, message, fix)
    else:
        yield Finding("webhook", about, Grade.OK, "the API server can call it")
    if theirs is not None:
        order = f"{ours.metadata.name} is called {{}} {theirs.metadata.name} (by their names)"
        if ours.metadata.name < theirs.metadata.name:
            yield Finding("webhook-order", about, Grade.OK, order.format("before"))
        else:
            fix = f"set webhook.configurationName to a name that sorts before {theirs.metadata.name}, e.g. 00-poolmgr"
            yield Finding("webhook-order", about, Grade.PROBLEM, order.format("after"), fix)


def versions(facts: Facts) -> Iterator[Finding]:
    """Manager, webhook and agents of one release: docs/reference/compatibility.md says what skew does."""
    found: dict[str, list[str]] = {}
    for deployment in facts.deployments.items:
        labels = deployment.metadata.labels
        component = labels.get(names.COMPONENT_LABEL, "")
        if labels.get(CHART_LABEL, "").startswith("poolmgr-") and component in ("manager", "webhook"):
            found.setdefault(labels.get(names.VERSION_LABEL, "") or "unknown", []).append(component)
    for node in facts.gpu_nodes.items:
        found.setdefault(node.status.agent_version or "unknown", []).append(f"agent of {node.metadata.name}")
    if facts.deployments.unread:
        yield Finding("versions", "manager, webhook", Grade.UNKNOWN, facts.deployments.unread)
    if not found:
        return
    said = "; ".join(f"{version}: {_some(parts)}" for version, parts in sorted(found.items()))
    if len(found) > 1:
        known = Grade.UNKNOWN if "unknown" in found and len(found) == 2 else Grade.PROBLEM
        fix = "finish the upgrade: the CRDs first, then helm upgrade (docs/reference/compatibility.md)"
        yield Finding("versions", "cluster", known, said, fix)
    elif "unknown" in found:
        yield Finding("versions", "cluster", Grade.UNKNOWN, said)
    else:
        yield Finding("versions", "cluster", Grade.OK, said)
    if facts.client_version and facts.client_version not in found and "unknown" not in found:
        message = f"this program is {facts.client_version}, the cluster has {', '.join(sorted(found))}"
        yield Finding("versions", "this program", Grade.NOTE, message, "use the release of the cluster")


def _some(parts: list[str], shown: int = 3) -> str:
    more = f" and {len(parts) - shown} more" if len(parts) > shown else ""
    return ", ".join(parts[:shown]) + more
