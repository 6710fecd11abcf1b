"""What is read of a Pod is enough: decisions come out as if all of it had been read."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poolmgr.domain.errors import Rejected
from tests.unit.webhooks.objects import device, fleet, gpu_node, gpu_pool, pod
from webhooks.decide import Policy, handlers
from webhooks.pod_review import decode_pod_review
from webhooks.review import AdmissionRequest, Answer, decode_review

VIEW = fleet(gpu_node("n1", device(0), device(1), moving={1: "Passthrough"}), pools=(gpu_pool(),))
DECIDE = handlers(Policy(), lambda: 0.0)["pods"]


def answers(body: bytes) -> tuple[Answer | str, Answer | str]:
    """By what is read of a pod, and by all of it; a sentence where it is no review, `broken` where deciding fails."""

    def answer(reader: Callable[[bytes], AdmissionRequest]) -> Answer | str:
        try:
            return DECIDE(reader(body), VIEW)
        except Rejected as error:
            return error.message
        except (AttributeError, TypeError):
            return "broken"

    return answer(decode_pod_review), answer(decode_review)


def review(new: Any) -> bytes:
    return json.dumps({"request": {"uid": "u1", "operation": "CREATE", "object": new}}).encode()


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["", "1", "3k", "ignore", "true", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)
quantities = st.dictionaries(
    st.sampled_from(["nvidia.com/gpu", "nvidia.com/gpumem", "nvidia.com/gpucores", "cpu"]),
    st.sampled_from(["0", "1", "2", "3k", "200", "x"]),
    max_size=3,
)
NAMES = [
    "nvidia.com/use-gpuuuid",
    "nvidia.com/nouse-gpuuuid",
    "nvidia.com/use-gputype",
    "poolmgr.io/best-effort",
]
annotations = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from(["true", "GPU-n1-0", "A10", ""]), max_size=3
)
labels = st.dictionaries(
    st.sampled_from(["kubevirt.io", "hami.io/webhook", "app"]),
    st.sampled_from(["virt-launcher", "ignore"]),
    max_size=2,
)
expressions = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["zone", "poolmgr.io/best-effort-only"]),
        "operator": st.sampled_from(["In", "DoesNotExist"]),
    }
)
terms = st.lists(
    st.dictionaries(
        st.sampled_from(["matchExpressions", "matchFields"]), st.lists(expressions, max_size=2), max_size=2
    ),
    max_size=2,
)
affinity = st.fixed_dictionaries(
    {},
    optional={
        "podAffinity": anything,
        "nodeAffinity": st.fixed_dictionaries(
            {},
            optional={
                "requiredDuringSchedulingIgnoredDuringExecution": st.fixed_dictionaries(
                    {"nodeSelectorTerms": terms}
                ),
                "preferredDuringSchedulingIgnoredDuringExecution": anything,
            },
        ),
    },
)


def sometimes(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Usually that; now and then nothing, null or something else."""
    return st.one_of(usual, usual, usual, usual, st.none(), anything)


containers = st.lists(
    sometimes(
        st.fixed_dictionaries(
            {"name": st.just("main")},
            optional={
                "resources": sometimes(st.dictionaries(st.sampled_from(["limits", "requests"]), quantities)),
                "env": anything,
                "image": anything,
            },
        )
    ),
    max_size=2,
)
pods = st.fixed_dictionaries(
    {"kind": st.just("Pod")},
    optional={
        "metadata": sometimes(
            st.fixed_dictionaries(
                {},
                optional={
                    "labels": sometimes(labels),
                    "annotations": sometimes(annotations),
                    "managedFields": anything,
                },
            )
        ),
        "spec": sometimes(
            st.fixed_dictionaries(
                {},
                optional={
                    "containers": sometimes(containers),
                    "initContainers": sometimes(containers),
                    "nodeName": sometimes(st.just("n1")),
                    "nodeSelector": sometimes(
                        st.dictionaries(st.just("poolmgr.io/best-effort-only"), st.just("true"))
                    ),
                    "affinity": sometimes(affinity),
                    "volumes": anything,
                },
            )
        ),
    },
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sometimes(pods))
def test_decides_as_if_all_of_the_pod_had_been_read(new: Any) -> None:
    partly, whole = answers(review(new))
    assert partly == whole


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b'{"request": {}}', b'{"request": null}', b'{"request": {"uid": 1}}']
)
def test_says_the_same_of_what_is_no_review(body: bytes) -> None:
    partly, whole = answers(body)
    assert isinstance(partly, str)
    assert partly == whole


def test_skips_what_no_decision_looks_at() -> None:
    new = pod() | {"status": {"phase": "Pending"}}
    new["spec"]["volumes"] = [{"name": "scratch"}]
    read = decode_pod_review(review(new)).object
    assert read == {
        "metadata": {"name": "train", "namespace": "ml"},
        "spec": {"containers": [{"name": "main", "resources": {"limits": {}}}]},
    }
