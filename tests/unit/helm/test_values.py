"""The chart's settings are ones that the programs know, and its schema covers every value."""

import json
import re
from pathlib import Path
from typing import Any

import typer
import yaml

from poolmgr.cli import agent, webhook
from poolmgr.cli.settings import known_variables

CHART = Path(__file__).parents[3] / "helm" / "poolmgr"
VARIABLE = re.compile(r"\b(POOLMGR_[A-Z0-9_]+)\b")


def variables_in(template: str) -> set[str]:
    return set(VARIABLE.findall((CHART / "templates" / template).read_text()))


def variables_of(app: typer.Typer, command: str) -> set[str]:
    options = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {option.envvar for option in options if option.envvar}


def test_the_manager_knows_every_variable_that_the_chart_sets() -> None:
    set_by_chart = variables_in("manager-configmap.yaml") | variables_in("manager-deployment.yaml")
    assert set_by_chart - {"POOLMGR_WEBHOOK_PORT"} <= set(known_variables())
    assert "POOLMGR_NAMESPACE" in set_by_chart


def test_the_webhook_knows_every_variable_that_the_chart_sets() -> None:
    set_by_chart = variables_in("webhook-configmap.yaml")
    assert set_by_chart <= variables_of(webhook.app, "serve")
    assert "POOLMGR_SERVING_NAMES" in set_by_chart


def test_the_agent_knows_every_variable_that_the_chart_sets() -> None:
    set_by_chart = variables_in("agent-daemonset.yaml") - {"POOLMGR_WEBHOOK_PORT"}
    assert {"POOLMGR_ACCELERATORS", "POOLMGR_NODE_HOOK"} <= set_by_chart
    assert set_by_chart <= variables_of(agent.app, "run")


def _undescribed(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> list[str]:
    missing = []
    for name, value in values.items():
        known = schema.get("properties", {}).get(name)
        if known is None:
            missing += [f"{path}{name}"] if schema.get("additionalProperties", True) is False else []
        elif isinstance(value, dict):
            missing += _undescribed(value, known, f"{path}{name}.")
    return missing


def test_the_schema_knows_every_value() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["additionalProperties"] is False
    assert _undescribed(values, schema) == []
