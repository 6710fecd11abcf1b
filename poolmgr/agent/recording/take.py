"""Makes the recording of the node that this runs on: looks as the agent does and writes down what it was answered.

Of processes only those are kept that have a device file open, or hide what they have open: number, name, pod, and these
files. No command line, no environment, no other open file, no path of a cgroup.
"""

import contextlib
import errno
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict

from poolmgr.agent.accelerators import load_vendor
from poolmgr.agent.files import KERNEL_FILES, PAGE_BYTES, DeviceNumber, NodeFiles
from poolmgr.agent.holders import (
    CGROUP_BYTES,
    GONE,
    VFIO_DEVICE,
    check_sees_all_processes,
    pod_in_cgroup,
)
from poolmgr.agent.manual import ManualControl
from poolmgr.agent.node_sources import NodeSources, of_this_node
from poolmgr.agent.podresources import KubeletAnswer
from poolmgr.agent.recording.format import (
    QUESTIONS,
    FileAnswers,
    KubeletRecord,
    Question,
    Recording,
    shown,
)
from poolmgr.agent.recording.replay import RecordedKubelet, RecordedNvml
from poolmgr.agent.settings import AgentSettings
from poolmgr.kit.clock import Clock
from poolmgr.wire.instants import to_rfc3339

Answer = TypeVar("Answer")
_OF_A_PROCESS = re.compile(r"/proc/(\d+)/(?!root/)(.+)")
"""`/proc/1/root` is the host's first process's view of the node, and no process's business."""
_EVERYBODYS_MAJORS = frozenset({1, 4, 5, *range(136, 144)})
"""Of /dev/null and its like, terminals and pseudo terminals (Linux' devices.txt): they hold no device."""
_SYSPATH = b"vfio-device-syspath:"


class RecordingFiles:
    """`NodeFiles` that keeps what it was answered. Paths are kept as if `sys` and `proc` were /sys and /proc."""

    def __init__(self, files: NodeFiles, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> None:
        self._files = files
        self._roots = ((f"{sys}", "/sys"), (f"{proc}", "/proc"))
        self._proc = proc
        self._answers: dict[Question, dict[str, Any]] = {}

    def read(self, path: str, at_most: int = PAGE_BYTES) -> bytes:
        return self._ask("read", path, lambda: self._files.read(path, at_most))

    def entries(self, folder: str) -> list[str]:
        return self._ask("entries", folder, lambda: self._files.entries(folder))

    def folders(self, folder: str) -> list[str]:
        return self._ask("folders", folder, lambda: self._files.folders(folder))

    def target(self, link: str) -> str:
        return self._ask("target", link, lambda: self._files.target(link))

    def number(self, path: str) -> DeviceNumber | None:
        return self._ask("number", path, lambda: self._files.number(path))

    def answers(self, pids: Iterable[int] = ()) -> FileAnswers:
        """What is worth keeping of them. `pids` are processes to keep whatever they have open."""
        folders = {f"/proc/{pid}/fd" for pid in pids}
        processes = self._processes(folders)
        found: dict[Question, dict[str, Any]] = {question: {} for question in QUESTIONS}
        errors: dict[Question, dict[str, str]] = {}
        for question, answers in self._answers.items():
            for path, answer in answers.items():
                if path not in folders and not _is_recorded(path, processes):
                    continue
                if isinstance(answer, OSError):
                    name = errno.errorcode.get(answer.errno or errno.EIO, "EIO")
                    errors.setdefault(question, {})[shown(path)] = name
                else:
                    found[question][shown(path)] = answer
        found["entries"]["/proc"] = processes.keys()
        for pid, descriptors in processes.items():
            if f"/proc/{pid}/fd" in found["entries"]:
                found["entries"][f"/proc/{pid}/fd"] = descriptors
        contents = {path: _without_secrets(path, content) for path, content in found["read"].items()}
        texts = {path: content.decode() for path, content in contents.items() if _is_text(content)}
        return FileAnswers(
            texts=texts,
            hex={path: content.hex() for path, content in contents.items() if path not in texts},
            entries=_names(found["entries"]),
            folders=_names(found["folders"]),
            targets={path: shown(self._canonical(target)) for path, target in found["target"].items()},
            numbers=found["number"],
            errors=errors,
        )

    def _ask(self, question: Question, path: str, ask: Callable[[], Answer]) -> Answer:
        known = self._answers.setdefault(question, {})
        try:
            known[self._canonical(path)] = answer = ask()
        except OSError as error:
            known[self._canonical(path)] = error
            raise
        return answer

    def _canonical(self, path: str) -> str:
        for root, name in self._roots:
            if path == root or path.startswith(f"{root}/"):
                return name + path[len(root) :]
        return path

    def _processes(self, folders: Iterable[str]) -> dict[str, set[str]]:
        """Those that are kept, by number, with the numbers of their open files that are. They are asked for name and pod
        here, which the agent asks of holders alone."""
        there = self._answers.get("entries", {})
        found: dict[str, set[str]] = {
            folder.split("/")[2]: set() for folder in folders if not isinstance(there.get(folder), GONE)
        }
        for question, answers in self._answers.items():
            for path, answer in answers.items():
                process = _OF_A_PROCESS.fullmatch(path)
                if process is not None and self._matters(question, path, answer):
                    open_file = process[2].removeprefix("fd/")
                    found.setdefault(process[1], set()).update({open_file} - {"fd"})
        for pid in found:
            with contextlib.suppress(OSError):
                self.read(f"{self._proc}/{pid}/comm")
                self.read(f"{self._proc}/{pid}/cgroup", CGROUP_BYTES)
        return found

    def _matters(self, question: Question, path: str, answer: Any) -> bool:
        """It shows that a process has a device open, or hides whether it has."""
        if isinstance(answer, GONE):
            return False
        if question == "number":
            target = self._answers.get("target", {}).get(path, "")
            if isinstance(answer, OSError):
                return isinstance(target, str) and target.startswith("/dev/")
            return answer is not None and answer[0] not in _EVERYBODYS_MAJORS
        if question == "target":
            return isinstance(answer, OSError) or answer == VFIO_DEVICE
        return isinstance(answer, OSError) and path.endswith("/fd")


async def record(settings: AgentSettings, clock: Clock, files: NodeFiles = KERNEL_FILES) -> Recording:
    """This node as its agent sees it now. Raises Rejected where holders could be overlooked."""
    check_sees_all_processes(settings.proc_root, any_pid_namespace=settings.any_pid_namespace)
    seen = RecordingFiles(files, settings.sys_root, settings.proc_root)
    return await take(of_this_node(settings, seen), seen, settings.accelerators, clock)


async def take(
    sources: NodeSources, files: RecordingFiles, accelerators: Sequence[str], clock: Clock
) -> Recording:
    """What `sources`, which read through `files`, answer to a whole look."""
    nvml, kubelet = await sources.nvml.read(), await sources.kubelet.ask()
    asked = replace(sources, nvml=RecordedNvml(nvml), kubelet=RecordedKubelet(kubelet))
    await ManualControl(asked).look()
    return Recording(
        agent_version=metadata.version("poolmgr"),
        kernel=platform.release(),
        recorded_at=to_rfc3339(clock.now()),
        accelerators=tuple(name for name in accelerators if "/" not in name),
        vendors=tuple(load_vendor(name) for name in accelerators if "/" in name),
        files=files.answers(pid for gpu in nvml.gpus.values() for pid in gpu.processes),
        nvml=nvml,
        kubelet=_kubelet_record(kubelet, here=sources.has_kubelet),
        in_flight=tuple(sorted(sources.sysfs.addresses_in_flight())),
        remembered=dict(sources.remembered),
    )


def _kubelet_record(answer: KubeletAnswer, *, here: bool) -> KubeletRecord:
    pods = MessageToDict(answer.pods)
    given = [
        pod for pod in pods.pop("podResources", []) if any(len(c) > 1 for c in pod.get("containers", []))
    ]
    return KubeletRecord(
        here,
        answer.error,
        MessageToDict(answer.allocatable),
        {**pods, "podResources": given} if given else {},
    )


def _is_recorded(path: str, processes: Mapping[str, set[str]]) -> bool:
    process = _OF_A_PROCESS.fullmatch(path)
    if process is None:
        return True
    descriptors = processes.get(process[1])
    folder, _, name = process[2].partition("/")
    if descriptors is None or folder not in ("comm", "cgroup", "fd", "fdinfo"):
        return False
    return not name or name in descriptors


def _without_secrets(path: str, content: bytes) -> bytes:
    """Of a process no more than the agent looks for."""
    process = _OF_A_PROCESS.fullmatch(path)
    if process is None:
        return content
    if process[2] == "cgroup":
        return f"0::/{pod_in_cgroup(content)}\n".encode()
    if process[2].startswith("fdinfo/"):
        return b"".join(line for line in content.splitlines(keepends=True) if line.startswith(_SYSPATH))
    return content


def _is_text(content: bytes) -> bool:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return False
    return shown(text) == text


def _names(found: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {path: tuple(sorted(shown(name) for name in names)) for path, names in found.items()}
