"""Schemathesis against a running demo: whatever is sent, the answers keep to the OpenAPI document."""

import sys
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS, load_all_checks

from tests.integration.api.demo import Demo

pytestmark = pytest.mark.integration

load_all_checks()


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    demo = Demo(tmp_path_factory.mktemp("demo"), "--nodes", "2", "--gpus", "4")
    yield schemathesis.openapi.from_url(f"{demo.address}/api/v1/openapi.json")
    demo.stop()


def test_answers_keep_to_the_document(schema: schemathesis.BaseSchema) -> None:
    # The demo has no token set: writing is open there by design, so a missing token is not refused.
    open_by_design = CHECKS.get_one("ignored_auth")
    # A generation that the pool does not have is well-formed and answered 412, which this check does not know.
    stale_is_refused = CHECKS.get_one("positive_data_acceptance")
    tried: dict[str, int] = {}
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def every_answer_is_documented(case: schemathesis.Case) -> None:
            tried[case.operation.label] = tried.get(case.operation.label, 0) + 1
            not_for_it = [open_by_design, *([stale_is_refused] if case.method.upper() == "POST" else [])]
            case.call_and_validate(excluded_checks=not_for_it)

        every_answer_is_documented()
    sys.stdout.write(f"requests sent, by operation: {tried}\n")
    assert "POST /api/v1/pools/{name}:rebalance" in tried
    assert all(count > 0 for count in tried.values())
