"""The CRDs say the same as the domain, and explain every field."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import yaml

from poolmgr.domain.fleet import EvictionRule, Granularity, IdleVmAction, Pool, RebalanceMode
from poolmgr.domain.identifiers import PoolName
from poolmgr.domain.modes import DevicePhase, Mode, Step

CRDS = Path(__file__).parents[3] / "helm" / "poolmgr" / "crds"
KINDS = ("gpupools", "gpunodes", "gpureservations")


def crd(plural: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())
    return loaded


def schema(plural: str) -> dict[str, Any]:
    found: dict[str, Any] = crd(plural)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def at(plural: str, path: str) -> dict[str, Any]:
    """The schema of a field; `[]` steps into an array's items."""
    here = schema(plural)
    for part in path.split("."):
        here = here["items"] if part == "[]" else here["properties"][part]
    return here


def fields(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from fields(child, f"{path}.{name}")
    if isinstance(node.get("items"), dict):
        yield from fields(node["items"], f"{path}[]")


@pytest.mark.parametrize("plural", KINDS)
def test_every_field_is_described_in_a_sentence(plural: str) -> None:
    silent = [
        path
        for path, node in fields(schema(plural))
        if path != ".metadata" and not str(node.get("description", "")).endswith(".")
    ]
    assert silent == []


@pytest.mark.parametrize("plural", KINDS)
def test_strings_and_lists_are_bounded_so_that_rules_stay_cheap(plural: str) -> None:
    top = {".apiVersion", ".kind"}
    unbounded = [
        path
        for path, node in fields(schema(plural))
        if path not in top
        and (
            (node.get("type") == "string" and not {"maxLength", "enum", "format"} & node.keys())
            or (node.get("type") == "array" and "maxItems" not in node)
        )
    ]
    assert unbounded == []


@pytest.mark.parametrize("plural", KINDS)
def test_group_category_and_status_subresource(plural: str) -> None:
    spec = crd(plural)["spec"]
    assert spec["group"] == "poolmgr.io"
    assert spec["names"]["categories"] == ["poolmgr"]
    assert spec["names"]["plural"] == plural
    assert spec["versions"][0]["name"] == "v1alpha1"
    assert spec["versions"][0]["subresources"] == {"status": {}}


@pytest.mark.parametrize(
    ("plural", "path", "words"),
    [
        ("gpupools", "spec.rebalance.mode", RebalanceMode),
        ("gpupools", "spec.rebalance.granularity", Granularity),
        ("gpupools", "spec.rebalance.eviction", EvictionRule),
        ("gpupools", "spec.idleVM.action", IdleVmAction),
        ("gpunodes", "spec.devices.[].mode", Mode),
        ("gpunodes", "spec.transition.toMode", Mode),
        ("gpunodes", "spec.transition.step", Step),
        ("gpunodes", "status.devices.[].phase", DevicePhase),
        ("gpureservations", "spec.mode", Mode),
    ],
)
def test_enums_are_those_of_the_domain(plural: str, path: str, words: type[StrEnum]) -> None:
    assert set(at(plural, path)["enum"]) == {word.value for word in words}


def test_defaults_are_those_of_the_domain() -> None:
    pool = Pool(PoolName("p"))
    rebalance = at("gpupools", "spec.rebalance")["properties"]
    assert rebalance["mode"]["default"] == pool.rebalance
    assert rebalance["granularity"]["default"] == pool.granularity
    assert rebalance["cooldownSeconds"]["default"] == pool.cooldown_seconds
    assert rebalance["maxInFlight"]["default"] == pool.max_in_flight
    assert rebalance["eviction"]["default"] == pool.eviction
    assert rebalance["drainTimeoutSeconds"]["default"] == pool.drain_timeout_seconds
    idle = at("gpupools", "spec.idleVM")["properties"]
    assert idle["action"]["default"] == pool.idle_vm.action
    assert idle["idleAfterSeconds"]["default"] == pool.idle_vm.idle_after_seconds
    assert idle["noticeSeconds"]["default"] == pool.idle_vm.notice_seconds
    for side in ("passthrough", "shared"):
        limits = at("gpupools", f"spec.{side}")["properties"]
        assert (limits["min"]["default"], limits["headroom"]["default"]) == (0, 0)
        assert "default" not in limits["max"]


def test_gpunodes_columns_are_what_an_operator_asks_first() -> None:
    columns = crd("gpunodes")["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [c["name"] for c in columns if not c.get("priority")] == [
        "GPUs",
        "Passthrough",
        "Shared",
        "Moving",
        "Trouble",
        "Last Seen",
        "Age",
    ]
