"""`POST /pools/{name}:rebalance`: the plan with its reasons, or a problem and nothing changed."""

import pytest

from poolmgr.domain.errors import Fault, PoolError, Rejected, Stale, Unavailable
from poolmgr.domain.reasons import Reason
from tests.unit.api.stand_ins import Records, Steering, client

URL = "/api/v1/pools/desktops:rebalance"


async def test_answers_every_move_and_refusal_with_code_and_sentence() -> None:
    control = Steering()
    async with client(control) as http:
        answer = await http.post(URL, json={"dryRun": True, "generation": 3})
    assert answer.status_code == 200
    body = answer.json()
    assert control.asked == [("desktops", True, 3)]
    assert body["dryRun"] is True
    assert [(m["reason"], m["message"]) for m in body["plan"]["moves"]] == [
        ("VmWaiting", "VM cad/ada-workstation waits for an A10; this one is idle")
    ]
    assert {r["reason"] for r in body["plan"]["refusals"]} == {"GpuBusy", "MoveUnderWay"}
    assert body["started"] == body["plan"]["moves"]
    assert body["heldBack"] == []


@pytest.mark.parametrize(
    ("error", "status", "code", "kind"),
    [
        (
            Rejected(Reason.POOL_NOT_FOUND, "there is no pool 'x'; the cluster has: a"),
            404,
            "PoolNotFound",
            "Rejected",
        ),
        (Stale(Reason.STALE_GENERATION, "pool is at 4, you saw 3"), 412, "StaleGeneration", "Stale"),
        (Unavailable(Reason.NOT_LEADER, "another holds the lease", 4.2), 503, "NotLeader", "Unavailable"),
        (Rejected(Reason.QUOTA_EXCEEDED, "no"), 409, "QuotaExceeded", "Rejected"),
        (Fault(Reason.INVARIANT_BROKEN, "twice advertised"), 500, "InvariantBroken", "Fault"),
    ],
)
async def test_refusals_are_problems(error: PoolError, status: int, code: str, kind: str) -> None:
    async with client(Steering(refuse=error)) as http:
        answer = await http.post(URL, json={"dryRun": False})
    problem = answer.json()
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == code
    assert problem["reason"] == kind
    assert problem["detail"] == error.message
    assert problem["instance"] == URL
    assert answer.headers.get("retry-after") == ("5" if status == 503 else None)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "body: field required"),
        (b"{", "it is not JSON"),
        (b"{}", "dryRun: field required"),
        (b'{"dryRun": "yes"}', "dryRun: input should be a valid boolean"),
        (b'{"dryRun": true, "generation": -1}', "generation: input should be greater than or equal to 0"),
        (b'{"dryRun": true, "force": true}', "force: extra inputs are not permitted"),
        (b"[]", "body: input should be a valid"),
    ],
)
async def test_bad_body_is_422_naming_the_field_and_asks_nothing(content: bytes, sentence: str) -> None:
    control = Steering()
    async with client(control) as http:
        answer = await http.post(URL, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "InvalidBody"
    assert sentence in answer.json()["detail"]
    assert control.asked == []


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic c2VjcmV0"])
async def test_without_the_token_nothing_is_asked_and_nothing_is_kept(header: str | None) -> None:
    control, records = Steering(), Records()
    async with client(control, records, token="secret") as http:
        answer = await http.post(
            URL, json={"dryRun": True}, headers={"authorization": header} if header else {}
        )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert control.asked == []
    assert records.calls == [], "whoever reaches the port could fill the ledger"


async def test_call_with_the_token_is_kept_with_its_answer() -> None:
    records = Records()
    async with client(records=records, token="secret") as http:
        answer = await http.post(
            URL,
            json={"dryRun": True},
            headers={"authorization": "Bearer secret", "x-request-id": "change-42"},
        )
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "change-42"
    [call] = records.calls
    assert (call.method, call.path, call.status, call.dry_run) == ("POST", URL, 200, True)
    assert call.caller.startswith("token at ")
    assert call.request_id == "change-42"


async def test_ledger_that_is_down_stops_no_call() -> None:
    async with client(records=Records(down=True)) as http:
        assert (await http.post(URL, json={"dryRun": True})).status_code == 200
