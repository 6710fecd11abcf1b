"""Verbs that change something: pause, resume, rebalance; and the manager's history."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from poolmgr.api.app import create_app
from poolmgr.api.auth import OpenAccess, TokenAccess
from poolmgr.domain.backoff import Backoff
from poolmgr.domain.errors import Unavailable
from poolmgr.domain.history import PastStep, PastTransition
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.reasons import Reason
from tests.unit.api.stand_ins import Records, Steering, StillClock
from tests.unit.cli.daily.cluster import Cluster, heartbeat, lease
from tests.unit.cluster import builders as build

POOL = "/apis/poolmgr.io/v1alpha1/gpupools/desktops"


def mode(cluster: Cluster) -> str:
    return str(cluster.api.get(POOL)["spec"]["rebalance"]["mode"])


@pytest.mark.parametrize("before", ["Automatic", "Recommend"])
def test_a_paused_pool_is_off_and_comes_back_as_it_was(cluster: Cluster, before: str) -> None:
    cluster.put(build.pool("desktops", rebalance={"mode": before, "maxInFlight": 4}))
    assert f"is paused: nothing is planned for it, moves under way are finished (before: {before})" in (
        cluster.answers("pause", "desktops")
    )
    assert mode(cluster) == "Off"
    assert "was Off already" in cluster.answers("pause", "desktops")
    assert cluster.answers("resume", "desktops") == f"pool desktops is {before} again\n"
    assert cluster.api.get(POOL)["spec"]["rebalance"] == {"mode": before, "maxInFlight": 4}
    assert not cluster.api.get(POOL)["metadata"]["annotations"]


def test_a_pool_that_somebody_else_set_off_is_not_resumed_by_guess(cluster: Cluster) -> None:
    cluster.put(build.pool("desktops", rebalance={"mode": "Off"}))
    result = cluster.run("resume", "desktops")
    assert result.exit_code == 1
    assert "give the mode to set with --mode" in result.stderr
    cluster.answers("resume", "desktops", "--mode", "Recommend")
    assert mode(cluster) == "Recommend"


def test_a_pool_that_is_not_there_cannot_be_paused(cluster: Cluster) -> None:
    assert cluster.run("pause", "desktops").exit_code == 1


@pytest.fixture
def manager(cluster: Cluster) -> Steering:
    """A manager's REST API at --server, without a socket."""
    control = Steering()
    moved = PastTransition(
        plan_id="p-1",
        node="gpu-1",
        devices=("0000:3b:00.0",),
        to_mode="Passthrough",
        started_at=build.CREATED_AT,
        ended_at=build.CREATED_AT + 150,
        rolled_back=True,
        steps=(PastStep("Rebind", "StepTimedOut", "the agent did not answer", build.CREATED_AT + 150, 3),),
    )
    serve(cluster, control, Records(past_transitions=(moved,)), OpenAccess())
    return control


def serve(cluster: Cluster, control: Steering, records: Records, access: Any) -> None:
    app = create_app(control=control, history=records, audit=records, clock=StillClock(), access=access)

    async def answer(request: httpx.Request) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as inside:
            found = await inside.request(
                request.method, request.url, content=request.read(), headers=request.headers
            )
            return httpx.Response(found.status_code, headers=found.headers, content=found.content)

    def http(server: str, token: str) -> httpx.Client:
        transport = httpx.MockTransport(lambda request: asyncio.run(answer(request)))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=server, headers=headers, transport=transport)

    cluster.around = replace(cluster.around, http=http)


def test_rebalance_says_what_it_started_or_would(cluster: Cluster, manager: Steering) -> None:
    said = cluster.answers("rebalance", "desktops", "--dry-run", "--server", "http://manager")
    assert said.startswith("desktops: would start 1 move(s)\n")
    assert "VM cad/ada-workstation waits for an A10; this one is idle (VmWaiting)" in said
    assert "started 1 move(s)" in cluster.answers("rebalance", "desktops", "--server", "http://manager")
    assert manager.asked == [("desktops", True, None), ("desktops", False, None)]


def test_the_managers_no_is_told_in_its_own_words(cluster: Cluster, manager: Steering) -> None:
    manager.refuse = Unavailable(Reason.NOT_LEADER, "another manager leads", 4.0)
    result = cluster.run("rebalance", "desktops", "--server", "http://manager")
    assert result.exit_code == 1
    assert result.stderr == "poolmgr: another manager leads (NotLeader)\n"


def test_who_has_no_token_is_told_how_to_get_one(cluster: Cluster) -> None:
    serve(cluster, Steering(), Records(), TokenAccess("secret"))
    result = cluster.run("rebalance", "desktops", "--server", "http://manager")
    assert result.exit_code == 1
    assert "--token or POOLMGR_TOKEN" in result.stderr
    words = ("rebalance", "desktops", "--server", "http://manager", "--token", "secret")
    assert cluster.run(*words).exit_code == 0


def test_history_tells_how_moves_ended(cluster: Cluster, manager: Steering) -> None:
    assert cluster.answers("history", "--server", "http://manager") == (
        "STARTED                NODE    GPUS           TO            OUTCOME      TOOK   LAST REASON\n"
        "2026-11-22T10:00:00Z   gpu-1   0000:3b:00.0   Passthrough   RolledBack   2m     StepTimedOut\n"
    )


def test_without_a_leader_there_is_nobody_to_ask(cluster: Cluster) -> None:
    for there in ([], [lease(holder="")]):
        result = cluster.put(*there).run("history")
        assert result.exit_code == 1
        assert "no manager leads in this cluster" in result.stderr


def test_the_leader_is_reached_by_kubectl(cluster: Cluster, tmp_path: Path) -> None:
    """A stand-in for kubectl that notes its words; nobody listens where it leads."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f"#!/bin/sh\necho \"$@\" > {tmp_path}/words\necho 'Forwarding from 127.0.0.1:9 -> 8080'\nexec sleep 60\n"
    )
    kubectl.chmod(0o755)
    result = cluster.put(lease()).run("history", "--token", "t", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert "the manager at http://127.0.0.1:9" in result.stderr
    words = (tmp_path / "words").read_text()
    assert "-n poolmgr-system pod/poolmgr-manager-7c9d :http" in words


def test_retry_ends_the_rest_of_one_gpu_or_of_a_node(cluster: Cluster, manager: Steering) -> None:
    address = PciAddress("0000:3b:00.0")
    manager.resting = (Backoff(address, "BindFailed", "vfio-pci refused it", 2, 0.0, build.CREATED_AT + 600),)
    said = cluster.answers("retry", "gpu-1/0000:3b:00.0", "--dry-run", "--server", "http://manager")
    assert said == (
        "gpu-1: would end 1 rest(s)\n"
        "  0000:3b:00.0, until 2026-11-22T10:10:00Z: vfio-pci refused it (BindFailed)\n"
    )
    manager.resting = ()
    assert "nothing rests there" in cluster.answers("retry", "gpu-1", "--server", "http://manager")
    assert manager.retried == [("gpu-1", (address,), True), ("gpu-1", (), False)]


def test_a_cordoned_gpu_is_not_moved_for_a_vm_that_waits_until_it_is_uncordoned(cluster: Cluster) -> None:
    cluster.put(
        build.pool("desktops"),
        build.node("gpu-1"),
        build.adopted("gpu-1", [build.device("0000:3b:00.0")]),
        build.vmi("bob"),
        build.launcher("bob"),
        heartbeat("gpu-1"),
    )
    assert "moves to Passthrough" in cluster.answers("explain", "gpu", "gpu-1/0000:3b:00.0")
    assert cluster.answers("cordon", "gpu-1/0000:3b:00.0").startswith("gpu-1/0000:3b:00.0: cordoned;")
    assert "cordoned before" in cluster.answers("cordon", "gpu-1/0000:3B:00.0")
    assert "stays   GpuCordoned: GPU 0000:3b:00.0 on gpu-1" in cluster.answers(
        "explain", "gpu", "gpu-1/0000:3b:00.0"
    )
    assert "NoCandidate" in cluster.answers("explain", "vm", "bob")
    assert cluster.answers("uncordon", "gpu-1/0000:3b:00.0") == (
        "gpu-1/0000:3b:00.0: uncordoned; it moves again where it is needed\n"
    )
    assert "moves to Passthrough" in cluster.answers("explain", "gpu", "gpu-1/0000:3b:00.0")


def test_a_node_is_cordoned_and_uncordoned_as_a_whole(cluster: Cluster) -> None:
    cluster.put(build.gpu_node("gpu-1", [build.device("0000:3b:00.0")]))
    cluster.answers("cordon", "gpu-1")
    result = cluster.run("uncordon", "gpu-1/0000:3b:00.0")
    assert (result.exit_code, "uncordon gpu-1, then cordon" in result.stderr) == (1, True)
    assert cluster.answers("uncordon", "gpu-1").startswith("gpu-1, all GPUs: uncordoned\n")
    assert cluster.answers("uncordon", "gpu-1").startswith("gpu-1, all GPUs: was not cordoned\n")
    assert "it has 0000:3b:00.0" in cluster.run("cordon", "gpu-1/0000:3c:00.0").stderr
