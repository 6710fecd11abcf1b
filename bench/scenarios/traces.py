"""Demand read from trace files in a folder given by path. No trace is edited; every rule is stated here.

The folder is laid out as `uncg-desktops/sessions_*.csv.gz` (desktop log-ons; first line `# t0 = <date> …`),
`openb/openb_pod_list_*.csv`, `openb/openb_node_list_gpu_node.csv`, `azure-v1-vm/vms_8plus_cores_dev.csv.gz`,
`alibaba-dlrm-2025/disaggregated_DLRM_trace.csv`, `alibaba-spot-2026/node_info_df.csv`. Files of other periods
in the same layout are read alike.
"""

import csv
import gzip
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

Floats = npt.NDArray[np.float64]
DAY = 86_400.0
WEEK = 7 * DAY


def _open(path: Path) -> list[str]:
    """The file's lines. Raises Rejected where it cannot be read to its end."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            lines = str(file.read()).splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise Rejected(
            Reason.INVALID_BODY, f"{path} cannot be read to its end ({error}); copy it here again"
        ) from error
    if not lines:
        raise Rejected(Reason.INVALID_BODY, f"{path} is empty; copy it here again")
    return lines


class _Table:
    """A CSV file as columns of text, with errors that name file, line and column."""

    def __init__(self, path: Path, lines: list[str], *, skip: int = 0) -> None:
        self.path, self._skip = path, skip
        rows = list(csv.reader(lines[skip:]))
        self.names, self.rows = rows[0], rows[1:]
        short = next((n for n, row in enumerate(self.rows) if len(row) != len(self.names)), None)
        if short is not None:
            raise self._wrong(short, f"has {len(self.rows[short])} columns and not {len(self.names)}")
        if not self.rows:
            raise Rejected(Reason.INVALID_BODY, f"{path} has a header and no rows")

    def _wrong(self, row: int, what: str) -> Rejected:
        return Rejected(Reason.INVALID_BODY, f"{self.path}, line {self._skip + row + 2}: {what}")

    def text(self, name: str) -> list[str]:
        if name not in self.names:
            raise Rejected(
                Reason.INVALID_BODY,
                f"{self.path} has no column {name!r}; its columns are {', '.join(self.names[:12])}",
            )
        at = self.names.index(name)
        return [row[at] for row in self.rows]

    def numbers(self, name: str, *, missing: bool = False) -> Floats:
        """The column as numbers; an empty field is NaN where `missing` ones are allowed."""
        column = self.text(name)
        numbers = np.empty(len(column))
        for row, field in enumerate(column):
            try:
                numbers[row] = np.nan if missing and not field else float(field)
            except ValueError:
                raise self._wrong(row, f"column {name} must be a number and is {field!r}") from None
        return numbers

    def optional(self, name: str) -> Floats:
        """A column that the file need not have: NaN where it says nothing."""
        if name not in self.names:
            return np.full(len(self.rows), np.nan)
        return self.numbers(name, missing=True)

    def whole(self, name: str) -> npt.NDArray[np.int64]:
        return self.numbers(name).astype(np.int64)


def require(data: Path, pattern: str) -> list[Path]:
    """The files that match, or Rejected with where to put them."""
    found = sorted(data.glob(pattern))
    if not found:
        message = f"no file {data}/{pattern}; give the folder that holds the traces with --data"
        raise Rejected(Reason.NOT_FOUND, message)
    return found


@dataclass(frozen=True, slots=True)
class Sessions:
    """Times at which desktops are wanted: seconds from a Monday 00:00, sorted by start."""

    start: Floats
    duration: Floats
    monday: date = date(1970, 1, 5)
    """The day on which its clock begins."""

    @property
    def span(self) -> float:
        return float(self.start[-1]) if len(self.start) else 0.0


def _session_files(data: Path) -> list[Path]:
    plain = sorted(data.glob("uncg-desktops/sessions_*.csv"))
    packed = sorted(data.glob("uncg-desktops/sessions_*.csv.gz"))
    return packed or plain or require(data, "uncg-desktops/sessions_*.csv.gz")


@lru_cache(maxsize=2)
def read_sessions(data: Path) -> Sessions:
    """All session files, one after the other on a common clock whose zero is a Monday 00:00."""
    starts, durations, zeros = [], [], []
    for path in _session_files(data):
        lines = _open(path)
        begun = re.search(r"t0\s*=\s*(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2}))?", lines[0])
        if begun is None:
            raise Rejected(Reason.INVALID_BODY, f"{path}: the first line must say `# t0 = YYYY-MM-DD HH:MM`")
        at = datetime.fromisoformat(f"{begun.group(1)}T{begun.group(2) or '00:00'}:00+00:00")
        header = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines) - 1)
        table = _Table(path, lines, skip=header)
        zeros.append(at.timestamp())
        starts.append(table.numbers("start_s", missing=True) + at.timestamp())
        durations.append(table.numbers("duration_s", missing=True))
    start, duration = np.concatenate(starts), np.concatenate(durations)
    # Rows that lack a time, or never end, say nothing; some that were under way at t0 begin before it.
    whole = np.isfinite(start) & np.isfinite(duration) & (duration > 0)
    if not whole.any():
        raise Rejected(
            Reason.INVALID_BODY, f"no session file in {data}/uncg-desktops has a row with start and duration"
        )
    first = min(*zeros, float(start[whole].min()))
    midnight = first - first % DAY
    monday = midnight - datetime.fromtimestamp(first, UTC).weekday() * DAY
    order = np.flatnonzero(whole)[np.argsort(start[whole], kind="stable")]
    return Sessions(start[order] - monday, duration[order], datetime.fromtimestamp(monday, UTC).date())


@dataclass(frozen=True, slots=True)
class PodTable:
    """Pods as columns. `start` is NaN where the trace has no times: shapes only."""

    start: Floats
    duration: Floats
    gpus: npt.NDArray[np.int64]
    milli: npt.NDArray[np.int64]
    """Thousandths of each of its GPUs."""
    best_effort: npt.NDArray[np.bool_]
    cpu_milli: npt.NDArray[np.int64]
    memory_mib: npt.NDArray[np.int64]
    models: tuple[str, ...]
    """Acceptable models joined by `|`, one entry a pod; empty accepts any."""

    def __len__(self) -> int:
        return len(self.start)

    def pick(self, rows: npt.NDArray[np.bool_]) -> "PodTable":
        return PodTable(
            self.start[rows],
            self.duration[rows],
            self.gpus[rows],
            self.milli[rows],
            self.best_effort[rows],
            self.cpu_milli[rows],
            self.memory_mib[rows],
            tuple(m for m, keep in zip(self.models, rows, strict=True) if keep),
        )


@lru_cache(maxsize=4)
def read_pods(data: Path, name: str = "default") -> PodTable:
    """openb's pod list `name`, CPU-only pods included (`gpus` 0)."""
    (path,) = require(data, f"openb/openb_pod_list_{name}.csv")
    table = _Table(path, _open(path))
    created = table.optional("creation_time")
    start = table.optional("scheduled_time") if "scheduled_time" in table.names else created.copy()
    start[start <= 0] = np.nan
    rows = len(table.rows)
    # The list of multi-GPU pods has shapes alone: whoever says no class is not best effort.
    qos = table.text("qos") if "qos" in table.names else [""] * rows
    return PodTable(
        start=np.where(np.isnan(start), np.nan, created),
        duration=table.optional("deletion_time") - start,
        gpus=table.whole("num_gpu"),
        milli=table.whole("gpu_milli"),
        best_effort=np.array([said == "BE" for said in qos]),
        cpu_milli=table.whole("cpu_milli"),
        memory_mib=table.whole("memory_mib"),
        models=tuple(table.text("gpu_spec") if "gpu_spec" in table.names else [""] * rows),
    )


@dataclass(frozen=True, slots=True)
class TraceNode:
    name: str
    gpus: int
    model: str
    cpu_milli: int
    memory_mib: int


def read_openb_nodes(data: Path) -> list[TraceNode]:
    """openb's nodes with GPUs."""
    (path,) = require(data, "openb/openb_node_list_gpu_node.csv")
    table = _Table(path, _open(path))
    columns = (table.whole("gpu"), table.whole("cpu_milli"), table.whole("memory_mib"))
    rows = zip(table.text("sn"), table.text("model"), *columns, strict=True)
    return [TraceNode(name, int(gpus), model, int(cpu), int(mem)) for name, model, gpus, cpu, mem in rows]


def read_spot_nodes(data: Path) -> list[TraceNode]:
    """The 2026 spot fleet's nodes; the list has no memory column."""
    (path,) = require(data, "alibaba-spot-2026/node_info_df.csv")
    table = _Table(path, _open(path))
    columns = (table.whole("gpu_capacity_num"), table.whole("cpu_num"))
    rows = zip(table.text("node_name"), table.text("gpu_model"), *columns, strict=True)
    return [
        TraceNode(f"spot-{name}", int(gpus), model, int(cpu) * 1_000, 1_048_576)
        for name, model, gpus, cpu in rows
    ]


def read_dlrm_instances(data: Path) -> tuple[Floats, Floats]:
    """(start, end) of instances that hold one whole GPU; before the trace is -inf, after it +inf."""
    (path,) = require(data, "alibaba-dlrm-2025/disaggregated_DLRM_trace.csv")
    table = _Table(path, _open(path))
    holds = np.array([role == "HN" for role in table.text("role")])
    if not holds.any():
        raise Rejected(
            Reason.INVALID_BODY, f"{path} has no row of role HN, the instances that hold a GPU; S1 needs some"
        )
    start, end = (table.numbers(n, missing=True)[holds] for n in ("creation_time", "deletion_time"))
    return np.where(np.isnan(start), -np.inf, start), np.where(np.isnan(end), np.inf, end)


LEAST_BURST = 900.0
"""Seconds: in less than that a planner that looks every 15 s shows nothing."""


def read_azure_vms(data: Path) -> tuple[Floats, Floats]:
    """(start, duration) of VMs with at least eight vCPUs; a duration is the middle of its bin."""
    (path,) = require(data, "azure-v1-vm/vms_8plus_cores_dev.csv.gz")
    table = _Table(path, _open(path))
    start, low = table.numbers("start_s"), table.numbers("dur_lo_s")
    high = table.numbers("dur_hi_s", missing=True)
    middle = np.where(np.isfinite(high), (low + high) / 2, low)
    if float(start.max() - start.min()) < LEAST_BURST:
        raise Rejected(
            Reason.INVALID_BODY,
            f"{path}: its VMs start within less than a quarter of an hour; S3 needs longer",
        )
    return start - start.min(), middle
