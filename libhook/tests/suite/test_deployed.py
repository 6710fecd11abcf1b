"""The hook as the chart deploys it: the agent's code keeps the node's folder, containers have the mounts and variables
that HAMi's plugin gives them, and the library is the one that is shipped, at the paths that are built into it."""

import json
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from conftest import BUILD, LIBHOOK, PATIENCE, RUNNER, SANITIZER, Machine, share_of
from poolmgr.agent.hook_install import HookPlace, ensure_hook
from poolmgr.agent.hook_node import ContainerLimits, HookNode

SETTINGS = yaml.safe_load((LIBHOOK.parent / "helm/poolmgr/values.yaml").read_text())["agent"]["hook"][
    "settings"
]
MIB = 1 << 20
MOUNTS = """
set -e
mount --bind "$1" /tmp/license && mount -o remount,bind,ro /tmp/license
mount -t tmpfs none /usr/local && mkdir /usr/local/vgpu && mount --bind "$2" /usr/local/vgpu
shift 2
exec "$@"
"""
"""What a container of HAMi's has of the node, by its plugin's mounts."""
pytestmark = pytest.mark.skipif(bool(SANITIZER or RUNNER), reason="what is shipped is what is tested")


def container_tools() -> list[str]:
    """What makes a mount namespace; skips where none may be made."""
    for command in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        if shutil.which("unshare") and subprocess.run([*command, "true"], check=False).returncode == 0:
            Path("/tmp/license").mkdir(exist_ok=True)
            return command
    pytest.skip("no mount namespaces here")


class Node:
    """A node with the agent and a fake GPU; `given` is what HAMi gave to each container."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder / "vgpu"
        self.folder.mkdir()
        self.place = HookPlace(BUILD / "libvgpu.so", self.folder, folder / "store")
        self.given: dict[str, ContainerLimits] = {}
        self.tools = container_tools()
        self.agent = HookNode(self.folder, SETTINGS, seen_as=Path("/usr/local/vgpu"))
        self.round()

    def round(self) -> None:
        self.agent.show()
        if self.agent.unlimited():
            self.agent.limit(self.given)
        ensure_hook(self.place)

    def add(self, name: str, cores: int, memory_mib: int = 1024) -> None:
        """HAMi's plugin makes the folder when the kubelet allocates."""
        self.given[f"uid_{name}"] = ContainerLimits((memory_mib,), cores)
        (self.folder / f"containers/uid_{name}").mkdir(parents=True)

    def region(self, name: str) -> Path:
        return self.folder / f"containers/uid_{name}/poolmgr.cache"

    def start(
        self, name: str, program: str, *arguments: str, virtual: bool = True, **settings: str
    ) -> subprocess.Popen[str]:
        """A program of the container. The variables are HAMi's, unless the tenant says otherwise."""
        limits = self.given[f"uid_{name}"]
        settings = {
            "CUDA_DEVICE_MEMORY_LIMIT_0": f"{limits.memory_mib[0]}m",
            "CUDA_DEVICE_SM_LIMIT": str(limits.cores),
            "CUDA_DEVICE_MEMORY_SHARED_CACHE": "/usr/local/vgpu/5f0c.cache",
            "FAKE_CUDA_CALL_NS": "2000",
            "FAKE_CUDA_CONTEXT_MIB": "64",
            **settings,
        }
        mounts = [
            "sh",
            "-c",
            MOUNTS,
            "sh",
            str(self.folder / "license"),
            str(self.folder / f"containers/uid_{name}"),
        ]
        return subprocess.Popen(
            [*self.tools, *mounts, str(BUILD / f"tests/programs/program_{program}"), *arguments],
            env=self.machine.environment(
                hook=self.place.target.resolve(), virtual=virtual, settings=settings
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str, program: str, *arguments: str, virtual: bool = False, **settings: str) -> str:
        process = self.start(name, program, *arguments, virtual=virtual, **settings)
        output, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, ""), errors
        return output

    def meet(self) -> None:
        """Every container has used CUDA once, and a round of the agent has passed: five seconds at most."""
        for name in self.given:
            self.run(name.removeprefix("uid_"), "bypass", "plain", "1", virtual=True)
        self.round()


@pytest.fixture
def node(machine: Machine, tmp_path: Path) -> Node:
    return Node(machine, tmp_path)


BUSY = ("share", "--seconds", "10", "--ns", "200000")
BUSY_WITH_ANOTHER = (*BUSY, "--programs", "2")


@pytest.mark.parametrize("shares", [(50, 50), (25, 25, 25, 25), (30, 70), (10, 90)])
def test_tenants_get_their_shares_by_default(node: Node, shares: tuple[int, ...]) -> None:
    """Without knowing each other two of 50 % got 26 and 27."""
    for number, share in enumerate(shares):
        node.add(str(number), share)
    node.meet()
    together = ("--programs", str(len(shares)))
    running = [node.start(str(number), *BUSY, *together) for number in range(len(shares))]
    got = [share_of(process.communicate(timeout=PATIENCE)[0]) for process in running]
    assert got == [pytest.approx(share, abs=2) for share in shares]
    assert sum(got) >= 98


@pytest.mark.parametrize("share", [30, 50])
def test_tenants_on_two_gpus_do_not_pay_for_each_other_nor_less_for_the_other(node: Node, share: int) -> None:
    """Rings went by the container's own count of GPUs: each had its GPU 0, and twice its share."""
    node.add("a", share)
    node.add("b", share)
    two = {"FAKE_CUDA_DEVICES": "2"}
    for name, gpu in (("a", "0"), ("b", "1")):
        node.run(name, "bypass", "plain", "1", virtual=True, CUDA_VISIBLE_DEVICES=gpu, **two)
    node.round()
    running = [
        node.start(name, *BUSY_WITH_ANOTHER, "--gpu", gpu, CUDA_VISIBLE_DEVICES=gpu, **two)
        for name, gpu in (("a", "0"), ("b", "1"))
    ]
    got = [share_of(process.communicate(timeout=PATIENCE)[0]) for process in running]
    assert got == [pytest.approx(share, abs=2)] * 2


def test_contexts_count_by_default(node: Node) -> None:
    """The fake driver's context takes 64 of 256 MiB."""
    node.add("a", 0, 256)
    assert node.run("a", "bypass", "plain", str(190 * MIB)) == "granted\n"
    assert node.run("a", "bypass", "plain", str(200 * MIB)) == "refused\n"


@pytest.mark.parametrize(
    "environment",
    [
        {"CUDA_DEVICE_MEMORY_LIMIT_0": "4g"},
        {"CUDA_DEVICE_MEMORY_LIMIT_0": ""},
        {"POOLMGR_HOOK_CONTEXT_MEMORY": "off", "CUDA_DEVICE_MEMORY_LIMIT_0": "0"},
    ],
)
def test_a_tenants_memory_limit_does_not_beat_hamis(node: Node, environment: dict[str, str]) -> None:
    node.add("a", 0, 128)
    node.round()
    assert node.run("a", "bypass", "plain", str(200 * MIB), **environment) == "refused\n"


@pytest.mark.parametrize(
    "environment", [{"GPU_CORE_UTILIZATION_POLICY": "disable"}, {"CUDA_DEVICE_SM_LIMIT": "90"}, {"POOLMGR_HOOK_MODE": "burst"}]
)  # fmt: skip
def test_a_tenants_policy_mode_or_share_does_not_beat_hamis(node: Node, environment: dict[str, str]) -> None:
    node.add("a", 20)
    node.round()
    assert share_of(node.run("a", "share", "--seconds", "3", virtual=True, **environment)) == pytest.approx(
        20, abs=2
    )


def test_until_the_agents_next_round_the_environment_decides(node: Node) -> None:
    node.add("a", 20)
    early = node.start("a", "bypass", "hold", str(100 * MIB), virtual=False, CUDA_DEVICE_MEMORY_LIMIT_0="4g")
    assert early.stdout is not None and early.stdout.readline() == "granted\n"
    node.given["uid_a"] = ContainerLimits((512,), 20)
    node.round()
    assert node.run("a", "bypass", "plain", str(300 * MIB), CUDA_DEVICE_MEMORY_LIMIT_0="4g") == "refused\n"
    early.communicate("\n", timeout=PATIENCE)


def test_another_shared_file_is_the_same_limit(node: Node) -> None:
    node.add("a", 0, 512)
    node.round()
    first = node.start("a", "bypass", "hold", str(250 * MIB), virtual=False)
    assert first.stdout is not None and first.stdout.readline() == "granted\n"
    other = {"CUDA_DEVICE_MEMORY_SHARED_CACHE": "/tmp/mine.cache"}
    assert node.run("a", "bypass", "plain", str(250 * MIB), **other) == "refused\n"
    first.communicate("\n", timeout=PATIENCE)


def test_limits_written_into_the_shared_file_raise_nothing(node: Node) -> None:
    node.add("a", 0, 128)
    node.run("a", "bypass", "plain", "1")
    node.round()
    with node.region("a").open("r+b") as region:
        region.seek(1600)
        region.write(struct.pack("<Q", 1 << 40))
    assert node.run("a", "bypass", "plain", str(200 * MIB)) == "refused\n"


def test_no_container_can_write_what_the_node_says_or_another_has_posted(node: Node) -> None:
    """Read-only by the mount, for root too; what HAMi's plugin shares with write access, /tmp/vgpulock, is not used."""
    node.add("a", 20)
    node.add("b", 20)
    node.meet()
    (seen,) = (
        path for path in (node.folder / "license/regions").iterdir() if path.samefile(node.region("b"))
    )
    mounts = ["sh", "-c", MOUNTS, "sh", str(node.folder / "license"), str(node.folder / "containers/uid_a")]
    for target in ("hook.conf", f"regions/{seen.name}"):
        for way in (
            f": > /tmp/license/{target}",
            f"rm -f /tmp/license/{target}",
            f"truncate -s 0 /tmp/license/{target}",
        ):
            done = subprocess.run(
                [*node.tools, *mounts, "sh", "-c", way], capture_output=True, text=True, check=False
            )
            assert done.returncode != 0 and "Read-only file system" in done.stderr


@contextmanager
def forging(node: Node, name: str, how: str) -> Iterator[None]:
    """Meanwhile a container forges its own region."""
    forge = subprocess.Popen(
        [str(BUILD / "tests/programs/program_forge"), str(node.region(name)), how],
        env=node.machine.environment(hook=None, virtual=True, settings={}),
        stdin=subprocess.PIPE,
    )
    try:
        yield
    finally:
        forge.communicate(timeout=PATIENCE)
    assert forge.returncode == 0


def beside_a_hostile_tenant(node: Node, how: str) -> tuple[float, int]:
    """What 30 % of a GPU come to beside a container that forges its own region, and how the program ended."""
    node.add("a", 30)
    node.add("b", 70)
    node.meet()
    with forging(node, "b", how):
        program = node.start("a", *BUSY_WITH_ANOTHER)
        output, _ = program.communicate(timeout=PATIENCE)
    return share_of(output) if program.returncode == 0 else 0.0, program.returncode


def test_a_tenant_that_cuts_its_file_harms_nobody_else(node: Node) -> None:
    """In a file that all could write, B's cut ended A's program by SIGBUS."""
    share, code = beside_a_hostile_tenant(node, "cut")
    assert (code, share) == (0, pytest.approx(30, abs=2))


def test_a_tenant_that_cuts_its_own_file_ends_its_own_programs(node: Node) -> None:
    """Open, and nobody else's harm: no lock of the kernel's keeps whoever may write a file from cutting it."""
    node.add("a", 30)
    node.run("a", "bypass", "plain", "1")
    program = node.start("a", "share", "--seconds", "60", virtual=False)
    while program.poll() is None:
        os.truncate(node.region("a"), 0)
        time.sleep(0.05)
    program.communicate(timeout=PATIENCE)
    assert program.returncode in (-signal.SIGBUS, 128 + signal.SIGBUS)


def test_a_tenant_that_claims_to_have_paid_is_not_believed(node: Node) -> None:
    """In a file that all could write, 30 % became 85. Charged is what is claimed to be busy, so here that is nothing."""
    share, code = beside_a_hostile_tenant(node, "charged")
    assert (code, share) == (0, pytest.approx(30, abs=2))


def test_a_tenant_that_claims_to_be_busy_makes_others_pay_less(node: Node) -> None:
    """Open: nobody can tell such a claim from the turns of a busy neighbour. Once the attack is closed, say so in
    docs/reference/hook-bypasses.md."""
    share, code = beside_a_hostile_tenant(node, "posted")
    assert code == 0
    assert share > 35


def test_best_effort_waits_for_whoever_claims_to_be_busy(node: Node) -> None:
    """Open, and the same as a tenant that is busy. Alone it gets 98."""
    node.add("a", 0)
    node.add("b", 70)
    node.meet()
    with forging(node, "b", "posted"):
        output, _ = node.start("a", *BUSY_WITH_ANOTHER, POOLMGR_HOOK_MODE="best-effort").communicate(
            timeout=PATIENCE
        )
    assert share_of(output) < 30


def test_a_tenant_that_hides_costs_its_neighbours_up_to_its_own_turns(node: Node) -> None:
    """Open: who posts nothing, or has no hook, is charged to the others."""
    node.add("a", 50)
    node.add("b", 50)
    node.meet()
    node.region("b").rename(node.region("b").with_name("hidden"))
    node.round()
    running = [node.start(name, *BUSY_WITH_ANOTHER) for name in ("a", "b")]
    got = [share_of(process.communicate(timeout=PATIENCE)[0]) for process in running]
    assert 20 < got[0] <= 51


def test_the_nodes_file_counts_before_the_images(machine: Machine, tmp_path: Path) -> None:
    """An image may bring an /etc/poolmgr/hook.conf of root's."""
    for name, limit in (("node", "128Mi"), ("image", "0")):
        (tmp_path / name).write_text(f"memory_limit = {limit}\n")
        (tmp_path / name).chmod(0o644)
    paths = {"PH_TEST_NODE": str(tmp_path / "node"), "PH_TEST_CONFIG": str(tmp_path / "image")}
    done = machine.run("bypass", "plain", str(200 * MIB), hook=BUILD / "libvgpu_paths.so", **paths)
    assert done.stdout == "refused\n"


def test_json_of_the_chart_is_what_the_agent_takes_by_default() -> None:
    from poolmgr.agent.hook_node import DEFAULT_SETTINGS

    assert json.dumps(SETTINGS, sort_keys=True) == json.dumps(dict(DEFAULT_SETTINGS), sort_keys=True)
