"""A recording in the place of a node: the agent's own parts ask it and are answered as they were there.

It touches no file of this machine but the agent's own data, and refuses every write.
"""

import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.json_format import ParseDict, ParseError

from poolmgr.agent.accelerators import Catalogue, load_catalogue
from poolmgr.agent.files import PAGE_BYTES, DeviceNumber
from poolmgr.agent.kernelwrite import WriteOutcome
from poolmgr.agent.node_sources import NodeSources
from poolmgr.agent.nvml import NvmlReport
from poolmgr.agent.podresources import KubeletAnswer, KubeletView
from poolmgr.agent.recording.format import FileAnswers, KubeletRecord, Question, Recording
from poolmgr.agent.sysfs import Sysfs
from poolmgr.agent.wire import podresources_pb2 as wire
from poolmgr.domain.errors import Rejected
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.reasons import Reason

Answer = TypeVar("Answer")


class RecordedFiles:
    """`NodeFiles` from a recording. What was not asked on the node is answered as not there, and noted as a gap."""

    def __init__(self, answers: FileAnswers) -> None:
        self._answers = answers
        self._gaps: dict[str, None] = {}

    def gaps(self) -> tuple[str, ...]:
        """Paths that were asked about and of which the recording knows nothing, in the order of asking."""
        return tuple(self._gaps)

    def read(self, path: str, at_most: int = PAGE_BYTES) -> bytes:
        if path in self._answers.hex:
            return bytes.fromhex(self._answers.hex[path])[:at_most]
        return self._answer("read", path, self._answers.texts).encode()[:at_most]

    def entries(self, folder: str) -> list[str]:
        return list(self._answer("entries", folder, self._answers.entries))

    def folders(self, folder: str) -> list[str]:
        return list(self._answer("folders", folder, self._answers.folders))

    def target(self, link: str) -> str:
        return self._answer("target", link, self._answers.targets)

    def number(self, path: str) -> DeviceNumber | None:
        return self._answer("number", path, self._answers.numbers)

    def _answer(self, question: Question, path: str, answers: Mapping[str, Answer]) -> Answer:
        if path in answers:
            return answers[path]
        refusal = self._answers.errors.get(question, {}).get(path)
        if refusal is None:
            self._gaps[path] = None
            refusal = "ENOENT"
        number = getattr(errno, refusal)
        raise OSError(number, os.strerror(number), path)


class RecordedKubelet:
    def __init__(self, answer: KubeletAnswer) -> None:
        self._answer = answer

    async def ask(self) -> KubeletAnswer:
        return self._answer

    async def read(self, resource_names: Iterable[str]) -> KubeletView:
        return self._answer.view(resource_names)


class RecordedNvml:
    def __init__(self, report: NvmlReport) -> None:
        self._report = report

    async def read(self) -> NvmlReport:
        return self._report

    async def quiesce(self, address: PciAddress) -> str:
        raise _no_writes()

    async def resume(self, address: PciAddress) -> None:
        raise _no_writes()


class NoWrites:
    """`KernelWriter` of a node that is elsewhere."""

    def __init__(self, in_flight: Iterable[PciAddress]) -> None:
        self._in_flight = frozenset(in_flight)

    def prepare(self) -> None:
        raise _no_writes()

    async def write(self, about: PciAddress, path: Path, text: str, deadline_seconds: float) -> WriteOutcome:
        raise _no_writes()

    def in_flight(self) -> frozenset[PciAddress]:
        return self._in_flight


def sources_of(recording: Recording) -> NodeSources:
    """Raises Rejected for an accelerator or an answer of the kubelet that this release does not know."""
    files = RecordedFiles(recording.files)
    built_in = load_catalogue(name for name in recording.accelerators if "/" not in name)
    return NodeSources(
        Catalogue((*built_in.vendors, *recording.vendors)),
        Sysfs(NoWrites(recording.in_flight), files=files),
        RecordedKubelet(_kubelet_answer(recording.kubelet)),
        RecordedNvml(recording.nvml),
        remembered=recording.remembered,
        has_kubelet=recording.kubelet.here,
        gaps=files.gaps,
    )


def _kubelet_answer(record: KubeletRecord) -> KubeletAnswer:
    try:
        return KubeletAnswer(
            _message(record.allocatable, wire.AllocatableResourcesResponse()),
            _message(record.pods, wire.ListPodResourcesResponse()),
            record.error,
        )
    except (ParseError, RecursionError) as error:
        raise Rejected(
            Reason.INVALID_REQUEST, f"what the kubelet said cannot be read in this recording: {error}"
        ) from error


def _message(fields: dict[str, Any], message: Any) -> Any:
    return ParseDict(fields, message, ignore_unknown_fields=True)


def _no_writes() -> Rejected:
    return Rejected(Reason.INVALID_REQUEST, "a recorded node is looked at, not changed")
