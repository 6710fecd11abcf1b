"""A cluster for every test here."""

from pathlib import Path

import pytest

from tests.unit.cli.daily.cluster import Cluster, working_day


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Without an object."""
    return Cluster(tmp_path / "kubeconfig")


@pytest.fixture
def day(cluster: Cluster) -> Cluster:
    """See `working_day`."""
    return working_day(cluster)
