"""The journal survives crashes, reboots and damage."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis.strategies import DataObject, data, integers

from poolmgr.agent.journal import Failure, Journal, RebindIntent, replace_durably
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason

A = PciAddress("0000:00:04.0")


def journal(path: Path, boot_id: str = "boot-1") -> Journal:
    made = Journal(path / "journal.json")
    made.load(boot_id)
    return made


def test_what_was_saved_is_there_for_the_next_process(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.raise_epoch(7)
    first.update(
        A, uuid="GPU-a", desired_mode=Mode.PASSTHROUGH, move=RebindIntent("p", 7, Mode.PASSTHROUGH, 1.0)
    )
    second = journal(tmp_path)
    assert second.state == first.state
    assert not second.rebooted


def test_a_reboot_voids_moves_and_keeps_directives_names_and_epoch(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.raise_epoch(7)
    first.update(
        A,
        uuid="GPU-a",
        desired_mode=Mode.PASSTHROUGH,
        move=RebindIntent("p", 7, Mode.PASSTHROUGH, 1.0),
        failure=Failure("UnbindTimedOut", "hung", "p", Mode.PASSTHROUGH, 1.0, quarantined=True),
    )
    second = journal(tmp_path, "boot-2")
    record = second.state.device(A)
    assert second.rebooted
    assert (record.move, record.failure) == (None, None)
    assert (record.uuid, record.desired_mode, second.state.highest_epoch) == ("GPU-a", Mode.PASSTHROUGH, 7)


def test_the_first_start_ever_is_no_reboot(tmp_path: Path) -> None:
    assert not journal(tmp_path).rebooted


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"version": 99}',
        b'{"devices": 3}',
        b"\xff\xfe",
        b'{"bootId": "\xff"}',
        b'{"version": 1' + b"0" * 5000 + b"}",
        b'{"newer": ' + b"[" * 100_000,
    ],
    ids=["empty", "cut", "newer", "odd", "no UTF-8", "no UTF-8 in a text", "huge number", "deep"],
)
def test_a_damaged_file_is_put_aside_and_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.json").write_bytes(content)
    begun = journal(tmp_path)
    assert "moved to" in begun.complaint
    assert (tmp_path / "journal.damaged").read_bytes() == content
    assert begun.state.devices == {}


@pytest.mark.parametrize(
    ("quarantined", "code"), [(True, Reason.UNBIND_TIMED_OUT), (False, Reason.BIND_FAILED)]
)
def test_a_trouble_of_a_newer_release_counts_as_the_more_careful_of_ours(
    tmp_path: Path, quarantined: bool, code: Reason
) -> None:
    failure = Failure("OfTomorrow", "its sentence", "p", Mode.PASSTHROUGH, 1.0, quarantined=quarantined)
    journal(tmp_path).update(A, failure=failure)
    kept = journal(tmp_path).state.device(A).failure
    assert kept == failure
    assert kept.code is code


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A journal's folder and what is in its file."""
    folder = tmp_path_factory.mktemp("journal")
    journal(folder).update(A, uuid="GPU-a", move=RebindIntent("p", 7, Mode.PASSTHROUGH, 1.0))
    return folder, (folder / "journal.json").read_bytes()


@settings(max_examples=400, deadline=None)
@given(data())
def test_a_file_damaged_anywhere_never_stops_the_start(
    written: tuple[Path, bytes], drawn: DataObject
) -> None:
    folder, content = written[0], bytearray(written[1])
    file = folder / "journal.json"
    for _ in range(drawn.draw(integers(1, 4))):
        content[drawn.draw(integers(0, len(content) - 1))] = drawn.draw(integers(0, 255))
    file.write_bytes(content[: drawn.draw(integers(0, len(content)))])
    begun = journal(folder)
    assert begun.complaint or begun.state.boot_id


def test_an_older_epoch_does_not_lower_the_highest(tmp_path: Path) -> None:
    begun = journal(tmp_path)
    begun.raise_epoch(7)
    begun.raise_epoch(3)
    assert begun.state.highest_epoch == 7


def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    writes = []
    begun = Journal(tmp_path / "j", lambda path, content: writes.append(content))
    begun.load("boot-1")
    begun.update(A, uuid="GPU-a")
    count = len(writes)
    begun.update(A, uuid="GPU-a")
    assert len(writes) == count


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError("disk full")

    begun = Journal(tmp_path / "j", full)
    before = begun.state
    with pytest.raises(OSError, match="disk full"):
        begun.update(A, uuid="GPU-a")
    assert begun.state is before


def test_a_crash_before_the_rename_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "journal.json"
    replace_durably(target, b"old")
    monkeypatch.setattr(Path, "replace", lambda self, other: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        replace_durably(target, b"new")
    assert target.read_bytes() == b"old"
