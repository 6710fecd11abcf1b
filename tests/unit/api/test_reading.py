"""The reading side: what is now from the controller, what was from the ledger."""

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from poolmgr.domain.backoff import WHOLE_NODE, Backoff, Disturbance
from poolmgr.domain.census import Count
from poolmgr.domain.history import DemandSample, PastPlan, PastStep, PastTransition
from poolmgr.domain.identifiers import PciAddress, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import QuotaUse, ReservationPhase, ReservationState, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.reservation import Holders, Reservation, Window
from tests.showcase import NOW, fleet, plan
from tests.unit.api.stand_ins import Records, Steering, client


async def test_pools_show_bounds_numbers_and_targets() -> None:
    async with client() as http:
        [pool] = (await http.get("/api/v1/pools")).json()["items"]
        assert (await http.get("/api/v1/pools/desktops")).json() == pool
    assert pool["generation"] == 3
    assert pool["passthrough"] == {"min": 0, "max": 6, "headroom": 0, "gpus": 3, "used": 2, "target": 4}
    assert pool["shared"]["target"] == 3
    assert (pool["moving"], pool["trouble"], pool["waitingVMs"], pool["waitingPods"]) == (1, 1, 1, 1)


async def test_quotas_of_a_pool_show_limit_and_use_and_are_metrics() -> None:
    use = QuotaUse(fleet().pools[0].name, "cad", 3.0, 2.0, used=1.25, waiting=1.0)
    of_another = replace(use, pool=PoolName("other"), max_gpus=None)
    async with client(Steering(plan=replace(plan(), quota_uses=(use, of_another)))) as http:
        pool = (await http.get("/api/v1/pools/desktops")).json()
        text = (await http.get("/metrics")).text
    assert pool["quotas"] == [{"namespace": "cad", "maxGPUs": 3, "weight": 2, "used": 1.25, "waiting": 1}]
    assert 'poolmgr_quota_used_gpus{namespace="cad",pool="desktops"} 1.25' in text
    assert text.count("poolmgr_quota_limit_gpus{") == 1


async def test_reservations_show_where_they_stand() -> None:
    promised = Reservation(
        "uni", "course", "NVIDIA A10", 2, Mode.PASSTHROUGH, (Window(NOW, NOW + 60),), Holders(frozenset())
    )
    state = ReservationState(
        "uni", "course", 1, ReservationPhase.ACTIVE, (NOW, NOW + 60), 2, 1, 1, (), True,
        Reason.RESERVATION_READY, "all 2 GPU(s) are ready",
    )  # fmt: skip
    snapshot = replace(fleet(), reservations=(promised, replace(promised, name="new")))
    async with client(Steering(snapshot, replace(plan(), reservations=(state,)))) as http:
        course, new = (await http.get("/api/v1/reservations")).json()["items"]
        page = (await http.get("/")).text
    assert (course["phase"], course["ready"], course["used"], course["kept"]) == ("Active", 2, 1, 1)
    assert course["window"]["start"] < course["window"]["end"]
    assert (new["phase"], new["window"], new["reason"]) == ("", None, "")
    assert "uni/course" in page
    assert "All 2 GPU(s) are ready." in page


async def test_wrong_pool_name_says_which_there_are() -> None:
    async with client() as http:
        answer = await http.get("/api/v1/pools/a11")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "there is no pool 'a11'; the cluster has: desktops"


async def test_nodes_show_each_gpu_with_its_users_and_its_trouble() -> None:
    async with client() as http:
        first, second = (await http.get("/api/v1/nodes")).json()["items"]
    assert first["gpus"][0]["users"] == ["VM cad/grace"]
    assert first["gpus"][2]["users"] == ["pod ml/notebook-1"]
    assert first["gpus"][2]["share"] == 0.25
    assert second["transition"]["step"] == "Drain"
    assert [g["state"] for g in second["gpus"]] == ["InUse", "Moving", "Trouble", "Idle"]
    assert second["gpus"][2]["reason"] == "UnbindTimedOut"


async def test_node_says_whether_it_is_lent_to_best_effort_containers() -> None:
    plain, lent = fleet().nodes
    control = Steering(snapshot=fleet(nodes=(plain, replace(lent, best_effort_only=True))))
    async with client(control) as http:
        items = (await http.get("/api/v1/nodes")).json()["items"]
    assert [(n["name"], n["bestEffortOnly"]) for n in items] == [("rack-1", False), ("rack-2", True)]


async def test_pages_of_nodes_meet() -> None:
    async with client() as http:
        first = (await http.get("/api/v1/nodes?pageSize=1")).json()
        second = (await http.get(f"/api/v1/nodes?pageSize=1&pageToken={first['nextPageToken']}")).json()
    assert [n["name"] for n in first["items"] + second["items"]] == ["rack-1", "rack-2"]
    assert second["nextPageToken"] == ""


async def test_nodes_of_a_pool_nobody_has_are_none() -> None:
    async with client() as http:
        assert (await http.get("/api/v1/nodes?pool=other")).json()["items"] == []


async def test_plans_come_from_the_ledger_and_the_latest_from_memory() -> None:
    records = Records(past_plans=(PastPlan(plan(), "desktops", False, "started", 7),))
    async with client(records=records) as http:
        [past] = (await http.get("/api/v1/plans?pool=desktops&pageSize=5")).json()["items"]
        latest = (await http.get("/api/v1/plans/latest")).json()
    assert records.seen == {"pool": "desktops", "page_size": 5, "page_token": ""}
    assert (past["planId"], past["outcome"], past["refusalsLeftOut"]) == ("ab12cd34", "started", 7)
    assert latest["targets"][0]["passthrough"] == 4
    assert latest["madeAt"] == "2027-01-15T08:00:00Z"


async def test_transitions_join_running_and_past() -> None:
    step = PastStep("Intend", "StepDone", "written", NOW, 3)
    past = PastTransition("ab", "rack-1", ("0000:01:00.0",), "Shared", NOW, NOW + 9, False, (step,))
    async with client(records=Records(past_transitions=(past,))) as http:
        body = (await http.get("/api/v1/transitions")).json()
        other = (await http.get("/api/v1/transitions?node=rack-1")).json()
    assert [m["node"] for m in body["running"]] == ["rack-2"]
    assert body["items"][0]["steps"][0]["message"] == "written"
    assert other["running"] == []


async def test_samples_reach_back_from_the_newest_view() -> None:
    records = Records(past_samples=(DemandSample(NOW, Count(gpus=8, waiting_vms=1)),))
    async with client(records=records) as http:
        [sample] = (await http.get("/api/v1/samples?seconds=60")).json()["items"]
    assert records.seen == {"since": NOW - 60, "until": NOW, "pool": ""}
    assert (sample["gpus"], sample["waitingVMs"]) == (8, 1)


@pytest.mark.parametrize("path", ["plans", "transitions", "samples", "calls"])
async def test_history_without_a_ledger_is_503_with_retry_after(path: str) -> None:
    async with client(records=Records(down=True)) as http:
        answer = await http.get(f"/api/v1/{path}")
    assert answer.status_code == 503
    assert answer.json()["code"] == "StoreUnavailable"
    assert answer.headers["retry-after"] == "15"


async def test_the_present_needs_no_ledger() -> None:
    async with client(records=Records(down=True)) as http:
        for path in ("pools", "nodes", "plans/latest"):
            assert (await http.get(f"/api/v1/{path}")).status_code == 200


@pytest.mark.parametrize("path", ["pools", "nodes", "plans/latest", "transitions"])
async def test_before_the_first_complete_view_nothing_is_shown(path: str) -> None:
    control = Steering(
        snapshot=fleet(synced=False), readiness=Verdict(False, Reason.NOT_SYNCED, "not complete yet")
    )
    async with client(control) as http:
        answer = await http.get(f"/api/v1/{path}")
        ready = await http.get("/readyz")
        alive = await http.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["code"] == "NotSynced"
    assert (ready.status_code, ready.json()["message"]) == (503, "not complete yet")
    assert alive.status_code == 200


async def test_standby_is_ready_and_says_that_it_does_not_lead() -> None:
    control = Steering(readiness=Verdict(False, Reason.NOT_LEADER, "another manager holds the lease"))
    async with client(control) as http:
        ready = await http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["leading"] is False


async def test_no_plan_yet_is_404_with_the_reason() -> None:
    control = Steering(plan=None, readiness=Verdict(False, Reason.NOT_LEADER, "another holds the lease"))
    async with client(control) as http:
        answer = await http.get("/api/v1/plans/latest")
    assert answer.status_code == 404
    assert "another holds the lease" in answer.json()["detail"]


async def test_metrics_count_every_gpu_once() -> None:
    async with client() as http:
        text = (await http.get("/metrics")).text
    families = {f.name: f.samples for f in text_string_to_metric_families(text)}
    assert sum(s.value for s in families["poolmgr_gpus"]) == 8
    assert families["poolmgr_leading"][0].value == 1
    waiting = {s.labels["kind"]: s.value for s in families["poolmgr_waiting_workloads"]}
    assert waiting == {"VM": 1, "Pod": 1}
    (moving,) = [s for s in families["poolmgr_moves_in_flight"] if s.value]
    assert moving.labels == {"to_mode": "Passthrough", "step": "Drain"}


async def test_metrics_before_the_first_view_say_so() -> None:
    control = Steering(snapshot=None, readiness=Verdict(False, Reason.NOT_SYNCED, ""))
    async with client(control) as http:
        assert "poolmgr_synced 0.0" in (await http.get("/metrics")).text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/nothing", 404, "NotFound"),
        ("DELETE", "/api/v1/pools", 405, "MethodNotAllowed"),
        ("GET", "/api/v1/nodes?pageSize=0", 422, "InvalidRequest"),
    ],
)
async def test_framework_errors_are_problems_too(method: str, path: str, status: int, code: str) -> None:
    async with client() as http:
        answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_who_rests_and_what_moves_cost_is_told_with_each_node() -> None:
    seen = fleet()
    first = replace(
        seen.nodes[0],
        backoffs=(
            Backoff(WHOLE_NODE, "StepTimedOut", "Detach took over 240 s", 2, NOW - 60, NOW + 7_200),
            Backoff(PciAddress("0000:17:00.0"), "BindFailed", "long over", 1, NOW - 9_000, NOW - 60),
        ),
        disturbances=(Disturbance(NOW - 300, 2, 90.0), Disturbance(NOW - 9_000, 7, 90.0)),
    )
    seen = replace(seen, nodes=(first, *seen.nodes[1:]))
    async with client(Steering(snapshot=seen)) as http:
        node = (await http.get("/api/v1/nodes")).json()["items"][0]
        metrics = (await http.get("/metrics")).text
    (pause,) = node["pauses"]
    assert (pause["pciAddress"], pause["failures"], pause["message"]) == ("", 2, "Detach took over 240 s")
    assert (node["disturbance"]["pluginStops"], node["disturbance"]["closedSeconds"]) == (2, 90)
    assert 'poolmgr_paused{kind="Node",reason="StepTimedOut"} 1.0' in metrics
    assert f'poolmgr_node_plugin_stops_last_hour{{node="{first.name}"}} 2.0' in metrics
    assert f'poolmgr_node_closed_seconds_last_hour{{node="{first.name}"}} 90.0' in metrics
