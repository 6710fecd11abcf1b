"""AdmissionReview in and out, as recorded from a Kubernetes 1.36 API server."""

import base64
import json

import pytest

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason
from webhooks.review import (
    MESSAGE_LIMIT,
    WARNING_LIMIT,
    add_at,
    admitted,
    decode_review,
    encode_review,
    refused,
    set_in_map,
)

RECORDED = b"""{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{
"uid":"8c5e2c3c-6a6e-4e0b-8a15-0b6f0c9f2a11","kind":{"group":"","version":"v1","kind":"Pod"},
"resource":{"group":"","version":"v1","resource":"pods"},
"requestKind":{"group":"","version":"v1","kind":"Pod"},
"requestResource":{"group":"","version":"v1","resource":"pods"},"namespace":"ml","operation":"CREATE",
"userInfo":{"username":"admin","groups":["system:masters","system:authenticated"],
"extra":{"authentication.kubernetes.io/credential-id":["X509SHA256=ab"]}},
"object":{"kind":"Pod","apiVersion":"v1","metadata":{"generateName":"train-","namespace":"ml",
"creationTimestamp":null},"spec":{"containers":[{"name":"main","image":"busybox",
"resources":{"limits":{"nvidia.com/gpu":"1"}}}]},"status":{}},
"oldObject":null,"dryRun":false,"options":{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}}}"""


def test_reads_what_the_api_server_sends() -> None:
    request = decode_review(RECORDED)
    assert (request.operation, request.namespace, request.name) == ("CREATE", "ml", "")
    assert request.object is not None
    assert request.object["metadata"]["generateName"] == "train-"
    assert request.old_object is None


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'{"request": {}}', b"\xff\xfe", b'{"request": null}'])
def test_refuses_to_read_anything_else(body: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        decode_review(body)
    assert caught.value.reason is Reason.INVALID_BODY


def test_a_refusal_carries_code_reason_and_sentence() -> None:
    review = json.loads(encode_review("u1", refused(Reason.UNKNOWN_RESOURCE, "No such thing.")))
    assert review == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {
            "uid": "u1",
            "allowed": False,
            "status": {
                "status": "Failure",
                "code": 403,
                "reason": "UnknownResource",
                "message": "No such thing.",
            },
        },
    }


def test_a_plain_admission_says_nothing_more() -> None:
    assert json.loads(encode_review("u1", admitted()))["response"] == {"uid": "u1", "allowed": True}


def test_patches_are_encoded_and_long_warnings_cut() -> None:
    answer = admitted(patch=({"op": "add", "path": "/x", "value": 1},), warnings=("short", "y" * 500))
    response = json.loads(encode_review("u1", answer))["response"]
    assert response["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(response["patch"])) == [{"op": "add", "path": "/x", "value": 1}]
    assert response["warnings"][0] == "short"
    assert len(response["warnings"][1]) == WARNING_LIMIT


def test_a_refusal_that_names_something_endless_is_cut() -> None:
    review = json.loads(encode_review("u1", refused(Reason.UNKNOWN_RESOURCE, "No such " + "x" * 10**6)))
    assert len(review["response"]["status"]["message"]) == MESSAGE_LIMIT


def test_keys_are_escaped_and_present_values_left() -> None:
    new = {"metadata": {"labels": {"a/b": "1", "c": "2"}}}
    assert set_in_map(new, "labels", {"a/b": "9", "c": "2", "d~e": "3"}) == (
        {"op": "add", "path": "/metadata/labels/a~1b", "value": "9"},
        {"op": "add", "path": "/metadata/labels/d~0e", "value": "3"},
    )


@pytest.mark.parametrize("new", [{}, {"metadata": {}}, {"metadata": {"labels": None}}])
def test_a_missing_map_is_added_whole(new: dict[str, object]) -> None:
    assert set_in_map(new, "labels", {"a": "1"}) == (
        {"op": "add", "path": "/metadata/labels", "value": {"a": "1"}},
    )


@pytest.mark.parametrize(
    ("new", "path", "value"),
    [
        ({}, "/a", {"b": [{"c": 1}]}),
        ({"a": None}, "/a", {"b": [{"c": 1}]}),
        ({"a": {"x": 0}}, "/a/b", [{"c": 1}]),
        ({"a": {"b": []}}, "/a/b/-", {"c": 1}),
        ({"a": {"b": [{"c": 0}]}}, "/a/b/-", {"c": 1}),
    ],
)
def test_missing_parents_come_with_the_value(new: dict[str, object], path: str, value: object) -> None:
    assert add_at(new, ("a", "b", "-", "c"), 1) == {"op": "add", "path": path, "value": value}


def test_what_is_there_is_replaced_alone_and_items_are_reached_by_index() -> None:
    new = {"a/b": [{"c": 0}, {"c": 0, "kept": 1}]}
    assert add_at(new, ("a/b", 1, "c"), 1) == {"op": "add", "path": "/a~1b/1/c", "value": 1}
