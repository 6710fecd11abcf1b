"""What programs are told when they ask: only the container's own, and no crash for what they leave out."""

from conftest import PATIENCE, Machine

MIB = 1 << 20
INSUFFICIENT_SIZE, VERSION_MISMATCH, INVALID_ARGUMENT = "7", "25", "2"


def answers(machine: Machine, **settings: str) -> dict[str, list[str]]:
    """Query → the answer's code and what came with it, asked by a program that holds 100 MiB. NVML knows processes
    by their pids on the host."""
    done = machine.run("queries", str(100 * MIB), FAKE_NVML_PID_OFFSET="100000", **settings)
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


def test_what_is_left_out_gets_the_drivers_own_answer(machine: Machine) -> None:
    limited = answers(machine, CUDA_DEVICE_MEMORY_LIMIT="1g")
    plain = answers(machine, CUDA_DEVICE_MEMORY_SHARED_CACHE="")
    assert {name: told[0] for name, told in limited.items()} == {
        name: told[0] for name, told in plain.items()
    }
    assert len(plain) > 25


def test_process_lists_name_the_containers_processes_as_it_knows_them(machine: Machine) -> None:
    stranger = machine.start(
        "bypass", "hold", str(300 * MIB), virtual=False,
        CUDA_DEVICE_MEMORY_SHARED_CACHE=str(machine.folder / "other.cache"),
    )  # fmt: skip
    neighbour = machine.start("bypass", "hold", str(200 * MIB), virtual=False, CUDA_DEVICE_MEMORY_LIMIT="1g")
    for process in (stranger, neighbour):
        assert process.stdout is not None and process.stdout.readline() == "granted\n"
    told = answers(machine, CUDA_DEVICE_MEMORY_LIMIT="1g")
    plain = answers(machine, CUDA_DEVICE_MEMORY_SHARED_CACHE="")
    for process in (stranger, neighbour):
        process.communicate("\n", timeout=PATIENCE)
    both = {f"{told['pid'][1]}:100", f"{neighbour.pid}:200"}
    for query in ("compute.list", "compute_v2.list", "details.compute", "details.all"):
        assert told[query][:2] == ["0", "2"] and set(told[query][2:]) == both, query
    assert len(plain["compute.list"]) == 2 + 3, "the driver lists everybody, by pids of the host"
    assert not both & set(plain["compute.list"])
    assert told["compute.no_room"] == [INSUFFICIENT_SIZE, "2", "untouched"]
    assert told["compute.no_buffer"] == told["compute.count"] == [INSUFFICIENT_SIZE, "2"]
    assert told["details.graphics"] == ["0", "0"]
    assert told["details.no_room"] == [INSUFFICIENT_SIZE, "2"]
    assert (told["details.version"], told["details.mode"]) == ([VERSION_MISMATCH], [INVALID_ARGUMENT])
