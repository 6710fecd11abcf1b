"""The file comes from whoever sends it: damaged, hostile, newer and foreign ones end in a sentence."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from e2e.node.shape import Shape
from poolmgr.agent.recording import format as recording_format
from poolmgr.agent.recording.replay import sources_of
from poolmgr.domain.errors import Rejected
from tests.recorded_node import RecordedNode, answers, judge

pytestmark = pytest.mark.long

A = "0000:3b:00.0"


@pytest.fixture
async def recording(tmp_path: Path) -> dict[str, Any]:
    node = RecordedNode(tmp_path, Shape(gpus=(A,)))
    node.hold("/dev/nvidia0")
    made: dict[str, Any] = json.loads(await node.record())
    return made


def refusal(content: bytes) -> str:
    with pytest.raises(Rejected) as refused:
        judge(content)
    return refused.value.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "node.json cannot be read as the recording of a node"),
        (b"not json", "node.json cannot be read as the recording of a node"),
        (b"\xff\xfe{}", "cannot be read as the recording of a node"),
        (b"[" * 200_000, "cannot be read as the recording of a node"),
        (b'{"kind": ' + b"[" * 200_000, "cannot be read as the recording of a node"),
        (b"{}", "it does not say that it is one"),
        (b'{"kind": "poolmgr-snapshot"}', "it does not say that it is one"),
        (b'{"kind": "poolmgr-node-recording", "version": 1}', "missing required field"),
        (
            b'{"kind": "poolmgr-node-recording", "version": 9, "agentVersion": "9.1"}',
            "version 9 is newer than version 1, the newest that this release reads: judge it with poolmgr 9.1",
        ),
    ],
    ids=["empty", "text", "bytes", "deep", "deep inside", "no kind", "another file", "half", "newer"],
)
def test_what_is_no_recording_is_refused_in_a_sentence(content: bytes, said: str) -> None:
    sentence = refusal(content)
    assert said in sentence
    assert sentence.endswith("Make one with `poolmgr agent record`.")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda r: r["files"]["texts"].update({"/sys/x": "\x1b[2J"}), "there are control characters in"),
        (lambda r: r["nvml"].update(error="\x1b]0;owned\x07"), "there are control characters in"),
        (lambda r: r["files"].update(hex={"/sys/x": "xy"}), "what /sys/x holds is no hexadecimal text"),
        (lambda r: r["files"].update(hex={"/sys/x": "abc"}), "what /sys/x holds is no hexadecimal text"),
        (lambda r: r["files"]["errors"].update(read={"/x": "EFUNNY"}), "'EFUNNY' for /x is no error of the"),
        (lambda r: r["files"]["errors"].update(steal={"/x": "EIO"}), "Invalid enum value 'steal'"),
        (lambda r: r["files"].update(texts=[]), "Expected `object`, got `array`"),
        (
            lambda r: r.update(accelerators=["nvidia", "martian"]),
            "cannot read the accelerator file 'martian'",
        ),
        (lambda r: r["kubelet"].update(pods={"podResources": 7}), "what the kubelet said cannot be read"),
    ],
    ids=["screen", "title", "no hex", "half a byte", "error", "question", "shape", "vendor", "kubelet"],
)
def test_a_damaged_recording_is_refused_in_a_sentence(
    recording: dict[str, Any], damage: Callable[[dict[str, Any]], None], said: str
) -> None:
    damage(recording)
    assert said in refusal(json.dumps(recording).encode())


def test_a_path_among_the_accelerators_reads_no_file_of_this_machine(
    recording: dict[str, Any], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("password: hidden")
    recording["accelerators"] = [str(secret)]
    made = recording_format.decode(json.dumps(recording).encode(), Path("node.json"))
    assert sources_of(made).catalogue.vendors == ()


def test_a_file_that_is_not_there_and_one_that_is_endless_are_told(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="No such file or directory"):
        recording_format.load(tmp_path / "absent.json")
    with pytest.raises(Rejected, match="it has more than 16 MiB"):
        recording_format.load(Path("/dev/zero"))


def test_what_would_not_be_read_again_is_not_written(recording: dict[str, Any]) -> None:
    made = recording_format.decode(json.dumps(recording).encode(), Path("node.json"))
    with pytest.raises(
        Rejected, match="this recording would have 17 MiB, more than the 16 MiB that are read"
    ):
        recording_format.encode(replace(made, kernel="x" * (17 << 20)))


async def test_a_field_that_a_newer_release_added_is_passed_over(recording: dict[str, Any]) -> None:
    before = await answers(judge(json.dumps(recording).encode()))
    recording["weather"] = "fine"
    recording["files"]["colours"] = {}
    assert await answers(judge(json.dumps(recording).encode())) == before


async def test_a_recording_without_an_answer_allows_nothing_and_names_what_is_missing(
    recording: dict[str, Any],
) -> None:
    """Made by an older release, or cut: what was never asked is not known, whatever else looks fine."""
    recording["files"]["entries"]["/proc"] = []
    whole = json.loads(json.dumps(recording))
    del recording["files"]["errors"]["read"][f"/sys/bus/pci/devices/{A}/boot_vga"]
    assert (await answers(judge(json.dumps(whole).encode())))[A].moves
    answer = (await answers(judge(json.dumps(recording).encode())))[A]
    assert (answer.moves, answer.reason, bool(answer.could_move)) == (False, "CannotTell", False)
    assert f"the recording says nothing about /sys/bus/pci/devices/{A}/boot_vga" in answer.message
    assert answer.message.endswith("record the node again with it")


async def test_random_damage_ends_in_an_answer_or_a_sentence_and_never_frees_a_held_gpu(
    recording: dict[str, Any],
) -> None:
    """Bytes are changed, cut and doubled at random. Nothing but Rejected may come out of it."""
    chance = random.Random(15)
    content = json.dumps(recording).encode()
    judged = 0
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(damaged))
            match chance.randrange(3):
                case 0:
                    damaged[at] = chance.randrange(256)
                case 1:
                    del damaged[at : at + chance.randint(1, 40)]
                case _:
                    damaged[at:at] = damaged[at : at + chance.randint(1, 40)]
        try:
            await answers(judge(bytes(damaged)))
            judged += 1
        except Rejected as error:
            assert error.message.isprintable()
    assert 20 < judged < 400


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "99999999999999999999",
        "0x",
        "²",
        "a" * 100_000,
        "1:",
        ":1",
        "\t",
        "0000:3b:00.0/../..",
        "on\n" * 99,
    ],
)
async def test_any_text_in_the_place_of_any_file_is_an_answer(recording: dict[str, Any], text: str) -> None:
    """Every text of the recording in turn says something odd: numbers, links and lists are the kernel's there alone."""
    for path in recording["files"]["texts"]:
        odd = json.loads(json.dumps(recording))
        odd["files"]["texts"][path] = text
        await answers(judge(json.dumps(odd).encode()))
    for path in recording["files"]["targets"]:
        odd = json.loads(json.dumps(recording))
        odd["files"]["targets"][path] = text
        await answers(judge(json.dumps(odd).encode()))
