"""What NVML is told of the node's GPUs."""

from pathlib import Path

from e2e.node.guest.nvml_view import gpu_uuid, show, stamps
from e2e.nvml.state import gpu, system

NODE = ["0000:00:10.0", "0000:00:11.0"]


def prepare(folder: Path) -> None:
    (folder / "system").write_text(system())
    (folder / "gpus.d").mkdir()
    for minor, address in enumerate(NODE):
        (folder / "gpus.d" / address).write_text(gpu(address, gpu_uuid(address), minor=minor))


def test_a_gpu_keeps_uuid_and_minor_number_when_its_neighbour_leaves(tmp_path: Path) -> None:
    prepare(tmp_path)
    both = show(str(tmp_path), NODE)
    left = show(str(tmp_path), NODE[1:])
    section = gpu(NODE[1], gpu_uuid(NODE[1]), minor=1)
    assert section in both and section in left
    assert gpu_uuid(NODE[0]) in both and gpu_uuid(NODE[0]) not in left
    assert (tmp_path / "gpus").read_text() == left
    assert (tmp_path / "gpus.list").read_text().split() == NODE[1:]


def test_without_gpus_the_driver_is_still_there(tmp_path: Path) -> None:
    prepare(tmp_path)
    assert show(str(tmp_path), []) == system()


def test_a_gpu_that_is_told_anew_is_noticed(tmp_path: Path) -> None:
    prepare(tmp_path)
    before = stamps(str(tmp_path), NODE)
    assert stamps(str(tmp_path), NODE) == before
    (tmp_path / "gpus.d" / "new").write_text(gpu(NODE[0], gpu_uuid(NODE[0]), lines="state = lost"))
    (tmp_path / "gpus.d" / "new").rename(tmp_path / "gpus.d" / NODE[0])
    assert stamps(str(tmp_path), NODE) != before
