"""Says at the head of every pytest run, and in its last line, which HAMi it runs on; keeps the contract's outcomes.

Loaded by the root `conftest.py`. A run that uses no HAMi says nothing.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from e2e.hami import contract, edition
from e2e.parts import PartMissing, PartRefused

RELEASE_OF_FIXTURE = {"hami": "2.10.0", "hami_2_8": "2.8.3"}
RECORD = "--record-hami-contract"
_SEEN = pytest.StashKey[contract.Seen]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        RECORD,
        action="store_true",
        help="keep in e2e/hami/checked.json which statements the real HAMi has passed",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SEEN] = {}
    config.addinivalue_line(
        "markers", "hami(release, ...): runs on that release of HAMi, whichever stands here"
    )
    config.addinivalue_line("markers", "statement(number, ...): shows these statements of the HAMi contract")


def releases_of(items: list[pytest.Item]) -> list[str]:
    """The releases that these tests run on, by fixture or by marker."""
    found: set[str] = set()
    for item in items:
        names = getattr(item, "fixturenames", ())
        found |= {RELEASE_OF_FIXTURE[name] for name in names if name in RELEASE_OF_FIXTURE}
        found |= {release for marker in item.iter_markers("hami") for release in marker.args}
    return sorted(found)


def pytest_report_collectionfinish(items: list[pytest.Item]) -> list[str]:
    lines = []
    for release in releases_of(items):
        try:
            lines.append(f"runs on {edition.choose(release).describe()}")
        except (PartMissing, PartRefused) as reason:
            lines.append(f"runs on no HAMi {release}: {reason}")
    return lines


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if (marker := item.get_closest_marker("statement")) and not report.skipped:
        (release,) = item.get_closest_marker("hami").args  # type: ignore[union-attr]
        outcomes = item.config.stash[_SEEN].setdefault(release, {})
        for number in marker.args:
            outcomes[number] = outcomes.get(number, True) and report.passed
    return report


@pytest.fixture(scope="session", autouse=True)
def _hami_in_the_report(record_testsuite_property: Callable[[str, object], None]) -> Iterator[None]:
    """Which HAMi it was, in pytest's JUnit report too: `make test` reads it there for its own last line."""
    yield
    for one in edition.started:
        record_testsuite_property("hami", one.describe())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """The outermost wrapper, so that what it writes comes after pytest's own last line."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and (ran_on := edition.ran_on()):
        reporter.write_line(f"this run was on {ran_on}")
    if session.config.getoption(RECORD):
        real = {one.version for one in edition.started if one.real}
        seen = {release: of for release, of in session.config.stash[_SEEN].items() if release in real}
        contract.record(seen, f"{datetime.now(UTC):%Y-%m-%d}")
