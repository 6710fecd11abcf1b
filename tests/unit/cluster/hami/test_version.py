"""Which HAMi runs here."""

import pytest

from poolmgr import wire
from poolmgr.cluster.hami.version import detect_version, parse_minor
from tests.unit.cluster.builders import as_wire, register, scheduler


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("v2.10.0", (2, 10)),
        ("2.8", (2, 8)),
        ("v2.9.0-rc1", (2, 9)),
        ("latest", None),
        ("", None),
        ("2", None),
    ],
)
def test_reads_releases(text: str, minor: tuple[int, int] | None) -> None:
    assert parse_minor(text) == minor


def deployed(**over: str | dict[str, str]) -> wire.Deployment:
    return as_wire(scheduler(**over), wire.Deployment)  # type: ignore[arg-type]


def test_setting_wins() -> None:
    assert detect_version("2.8", [deployed()], (2, 10), "") == (2, 8)


def test_extenders_image_tag_is_next() -> None:
    assert detect_version("", [deployed(image="localhost:5000/hami:v2.9.1@sha256:ab")], None, "") == (2, 9)


def test_version_label_helps_where_the_tag_does_not() -> None:
    found = deployed(image="mirror/hami:latest", labels={"app.kubernetes.io/version": "2.10.0"})
    assert detect_version("", [found], (2, 8), "") == (2, 10)


def test_shape_of_the_configuration_helps_where_no_deployment_tells() -> None:
    assert detect_version("", [deployed(image="mirror/hami@sha256:ab")], (2, 10), "") == (2, 10)


def test_behaviour_assumes_the_oldest_release_that_fits() -> None:
    assert detect_version("", [], None, register("GPU-1")) == (2, 8)
    assert detect_version("", [], None, "GPU-1,10,1,1,A10,0,true:") == (2, 7)
