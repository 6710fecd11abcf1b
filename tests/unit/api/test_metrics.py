"""Metrics: named by Prometheus' rules, there at 0, counted as things happen; the board and the page ask for what exists."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from poolmgr.domain.fleet import EvictionRule, Pool
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.modes import Mode, Step
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.fleet import A10, A10_RESOURCE
from poolmgr.sim.world import PodRequest, VmRequest
from tests.unit.controller.rig import Rig
from tests.unit.helm.scrapes import FILES, promtool, scrape

PAGE = Path(__file__).parents[3] / "docs/how-to/monitor.md"
POOL = Pool(PoolName("a10"), models=(A10,), max_in_flight=8, cooldown_seconds=0)
NAME = re.compile(r"\bpoolmgr_[a-z_]+\b")


def samples(controller) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(scrape(controller))
        for sample in family.samples
    }


def value(controller, name: str, **labels: str) -> float:
    return samples(controller)[name, tuple(sorted(labels.items()))]


async def worked(**over) -> tuple[Rig, object]:
    rig = Rig(pools=(POOL,), **over)
    controller = rig.controller(PoolPlanner())
    await rig.run(controller, 5.0)
    return rig, controller


async def test_names_and_types_keep_to_prometheus_rules() -> None:
    _, controller = await worked()
    assert checked(scrape(controller)) == (0, "", "")


def checked(text: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


async def test_series_are_there_before_anything_has_happened() -> None:
    _, controller = await worked()
    for mode in Mode:
        for result in ("started", "completed", "rolled_back"):
            assert value(controller, "poolmgr_moves_total", result=result, to_mode=mode.value) == 0
        for step in Step:
            assert value(controller, "poolmgr_moves_in_flight", to_mode=mode.value, step=step.value) == 0
        trouble = {"pool": "a10", "model": A10, "mode": mode.value, "state": "Trouble"}
        assert value(controller, "poolmgr_gpus", **trouble) == 0
    for kind in ("VM", "Pod"):
        assert value(controller, "poolmgr_wait_duration_seconds_count", kind=kind) == 0
        assert value(controller, "poolmgr_longest_wait_seconds", kind=kind) == 0
    assert value(controller, "poolmgr_evictions_total", result="asked") == 0
    assert value(controller, "poolmgr_defects_total") == 0


async def test_a_move_and_the_wait_that_it_ends_are_counted_once() -> None:
    rig, controller = await worked(gpus=2)
    rig.fleet.kube.create_vm(VmRequest("ada", rig.fleet.clock.now(), 10_000.0, A10_RESOURCE))
    await rig.run(controller, 200.0)
    for result in ("started", "completed"):
        assert value(controller, "poolmgr_moves_total", result=result, to_mode="Passthrough") == 1
    assert value(controller, "poolmgr_moves_total", result="rolled_back", to_mode="Passthrough") == 0
    assert value(controller, "poolmgr_move_duration_seconds_count", to_mode="Passthrough") == 1
    assert value(controller, "poolmgr_step_duration_seconds_count", step="Rebind") == 1
    assert value(controller, "poolmgr_wait_duration_seconds_count", kind="VM") == 1
    waited = value(controller, "poolmgr_wait_duration_seconds_sum", kind="VM")
    assert 20.0 <= waited <= 200.0
    assert value(controller, "poolmgr_plugin_stops_total") == 1
    assert value(controller, "poolmgr_closed_seconds_total") > 0
    second = rig.controller(PoolPlanner())
    await rig.run(second, 10.0)
    assert value(second, "poolmgr_plugin_stops_total") == 0, "what another manager did is not counted again"


async def test_a_move_that_is_undone_is_counted_by_step_and_reason() -> None:
    rig, controller = await worked(gpus=1)
    rig.fleet.agents.faults.remaining[NodeName("node-1"), rig.address(0)] = 1
    rig.fleet.kube.create_vm(VmRequest("ada", rig.fleet.clock.now(), 10_000.0, A10_RESOURCE))
    for _ in range(
        60
    ):  # not `rig.run`: on a card that refuses its driver the promises of a good one do not hold
        await controller.tick()
        await rig.fleet.clock.run_for(5.0)
    assert value(controller, "poolmgr_moves_total", result="rolled_back", to_mode="Passthrough") == 1
    undone = {k: v for k, v in samples(controller).items() if k[0] == "poolmgr_moves_undone_total" and v}
    assert undone == {("poolmgr_moves_undone_total", (("reason", "BindFailed"), ("step", "Rebind"))): 1}


async def test_evictions_are_counted() -> None:
    rig = Rig(pools=(replace(POOL, eviction=EvictionRule.BEST_EFFORT),), gpus=1)
    controller = rig.controller(PoolPlanner())
    rig.fleet.kube.create_pod(
        PodRequest("lent", rig.fleet.clock.now(), 1e6, 20_000, 80, best_effort=True, evictable=True)
    )
    await rig.run(controller, 30.0)
    rig.fleet.kube.create_vm(VmRequest("ada", rig.fleet.clock.now(), 1e6, A10_RESOURCE))
    await rig.run(controller, 3_600.0, every=5.0)
    assert rig.fleet.actuators.evictions == 1
    assert value(controller, "poolmgr_evictions_total", result="asked") >= 1
    assert value(controller, "poolmgr_evictions_total", result="denied") == 0


async def test_board_rules_and_page_name_only_metrics_that_exist_and_the_page_all_of_them() -> None:
    _, controller = await worked()
    text = scrape(controller)
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    series = {name for name, _ in samples(controller)} | families
    board = json.loads((FILES / "dashboard.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(asked) > 20
    for expression in [*asked, (FILES / "alerts.yaml").read_text()]:
        assert set(NAME.findall(expression)) <= series, expression
    said = set(NAME.findall(PAGE.read_text()))
    assert said <= series, "the page names one that is not there"
    assert families <= said, "the page leaves one out"


def test_the_board_has_panels_that_grafana_can_place() -> None:
    board = json.loads((FILES / "dashboard.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    cells = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not mine & cells, f"{panel['title']} lies on another panel"
        cells |= mine
