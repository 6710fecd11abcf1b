"""The driver that tests of NVML ask; a conftest takes it in by name."""

from pathlib import Path

import pytest

from e2e.nvml.driver import Driver
from e2e.parts import PartMissing


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    try:
        made = Driver(tmp_path)
    except PartMissing as missing:
        pytest.skip(str(missing))
    monkeypatch.setenv("FAKE_NVML_STATE", str(made.state))
    return made
