"""The agent's requests and how answers are understood, on a server in memory."""

import json
import ssl
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from poolmgr.agent.apiserver import ApiServer
from poolmgr.agent.credentials import Credentials
from poolmgr.agent.observe import Pods
from poolmgr.agent.podresources import PodName
from poolmgr.domain.errors import Fault, PoolError, Stale, Unavailable
from poolmgr.domain.identifiers import NodeName
from poolmgr.wire.http_errors import error_of
from poolmgr.wire.lease import node_of_agent_lease
from tests.fake_node import FakeClock

Answer = Callable[[httpx.Request], httpx.Response]


def server(answer: Answer) -> ApiServer:
    credentials = Credentials("https://api:6443", ssl.create_default_context(), token="t0")
    return ApiServer(credentials, NodeName("n1"), FakeClock(), httpx.MockTransport(answer))


async def test_makes_the_missing_gpunode_and_gives_it_to_the_node() -> None:
    made = {}

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer t0"
        match request.method, request.url.path:
            case "GET", "/apis/poolmgr.io/v1alpha1/gpunodes/n1":
                return httpx.Response(404, json={"message": "not found"})
            case "GET", "/api/v1/nodes/n1":
                return httpx.Response(200, json={"metadata": {"uid": "u-1"}})
            case "POST", "/apis/poolmgr.io/v1alpha1/gpunodes":
                made.update(json.loads(request.content))
                return httpx.Response(201, json=made)
        raise AssertionError(request.url)

    await server(answer).read_or_create()
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u-1"}
    ]


async def test_the_status_is_patched_under_its_version() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path.endswith("/gpunodes/n1/status")
        assert request.headers["content-type"] == "application/merge-patch+json"
        return httpx.Response(200, json=json.loads(request.content))

    patched = await server(answer).patch_status({"summary": {}}, "41")
    assert patched["metadata"] == {"resourceVersion": "41"}


async def test_the_heartbeat_is_the_nodes_own_lease_and_differs_each_time() -> None:
    leases: dict[str, dict[str, Any]] = {}
    path = "/apis/coordination.k8s.io/v1/namespaces/poolmgr-system/leases"

    def answer(request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path:
            case "PATCH", found if found == f"{path}/poolmgr-agent-n1":
                if not leases:
                    return httpx.Response(404, json={"message": "not found"})
                leases["poolmgr-agent-n1"]["spec"] |= json.loads(request.content)["spec"]
                return httpx.Response(200, json=leases["poolmgr-agent-n1"])
            case "GET", "/api/v1/nodes/n1":
                return httpx.Response(200, json={"metadata": {"uid": "u-1"}})
            case "POST", found if found == path:
                body = json.loads(request.content)
                leases[body["metadata"]["name"]] = body
                return httpx.Response(201, json=body)
        raise AssertionError(request.url)

    api = server(answer)
    renewed = []
    for _ in range(2):
        await api.beat()
        renewed.append(leases["poolmgr-agent-n1"]["spec"]["renewTime"])
        api._clock.time += 20.0  # type: ignore[attr-defined]
    assert renewed[0] != renewed[1]
    assert leases["poolmgr-agent-n1"]["metadata"]["labels"] == {"poolmgr.io/heartbeat": "agent"}
    assert leases["poolmgr-agent-n1"]["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert node_of_agent_lease("poolmgr-agent-n1") == "n1"
    assert node_of_agent_lease("poolmgr-manager") is None


@pytest.mark.parametrize("status", [302, 304, 400, 401, 403, 404, 408, 409, 410, 412, 422, 429, 500, 503])
async def test_an_answer_means_to_the_agent_what_it_means_to_the_manager(status: int) -> None:
    api = server(lambda request: httpx.Response(status, json={"message": "says why"}))
    with pytest.raises(PoolError, match="says why") as raised:
        await api.patch_status({}, "1")
    meant = error_of(status, b'{"message": "says why"}', "PATCH /x")
    assert (type(raised.value), raised.value.reason) == (type(meant), meant.reason)


async def test_a_server_that_comes_back_is_asked_again() -> None:
    answers = iter(
        [httpx.Response(503, json={}), httpx.ConnectError("down"), httpx.Response(200, json={"a": 1})]
    )

    def answer(request: httpx.Request) -> httpx.Response:
        one = next(answers)
        if isinstance(one, Exception):
            raise one
        return one

    assert await server(answer).read_or_create() == {"a": 1}


async def test_watch_yields_objects_and_says_when_its_version_is_too_old() -> None:
    lines = [
        {"type": "MODIFIED", "object": {"metadata": {"resourceVersion": "2"}}},
        {"type": "DELETED", "object": {"metadata": {"resourceVersion": "3"}}},
        {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}},
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["fieldSelector"] == "metadata.name=n1"
        return httpx.Response(200, text="\n".join(json.dumps(line) for line in lines))

    seen = []
    with pytest.raises(Stale, match="too old"):
        async for body in server(answer).watch("1"):
            seen.append(body)
    assert seen == [{"metadata": {"resourceVersion": "2"}}, {}]


async def test_watch_that_the_server_ends_for_another_reason_goes_on_from_the_same_version() -> None:
    line = {"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}}
    with pytest.raises(Unavailable, match="etcd is away"):
        async for _ in server(lambda r: httpx.Response(200, text=json.dumps(line))).watch("1"):
            pass


@pytest.mark.parametrize("text", ["this is no event", '{"type": "ADDED"}', "[" * 100_000])
async def test_line_that_is_no_event_ends_the_watch_and_not_the_agent(text: str) -> None:
    with pytest.raises(Unavailable):
        async for _ in server(lambda r: httpx.Response(200, text=text)).watch("1"):
            pass


@pytest.mark.parametrize(
    "annotation",
    ["GPU-a,NVIDIA,3000,30:;", "GPU-a[2g.10gb-0],NVIDIA,100,10:;", " GPU-a ,NVIDIA,100,10:;", "GPU-a:;"],
)
async def test_no_form_of_hamis_annotation_hides_a_gpu_from_the_last_look(annotation: str) -> None:
    held = {"hami.io/vgpu-devices-allocated": annotation}
    pods = [{"metadata": {"namespace": "ml", "name": "t", "uid": "u1", "annotations": held}}]
    found = await server(lambda r: httpx.Response(200, json={"items": pods})).list_pods()
    assert found.slices == {"GPU-a": ("ml/t",)}


async def test_gpu_of_a_mig_allocation_alone_is_seen_and_no_list_of_pods_at_all_is_none() -> None:
    held = {"hami.io/vgpu-mig-allocations": '[{"gpuUUID": "GPU-a"}]'}
    pods = [{"metadata": {"namespace": "ml", "name": "t", "uid": "u1", "annotations": held}}]
    found = await server(lambda r: httpx.Response(200, json={"items": pods})).list_pods()
    assert found.slices == {"GPU-a": ("ml/t",)}
    nobody = await server(lambda r: httpx.Response(200, json={"items": None})).list_pods()
    assert nobody == Pods({}, {}, frozenset())


async def test_a_pod_with_a_deep_field_that_nobody_reads_hides_no_other() -> None:
    deep = (
        '{"metadata": {"namespace": "x", "name": "d", "uid": "u0", "managedFields": '
        + "[" * 5_000
        + "]" * 5_000
        + "}}"
    )
    held = '{"metadata": {"namespace": "ml", "name": "t", "uid": "u1", "annotations": {"hami.io/vgpu-devices-allocated": "GPU-a:;"}}}'
    found = await server(lambda r: httpx.Response(200, text=f'{{"items": [{deep}, {held}]}}')).list_pods()
    assert found.uids == {PodName("x", "d"): "u0", PodName("ml", "t"): "u1"}
    assert found.slices == {"GPU-a": ("ml/t",)}


@pytest.mark.parametrize("status", [302, 304, 307])
async def test_a_redirect_is_no_list_without_pods(status: int) -> None:
    api = server(lambda request: httpx.Response(status, json={"items": []}))
    with pytest.raises(PoolError, match=f"HTTP {status}"):
        await api.list_pods()


@pytest.mark.parametrize(
    "answer",
    [
        {"items": [{"metadata": {"name": 7}}]},
        {},
        {"kind": "Status", "status": "Success"},
        {"item": []},
        {"items": [], "metadata": {"continue": "x"}},
    ],
    ids=["a name that is none", "nothing", "another object", "a misspelt list", "a part of one"],
)
async def test_what_cannot_be_read_as_a_list_of_pods_is_no_list_without_pods(answer: dict[str, Any]) -> None:
    with pytest.raises(Fault, match="nothing is moved"):
        await server(lambda r: httpx.Response(200, json=answer)).list_pods()


@pytest.mark.parametrize("none", [[], None])
async def test_a_list_without_pods_is_one(none: object) -> None:
    assert not (await server(lambda r: httpx.Response(200, json={"items": none})).list_pods()).uids


async def test_pods_give_uids_and_who_has_slices_of_which_gpu() -> None:
    allocated = "GPU-a,NVIDIA,3000,30:GPU-b,NVIDIA,3000,30:;"
    pods = [
        {"metadata": {"namespace": "ml", "name": "t", "uid": "u1", "annotations": {"hami.io/vgpu-devices-allocated": allocated}}},
        {"metadata": {"namespace": "ml", "name": "done", "uid": "u2", "annotations": {"hami.io/vgpu-devices-allocated": allocated}}, "status": {"phase": "Succeeded"}},
        {"metadata": {"namespace": "web", "name": "w", "uid": "u3"}, "spec": {"resourceClaims": [{"name": "gpu"}]}},
    ]  # fmt: skip
    found = await server(lambda r: httpx.Response(200, json={"items": pods})).list_pods()
    assert found.uids[PodName("web", "w")] == "u3"
    assert found.slices == {"GPU-a": ("ml/t",), "GPU-b": ("ml/t",)}
    assert found.claimers == {PodName("web", "w")}
