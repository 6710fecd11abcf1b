"""What POOLMGR_REGISTRY may say, and what this machine's settings may do to the question whether a server answers."""

import pytest

from e2e.parts.reachable import Registry, registry_for, unanswered
from e2e.parts.source import PartRefused


@pytest.mark.parametrize(
    ("says", "means"),
    [
        ("", Registry("docker.io")),
        ("mirror.example:5000/hub/", Registry("mirror.example:5000/hub")),
        ("https://mirror.example", Registry("mirror.example")),
        (" http://127.0.0.1:5000 ", Registry("127.0.0.1:5000", plain=True)),
    ],
)
def test_a_mirror_stands_for_every_registry(
    monkeypatch: pytest.MonkeyPatch, says: str, means: Registry
) -> None:
    monkeypatch.setenv("POOLMGR_REGISTRY", says)
    assert registry_for("docker.io") == means


@pytest.mark.parametrize(
    "says", ["http://", "ftp://mirror.example", "docker://mirror.example", "two words", "/"]
)
def test_what_is_no_mirror_is_refused(monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    monkeypatch.setenv("POOLMGR_REGISTRY", says)
    with pytest.raises(PartRefused, match=r"HOST\[:PORT\]"):
        registry_for("docker.io")


def test_a_host_that_is_no_name_does_not_answer() -> None:
    assert "does not answer: " in (unanswered(f"https://{'a' * 80}.example/v2/", (200,)) or "")


@pytest.mark.parametrize("setting", [("HTTPS_PROXY", "foo://proxy"), ("SSL_CERT_FILE", "/nowhere")])
def test_wrong_settings_of_the_machine_are_a_reason(
    monkeypatch: pytest.MonkeyPatch, setting: tuple[str, str]
) -> None:
    monkeypatch.setenv(*setting)
    assert "settings for proxies or certificates" in (
        unanswered(f"https://{setting[0]}.invalid/", (200,)) or ""
    )
