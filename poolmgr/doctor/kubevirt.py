"""KubeVirt: may VMs have the GPUs, and does nobody but our device plugin offer them?"""

from collections.abc import Iterator

from poolmgr.doctor.facts import Facts
from poolmgr.doctor.findings import Finding, Grade
from poolmgr.wire.kubevirt_config import KubeVirt, PciHostDevice

TESTED = "1.8"
"""docs/reference/compatibility.md"""
HOST_DEVICES = "HostDevices"


def kubevirt(facts: Facts) -> Iterator[Finding]:
    seen = facts.kubevirts
    if seen.absent:
        message = "KubeVirt is not installed: no VM can use a GPU; everything else works"
        yield Finding("kubevirt", "cluster", Grade.NOTE, message)
        return
    if seen.unread or not seen.items:
        message = seen.unread or "its CRDs are installed, but there is no KubeVirt object"
        yield Finding("kubevirt", "cluster", Grade.UNKNOWN, message)
        return
    for installed in seen.items:
        about = f"KubeVirt {installed.metadata.namespace}/{installed.metadata.name}"
        yield _version(about, installed)
        yield _gate(about, installed, facts)
        yield from _permitted(about, installed, facts)


def _version(about: str, installed: KubeVirt) -> Finding:
    found = installed.status.observed_kube_virt_version
    if not found:
        return Finding("kubevirt", about, Grade.UNKNOWN, "it does not say its release")
    if found.removeprefix("v").startswith(f"{TESTED}."):
        return Finding("kubevirt", about, Grade.OK, f"release {found}")
    return Finding("kubevirt", about, Grade.NOTE, f"release {found}; poolmgr was run with {TESTED} alone")


def _gate(about: str, installed: KubeVirt, facts: Facts) -> Finding:
    """VMs may ask for a GPU in `gpus`, which needs no gate, or in `hostDevices`, which needs one."""
    gates = installed.spec.configuration.developer_configuration.feature_gates
    if HOST_DEVICES in gates:
        return Finding("feature-gates", about, Grade.OK, f"{HOST_DEVICES} is on")
    message = f"{HOST_DEVICES} is off: VMs that request a GPU in spec.domain.devices.hostDevices are rejected; those that request it in gpus are not"
    return Finding(
        "feature-gates",
        about,
        Grade.NOTE,
        message,
        _edit(facts, installed, f"add {HOST_DEVICES} to featureGates"),
    )


def _permitted(about: str, installed: KubeVirt, facts: Facts) -> Iterator[Finding]:
    wanted = sorted(
        {
            (device.resource_name, f"{device.vendor_id}:{device.device_id}".upper())
            for node in facts.gpu_nodes.items
            for device in node.status.devices
            if device.resource_name
        }
    )
    allowed = installed.spec.configuration.permitted_host_devices
    entries = allowed.pci_host_devices if allowed is not None else ()
    for resource, selector in wanted:
        yield _resource(about, resource, selector, entries, installed, facts)
    if not wanted:
        yield Finding(
            "permitted-devices", about, Grade.UNKNOWN, "no agent reports a GPU, so no entry can be checked"
        )


def _resource(
    about: str,
    resource: str,
    selector: str,
    entries: tuple[PciHostDevice, ...],
    installed: KubeVirt,
    facts: Facts,
) -> Finding:
    entry = f'{{pciVendorSelector: "{selector}", resourceName: {resource}, externalResourceProvider: true}}'
    named = [e for e in entries if e.resource_name == resource]
    if not named:
        others = [e.resource_name for e in entries if e.pci_vendor_selector.upper() == selector]
        known = f"; {selector} is permitted as {others[0]}, another name" if others else ""
        message = f"permittedHostDevices has no entry for {resource}: VMs that request it stay Pending{known}"
        return Finding(
            "permitted-devices", about, Grade.PROBLEM, message, _edit(facts, installed, f"add {entry}")
        )
    if not all(e.external_resource_provider for e in named):
        message = f"{resource} has externalResourceProvider false: KubeVirt's own plugin offers it as well, and is wrong after a move"
        return Finding(
            "permitted-devices",
            about,
            Grade.PROBLEM,
            message,
            _edit(facts, installed, f"make its entry {entry}"),
        )
    if all(e.pci_vendor_selector.upper() != selector for e in named):
        message = f"{resource} is permitted for {named[0].pci_vendor_selector}, but the GPUs are {selector}"
        return Finding(
            "permitted-devices",
            about,
            Grade.PROBLEM,
            message,
            _edit(facts, installed, f"make its entry {entry}"),
        )
    return Finding(
        "permitted-devices", about, Grade.OK, f"{resource} is permitted, and only poolmgr offers it"
    )


def _edit(facts: Facts, installed: KubeVirt, what: str) -> str:
    """The command by which it is changed: where there is a HyperConverged, that one, as it would undo any other."""
    if facts.hyperconvergeds.items:
        meta = facts.hyperconvergeds.items[0].metadata
        return (
            f"kubectl -n {meta.namespace} edit hyperconverged {meta.name}: {what} (pciDeviceSelector there)"
        )
    meta = installed.metadata
    hidden = (
        "; if a HyperConverged manages it, edit that instead (you may not list them)"
        if facts.hyperconvergeds.unread
        else ""
    )
    return f"kubectl -n {meta.namespace} edit kubevirt {meta.name}: {what}{hidden}"
