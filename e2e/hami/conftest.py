"""The HAMi that a contract test asks: of the release that it was given."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.controlplane.hami import Hami
from e2e.hami.lab import Lab
from e2e.hami.statements import V10


@pytest.fixture
def standing(request: pytest.FixtureRequest, release: str, artifacts: Path) -> Hami:
    """HAMi's scheduler and webhook of that release, each release on a control plane of its own."""
    hami: Hami = request.getfixturevalue("hami" if release == V10 else "hami_2_8")
    return hami


@pytest.fixture
def lab(standing: Hami) -> Iterator[Lab]:
    """A namespace and nodes of the test's own on that control plane."""
    with Lab(standing) as it:
        yield it
