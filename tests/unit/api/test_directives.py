"""`POST /nodes/{name}:VERB`: what is asked, by whom, how far it is carried out, and that a refusal changes nothing."""

import pytest

from poolmgr.domain.directives import Verb
from poolmgr.domain.errors import Unavailable
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from tests.showcase import fleet
from tests.unit.api.stand_ins import Records, Steering, client

NODE = fleet().nodes[0]
BUSY, IDLE = NODE.gpus[0], NODE.gpus[-1]
URL = f"/api/v1/nodes/{NODE.name}"


async def test_a_gpu_is_quarantined_in_the_callers_name_with_the_reason() -> None:
    control, records = Steering(), Records()
    body = {"dryRun": False, "devices": [IDLE.pci_address.upper()], "reason": "fan fails"}
    async with client(control, records, token="secret") as http:
        headers = {"Authorization": "Bearer secret"}
        answer = await http.post(f"{URL}:quarantine", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    ((node, wanted, dry_run),) = control.directed
    assert (node, wanted.verb, wanted.devices, dry_run) == (
        NODE.name,
        Verb.QUARANTINE,
        (IDLE.pci_address,),
        False,
    )
    assert (wanted.note.reason, wanted.note.by[:5]) == ("fan fails", "token")
    found = answer.json()
    assert (found["changed"], [d["directive"] for d in found["directives"]]) == (True, ["quarantine"])
    assert [g["pciAddress"] for g in found["gpus"]] == [IDLE.pci_address]
    assert [(c.path, c.status) for c in records.calls] == [(f"{URL}:quarantine", 200)]


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.DRAIN])
async def test_every_verb_is_asked_for_under_its_name(verb: Verb) -> None:
    control = Steering()
    async with client(control) as http:
        answer = await http.post(f"{URL}:{verb}", json={"dryRun": True, "devices": [IDLE.pci_address]})
    assert answer.status_code == (409 if verb is Verb.FORGET else 200), answer.text
    if verb is Verb.FORGET:
        assert answer.json()["code"] == "StillThere"
    assert [wanted.verb for _, wanted, _ in control.directed] == [verb]


async def test_a_drain_says_of_each_gpu_how_far_it_is() -> None:
    control = Steering()
    async with client(control) as http:
        answer = await http.post(f"{URL}:drain", json={"dryRun": True, "to": "Shared"})
    assert answer.status_code == 200, answer.text
    ((_, wanted, dry_run),) = control.directed
    assert (wanted.to, dry_run) == (Mode.SHARED, True)
    said = {g["pciAddress"]: g["message"] for g in answer.json()["gpus"]}
    for gpu in NODE.gpus:
        if gpu.observed_mode is Mode.SHARED:
            assert said[gpu.pci_address] == "it is in Shared, and stays there"
        elif gpu.allocated_to:
            assert said[gpu.pci_address].endswith("it moves after that, and no new workload gets it")


@pytest.mark.parametrize(
    "body", [{}, {"dryRun": "yes"}, {"dryRun": True, "to": "Nowhere"}, {"dryRun": True, "devices": [""] * 65}]
)
async def test_a_body_that_is_not_understood_asks_nothing(body: dict[str, object]) -> None:
    control = Steering()
    async with client(control) as http:
        assert (await http.post(f"{URL}:drain", json=body)).status_code == 422
        assert (await http.post(f"{URL}:quarantine", json={**body, "to": "Shared"})).status_code == 422
    assert control.directed == []


async def test_it_takes_the_right_of_an_operator_and_a_manager_that_acts() -> None:
    control = Steering(refuse=Unavailable(Reason.NOT_LEADER, "another manager leads"))
    async with client(control, token="secret") as http:
        assert (await http.post(f"{URL}:cordon", json={"dryRun": False})).status_code == 401
        assert control.directed == []
        headers = {"Authorization": "Bearer secret"}
        assert (await http.post(f"{URL}:cordon", json={"dryRun": False}, headers=headers)).status_code == 503


async def test_directives_are_listed_with_their_node() -> None:
    async with client() as http:
        nodes = (await http.get("/api/v1/nodes")).json()["items"]
    assert all(node["directives"] == [] and all(g["closed"] == "" for g in node["gpus"]) for node in nodes)
