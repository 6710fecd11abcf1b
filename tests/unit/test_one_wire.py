"""`poolmgr.wire` is the only place that names an annotation, a field of our CRDs, or an HTTP status of the API server.

A second place drifts: each of the copies that this project once had read some values as another thing.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from poolmgr.wire import annotations
from poolmgr.wire.hami import names

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for package in ("poolmgr", "webhooks")
    for path in (ROOT / package).rglob("*.py")
    if not path.is_relative_to(ROOT / "poolmgr/wire")
)

KEY = re.compile(r"(poolmgr|hami)\.io/[\w.~-]+")
KEYS = {
    value
    for module in (annotations, names)
    for value in vars(module).values()
    if isinstance(value, str) and "/" in value
}
OF_KUBERNETES = {"nodeSelector", "matchLabels", "observedGeneration", "lastTransitionTime"}
"""Names of Kubernetes' own that our CRDs use, too."""

OF_HTTPX = {
    *("codes", "HTTPStatus", "raise_for_status"),
    *("is_error", "is_success", "is_client_error", "is_server_error", "is_redirect"),
}
"""Words for statuses that draw their own lines: to httpx, a redirect is no error."""
ANSWERS = "answers requests itself: these are its own statuses"
EXCEPTIONS = {
    ("field", "poolmgr/agent/accelerators.py"): "accelerator files have names of their own, some the same",
    (
        "field",
        "poolmgr/cli/agent_node.py",
    ): "`poolmgr agent show --json` prints for people what the status says to the manager",
    ("status", "poolmgr/api/problems.py"): ANSWERS,
    ("status", "webhooks/admission.py"): ANSWERS,
    ("status", "poolmgr/cli/daily/manager.py"): "asks the manager's own API, which answers with problems",
    ("status", "poolmgr/cli/demo_admission.py"): "asks our own webhook",
}
"""(what is named, file) → why it may."""


def crd_fields() -> set[str]:
    """Properties of spec and status that no other format would be likely to have: those of more than one word."""
    found: set[str] = set()

    def walk(schema: dict[str, Any]) -> None:
        for name, inner in schema.get("properties", {}).items():
            found.add(name)
            walk(inner)
        if isinstance(items := schema.get("items"), dict):
            walk(items)

    for path in (ROOT / "helm/poolmgr/crds").glob("*.yaml"):
        for version in yaml.safe_load(path.read_text())["spec"]["versions"]:
            properties = version["schema"]["openAPIV3Schema"]["properties"]
            walk(properties["spec"])
            walk(properties.get("status", {}))
    return {name for name in found if not name.islower()} - OF_KUBERNETES


FIELDS = crd_fields()


def named(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(annotation, field or status; the name itself) wherever the code has one, prose left out."""
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in prose:
                plain = text.replace("~1", "/")
                if plain in KEYS or KEY.fullmatch(plain):
                    yield "annotation", text
                elif text in FIELDS:
                    yield "field", text
            case ast.Compare(left=left, comparators=others):
                for side in (left, *others):
                    for part in ast.walk(side):
                        if (
                            isinstance(part, ast.Constant)
                            and type(part.value) is int
                            and 400 <= part.value < 600
                        ):
                            yield "status", str(part.value)
            case ast.MatchValue(value=ast.Constant(value=int(number))) if 400 <= number < 600:
                yield "status", str(number)
            case ast.Attribute(attr=name) if name in OF_HTTPX:
                yield "status", ast.unparse(node)
            case ast.Name(id="HTTPStatus"):
                yield "status", ast.unparse(node)


def found_in(path: Path) -> set[tuple[str, str]]:
    return set(named(ast.parse(path.read_text())))


def test_nothing_else_names_what_the_wire_owns() -> None:
    offences = [
        f"{path.relative_to(ROOT)}: {kind} {name}"
        for path in SOURCES
        for kind, name in sorted(found_in(path))
        if (kind, str(path.relative_to(ROOT))) not in EXCEPTIONS
    ]
    assert offences == []


def test_every_exception_is_needed() -> None:
    for kind, path in EXCEPTIONS:
        assert kind in {found for found, _ in found_in(ROOT / path)}, (kind, path)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("annotation", 'a["nvidia.com/use-gpuuuid"]'),
        ("annotation", 'path = "/metadata/labels" + "hami.io~1webhook"'),
        ("annotation", 'NEW = "poolmgr.io/something-new"'),
        ("field", 'device["pciAddress"]'),
        ("field", '{"maxGPUs": 3}'),
        ("status", "if answer.status in (409, 410): pass"),
        ("status", "match status:\n    case 404: pass"),
        ("status", "httpx.codes.CONFLICT"),
        ("status", "if answer.is_client_error: pass"),
    ],
)
def test_an_offence_is_found(kind: str, code: str) -> None:
    assert kind in {found for found, _ in named(ast.parse(code))}


def test_prose_and_other_numbers_are_no_offence() -> None:
    code = '"""Reads `pciAddress`."""\nx = "the annotation poolmgr.io/best-effort does it"\nport = 443 if tls else 80\n'
    assert set(named(ast.parse(code))) == set()
