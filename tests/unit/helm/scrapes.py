"""What Prometheus scrapes of the live controller on a simulated fleet, minute by minute, and what promtool makes of it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from poolmgr.api.metrics import FleetCollector

FILES = Path(__file__).parents[3] / "helm/poolmgr/files"
RULES = FILES / "alerts.yaml"
MINUTE = 60.0


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not here: tools/packages.sh alerts installs it")
    return found


def scrape(controller: Any) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector(controller))
    return generate_latest(registry).decode()


class Scrapes:
    """One sample of each series a minute; a series that is not there at a minute has none then."""

    def __init__(self) -> None:
        self._minutes: list[dict[str, float]] = []

    def take(self, controller: Any) -> None:
        series = {}
        for family in text_string_to_metric_families(scrape(controller)):
            for sample in family.samples:
                labels = ", ".join(f"{name}={json.dumps(value)}" for name, value in sample.labels.items())
                series[f"{sample.name}{{{labels}}}"] = sample.value
        self._minutes.append(series)

    @property
    def minutes(self) -> int:
        return len(self._minutes)

    def input_series(self) -> list[dict[str, str]]:
        names = sorted({name for minute in self._minutes for name in minute})
        return [
            {"series": name, "values": " ".join(_values([minute.get(name) for minute in self._minutes]))}
            for name in names
        ]

    def firing(self, alert: str, tmp_path: Path) -> bool:
        """Whether the alert fires at the last minute, by promtool: a test that expects silence fails then, with the alert."""
        at = f"{self.minutes - 1}m"
        test = {
            "rule_files": [str(RULES)],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": self.input_series(),
                    "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": []}],
                }
            ],
        }
        file = tmp_path / f"{alert}.yaml"
        file.write_text(yaml.safe_dump(test))
        done = subprocess.run(
            [promtool(), "test", "rules", str(file)], capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        if done.returncode == 0:
            return False
        assert f'alertname="{alert}"' in said, said
        return True


def _values(found: list[float | None]) -> list[str]:
    """As Prometheus keeps them: a series that is there no more is marked as stale."""
    reported = []
    for n, value in enumerate(found):
        gone = value is None and n > 0 and found[n - 1] is not None
        reported.append("stale" if gone else "_" if value is None else repr(value))
    return reported
