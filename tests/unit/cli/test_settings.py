"""Settings: from the environment, complete, documented, and refused in a sentence when they contradict."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from poolmgr.cli.settings import ManagerSettings, known_variables, load, misspelt
from poolmgr.controller.executor.advance import StepDeadlines
from poolmgr.domain.errors import Rejected


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("POOLMGR_"):
            monkeypatch.delenv(name)


def test_groups_are_set_with_two_underscores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLMGR_API__PORT", "9000")
    monkeypatch.setenv("POOLMGR_HAMI_DEVICE_CONFIG", "my-device")
    settings = load()
    assert (settings.api.port, settings.hami_device_config) == (9000, "my-device")


def test_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLMGR_NAMESPACE", "a")
    assert load(namespace="b").namespace == "b"


def test_empty_value_in_the_chart_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLMGR_HAMI_DEVICE_CONFIG", "")
    assert load().hami_device_config == "hami-scheduler-device"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("POOLMGR_API__PORT", "x", "POOLMGR_API__PORT"),
        ("POOLMGR_API__PROT", "1", "POOLMGR_API__PROT"),
        ("POOLMGR_LEASE__RENEW_DEADLINE_SECONDS", "60", "do not fit together"),
        ("POOLMGR_LEASE__DURATION_SECONDS", "12", "by more than a request may take"),
        ("POOLMGR_LEASE__RETRY_SECONDS", "0", "do not fit together"),
        ("POOLMGR_LOG_LEVEL", "loud", "POOLMGR_LOG_LEVEL"),
    ],
)
def test_wrong_setting_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Rejected, match=sentence):
        load()


def test_settings_do_not_change_later() -> None:
    with pytest.raises(ValidationError):
        load().namespace = "other"  # type: ignore[misc]


def test_token_comes_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    assert load(api={"token_file": file}).write_token == "s3cret"


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_token_file_that_protects_nothing_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Rejected, match="token"):
        load(api={"token_file": file}).write_token  # noqa: B018


def test_secrets_are_not_in_its_words() -> None:
    settings = load(database_url="postgresql://u:hidden@h/d", api={"token": "hidden"})
    assert "hidden" not in repr(settings)
    assert settings.ledger_url.endswith("hidden@h/d")


def test_misspelt_variable_names_the_one_that_was_meant() -> None:
    environment = ["POOLMGR_DATABSE_URL", "POOLMGR_WEBHOOK_SERVICE_HOST", "POOLMGR_MANAGER_PORT", "PATH"]
    assert misspelt(environment) == {"POOLMGR_DATABSE_URL": "POOLMGR_DATABASE_URL"}
    assert "POOLMGR_LOOP__IDLE_SECONDS" in known_variables()


def test_steps_take_as_long_as_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().steps.deadlines == StepDeadlines()
    monkeypatch.setenv("POOLMGR_STEPS__ATTACH_SECONDS", "1800")
    assert load().steps.deadlines == StepDeadlines(attach=1800.0)
    monkeypatch.setenv("POOLMGR_STEPS__ATTACH_SECONDS", "0")
    with pytest.raises(Rejected, match="POOLMGR_STEPS__ATTACH_SECONDS: Input should be greater than 0"):
        load()


def test_every_setting_says_what_it_is() -> None:
    def undocumented(model: type, path: str = "") -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            if not field.description:
                found.append(path + name)
            if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
                found += undocumented(field.annotation, f"{path}{name}.")
        return found

    assert undocumented(ManagerSettings) == []
