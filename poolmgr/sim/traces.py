"""Demand read from trace files in a folder given by path. No trace is edited; every rule is stated here.

The folder is laid out as `uncg-desktops/sessions_*.csv.gz` (desktop log-ons; first line `# t0 = <date> …`),
`openb/openb_pod_list_*.csv`, `openb/openb_node_list_gpu_node.csv`, `azure-v1-vm/vms_8plus_cores_dev.csv.gz`,
`alibaba-dlrm-2025/disaggregated_DLRM_trace.csv`, `alibaba-spot-2026/node_info_df.csv`. Files of other periods
in the same layout are read alike.
"""

import csv
import gzip
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

Floats = npt.NDArray[np.float64]
DAY = 86_400.0
WEEK = 7 * DAY


def _open(path: Path) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return str(file.read()).splitlines()


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

    @property
    def span(self) -> float:
        return float(self.start[-1]) if len(self.start) else 0.0


def read_sessions(data: Path) -> Sessions:
    """All session files, one after the other on a common clock whose zero is a Monday 00:00."""
    starts, durations = [], []
    first: float | None = None
    for path in require(data, "uncg-desktops/sessions_*.csv.gz"):
        lines = _open(path)
        begun = re.search(r"t0\s*=\s*(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2}))?", lines[0])
        if begun is None:
            raise Rejected(Reason.INVALID_BODY, f"{path}: the first line must say `# t0 = YYYY-MM-DD HH:MM`")
        at = datetime.fromisoformat(f"{begun.group(1)}T{begun.group(2) or '00:00'}:00+00:00")
        monday = at.timestamp() - at.weekday() * DAY - at.hour * 3_600 - at.minute * 60
        first = monday if first is None else first
        header = next(n for n, line in enumerate(lines) if line.startswith("start_s"))
        columns = lines[header].split(",")
        rows = np.loadtxt(
            lines[header + 1 :],
            delimiter=",",
            usecols=(columns.index("start_s"), columns.index("duration_s")),
            ndmin=2,
        )
        starts.append(rows[:, 0] + at.timestamp() - first)
        durations.append(rows[:, 1])
    start, duration = np.concatenate(starts), np.concatenate(durations)
    order = np.argsort(start, kind="stable")
    return Sessions(start[order], duration[order])


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


def _number(text: str | None) -> float:
    return float(text) if text else float("nan")


def read_pods(data: Path, name: str = "default") -> PodTable:
    """openb's pod list `name`, CPU-only pods included (`gpus` 0)."""
    (path,) = require(data, f"openb/openb_pod_list_{name}.csv")
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    start = np.array([_number(r.get("scheduled_time")) for r in rows])
    start[start <= 0] = np.nan
    created = np.array([_number(r.get("creation_time")) for r in rows])
    duration = np.array([_number(r.get("deletion_time")) for r in rows]) - start
    return PodTable(
        start=np.where(np.isnan(start), np.nan, created),
        duration=duration,
        gpus=np.array([int(r["num_gpu"]) for r in rows]),
        milli=np.array([int(r["gpu_milli"]) for r in rows]),
        best_effort=np.array([r.get("qos") == "BE" for r in rows]),
        cpu_milli=np.array([int(r["cpu_milli"]) for r in rows]),
        memory_mib=np.array([int(r["memory_mib"]) for r in rows]),
        models=tuple(r.get("gpu_spec") or "" for r in rows),
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
    with path.open(encoding="utf-8") as file:
        return [
            TraceNode(r["sn"], int(r["gpu"]), r["model"], int(r["cpu_milli"]), int(r["memory_mib"]))
            for r in csv.DictReader(file)
        ]


def read_spot_nodes(data: Path) -> list[TraceNode]:
    """The 2026 spot fleet's nodes; the list has no memory column."""
    (path,) = require(data, "alibaba-spot-2026/node_info_df.csv")
    with path.open(encoding="utf-8") as file:
        return [
            TraceNode(
                f"spot-{r['node_name']}",
                int(r["gpu_capacity_num"]),
                r["gpu_model"],
                int(float(r["cpu_num"])) * 1_000,
                1_048_576,
            )
            for r in csv.DictReader(file)
        ]


def read_dlrm_instances(data: Path) -> tuple[Floats, Floats]:
    """(start, end) of instances that hold one whole GPU; before the trace is -inf, after it +inf."""
    (path,) = require(data, "alibaba-dlrm-2025/disaggregated_DLRM_trace.csv")
    with path.open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["role"] == "HN"]
    start = np.array([_number(r["creation_time"]) for r in rows])
    end = np.array([_number(r["deletion_time"]) for r in rows])
    return np.where(np.isnan(start), -np.inf, start), np.where(np.isnan(end), np.inf, end)


def read_azure_vms(data: Path) -> tuple[Floats, Floats]:
    """(start, duration) of VMs with at least eight vCPUs; a duration is the middle of its bin."""
    (path,) = require(data, "azure-v1-vm/vms_8plus_cores_dev.csv.gz")
    rows = list(csv.DictReader(_open(path)))
    start = np.array([float(r["start_s"]) for r in rows])
    low = np.array([float(r["dur_lo_s"]) for r in rows])
    high = np.array([_number(r["dur_hi_s"]) for r in rows])
    middle = np.where(np.isfinite(high), (low + high) / 2, low)
    return start - start.min(), middle
