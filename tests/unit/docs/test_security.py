"""SECURITY names every resource that the chart's roles let a part write, and links what stops an attack."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "SECURITY.md").read_text()
ROLES = ROOT / "helm/poolmgr/templates"
WRITING = {"create", "patch", "update", "delete"}


def row(part: str) -> str:
    found = re.search(rf"^\| {part} \|.*$", TEXT, re.M)
    assert found is not None
    return found[0]


def written_by(part: str) -> set[str]:
    """Resources that the part's roles let it write."""
    rules = re.findall(
        r"resources: \[([^]]+)\]\n(?:.*resourceNames:.*\n)?\s+verbs: \[([^]]+)\]", roles_of(part)
    )
    assert len(rules) == roles_of(part).count("verbs: ["), "every rule is read"
    return {
        resource.strip()
        for resources, verbs in rules
        if WRITING & {verb.strip() for verb in verbs.split(",")}
        for resource in resources.split(",")
    }


def roles_of(part: str) -> str:
    return (ROLES / f"{part}-rbac.yaml").read_text()


@pytest.mark.parametrize("part", ["agent", "manager", "webhook"])
def test_what_a_part_may_write_is_named(part: str) -> None:
    assert written_by(part)
    assert {resource for resource in written_by(part) if f"`{resource}`" not in row(part)} == set()


def test_only_the_agent_is_privileged() -> None:
    privileged = {f.name for f in ROLES.glob("*.yaml") if "privileged: true" in f.read_text()}
    assert privileged == {"agent-daemonset.yaml"}
    assert "| agent | privileged" in TEXT
    assert TEXT.count("| unprivileged |") == 2


@pytest.mark.parametrize("part", ["agent", "manager"])
def test_what_may_read_no_secrets_has_no_right_to(part: str) -> None:
    assert "secrets" not in roles_of(part).lower()
    assert "`secrets`" not in row(part)
