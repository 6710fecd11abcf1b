"""The page says what the list says, and every statement has a test."""

import ast
from pathlib import Path

from e2e.cache import PROJECT_ROOT
from e2e.hami import contract_page
from e2e.hami.statements import STATEMENTS

TESTS = [*Path(__file__).parent.glob("test_contract_*.py"), PROJECT_ROOT / "e2e/node/test_hami_plugin.py"]


def test_the_page_is_up_to_date() -> None:
    assert contract_page.PAGE.read_text() == contract_page.page(), "run `make docs`"


def test_every_statement_is_shown_by_a_test_and_no_other() -> None:
    shown = {number for path in TESTS for number in shown_in(ast.parse(path.read_text()))}
    assert shown == set(STATEMENTS)


def shown_in(tree: ast.Module) -> set[int]:
    """The numbers given to `@shows(…)` and `pytest.mark.statement(…)`."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    named = [call for call in calls if ast.unparse(call.func) in ("shows", "pytest.mark.statement")]
    return {argument.value for call in named for argument in call.args if isinstance(argument, ast.Constant)}
