"""The reference pages that are made from the chart: its values, and the objects of its CRDs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent.parent / "helm" / "poolmgr"
KINDS = {
    "gpupools": "Which GPUs may move, within which bounds. You write this one.",
    "gpunodes": "One per node: what the manager wants of each GPU and what the agent found. You read this one.",
    "gpureservations": "GPUs of a model in a mode for a window of time.",
}
LINE = re.compile(r"(?P<indent> *)(?P<key>[\w-]+):(?: (?P<value>[^#]*?))?(?: *# ?(?P<note>.*))?$")


def values_page() -> str:
    """Every value of the chart with default and reason, from the comments of `values.yaml`."""
    lines = [
        "# Values of the chart",
        "",
        "`helm show values helm/poolmgr` prints them with the same comments; `values.schema.json` refuses names and",
        "values that are none.",
        "",
        "<!-- Made from helm/poolmgr/values.yaml by `make docs`. -->",
        "",
        *_table(),
    ]
    return "\n".join(lines) + "\n"


def chart_readme() -> str:
    """What `helm show readme` prints: how to install, and every value."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    lines = [
        "# poolmgr",
        "",
        chart["description"],
        "",
        f"Version {chart['version']}, for Kubernetes {chart['kubeVersion'].removesuffix('-0')}. The agent is privileged, so its namespace",
        "must allow that. [Install](../../docs/how-to/install.md) has the whole way, [upgrade](../../docs/how-to/upgrade.md) the next one.",
        "",
        "```sh",
        "kubectl create namespace poolmgr-system",
        "kubectl label namespace poolmgr-system pod-security.kubernetes.io/enforce=privileged",
        "helm install poolmgr helm/poolmgr -n poolmgr-system --set image.registry=registry.example.com",
        "helm test poolmgr -n poolmgr-system --logs",
        "```",
        "",
        "`helm uninstall` leaves each GPU in its mode, and the CRDs with their objects; Helm does not upgrade CRDs:",
        "`kubectl apply --server-side -f helm/poolmgr/crds` does.",
        "",
        "## Values",
        "",
        "<!-- Made from helm/poolmgr/values.yaml by `make docs`. -->",
        "",
        *_table(),
    ]
    return "\n".join(lines) + "\n"


def _table() -> list[str]:
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for path, default, note in _values((CHART / "values.yaml").read_text().splitlines()[3:]):
        lines.append(
            f"| `{path}` | {f'`{default}`' if default else ''} | {note.replace('|', chr(92) + '|')} |"
        )
    return lines


def _values(lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """(path, default, comment). A comment above a key belongs to it; lists below a key are left to the file."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in lines:
        if line.strip().startswith("#"):
            comment.append(line.strip().lstrip("#- ").strip())
            continue
        found = LINE.match(line)
        if not found:
            comment = []
            continue
        indent = len(found["indent"])
        path = [(at, key) for at, key in path if at < indent] + [(indent, found["key"])]
        note = " ".join([*comment, found["note"] or ""]).strip()
        default = (found["value"] or "").strip()
        if default or note:
            yield ".".join(key for _, key in path), default, note
        comment = []


def objects_page() -> str:
    """Every field of every object with type, default and description."""
    lines = [
        "# Objects",
        "",
        "API group `poolmgr.io`, version `v1alpha1`, category `poolmgr` (`kubectl get poolmgr -A` lists them all).",
        "`kubectl explain gpupool.spec` says the same on your cluster.",
        "",
        "<!-- Made from helm/poolmgr/crds by `make docs`. -->",
    ]
    for plural, purpose in KINDS.items():
        crd = yaml.safe_load((CHART / "crds" / f"{plural}.yaml").read_text())["spec"]
        version = crd["versions"][0]
        schema = version["schema"]["openAPIV3Schema"]
        lines += [
            "",
            f"## {crd['names']['kind']}",
            "",
            f"{purpose} {crd['scope']}, short name `{crd['names']['shortNames'][0]}`.",
            "",
            " ".join(schema["description"].split()),
        ]
        for half in ("spec", "status"):
            lines += ["", f"### {half}", "", schema["properties"][half]["description"], ""]
            lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
            lines += list(_fields(schema["properties"][half], ""))
        rules = list(_rules(schema))
        lines += [
            "",
            "### Rules",
            "",
            "The API server refuses an object with the sentence of the rule it breaks:",
            "",
        ]
        lines += [f"- {rule}" for rule in rules]
    return "\n".join(lines) + "\n"


def _fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        here = f"{path}{name}"
        default = f"`{field['default']}`" if field.get("default") not in (None, {}, []) else ""
        meaning = " ".join(field.get("description", "").split())
        yield f"| `{here}`{' *' if name in required else ''} | {_type(field)} | {default} | {meaning} |"
        if here.endswith("conditions"):
            continue
        if field.get("type") == "object":
            yield from _fields(field, f"{here}.")
        elif field.get("type") == "array" and "properties" in field["items"]:
            yield from _fields(field["items"], f"{here}[].")


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " \\| ".join(f"`{word}`" for word in field["enum"])
    name = "time" if field.get("format") == "date-time" else str(field["type"])
    if name == "array":
        return f"list of {_type(field['items'])}"
    low, high = field.get("minimum"), field.get("maximum")
    if high is not None:
        return f"{name} {low}…{high}"
    return f"{name} ≥ {low}" if low is not None else name


def _rules(schema: dict[str, Any]) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield rule["message"]
    for child in schema.get("properties", {}).values():
        yield from _rules(child)
    if isinstance(schema.get("items"), dict):
        yield from _rules(schema["items"])
