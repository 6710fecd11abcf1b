"""Scenarios on files that are short, sparse or not there: they run, or say what they need."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from bench.scenarios.catalog import SCENARIOS, build
from bench.scenarios.traces import DAY
from bench.scenarios.workload import Ask
from poolmgr.domain.errors import Rejected


def folder(path: Path, *, without: str = "") -> Path:
    """Small files of every trace; those whose path contains `without` are left out."""
    chance = np.random.default_rng(4)
    starts = np.sort(chance.random(900)) * 16 * DAY
    lengths = np.where(np.arange(900) % 50 == 0, 20 * 3_600.0, 3_000.0)
    sessions = "".join(f"{s:.0f},{d:.0f}\n" for s, d in zip(starts, lengths, strict=True))
    pods = "".join(
        f"1,500,{m},BE,10,10,{t},{t + 7_200},{t}\n" for m in ("", "T4") for t in range(1, 600_000, 3_600)
    )
    dlrm = "".join(f"HN,{'' if n % 3 else n * 1_000},{n * 9_000}\n" for n in range(40)) + "CN,1,2\n"
    azure = "".join(f"{n * 300},600,1200\n" for n in range(500))
    files = {
        "uncg-desktops/sessions_new.csv.gz": f"# t0 = 2024-03-05 00:00\nstart_s,duration_s\n{sessions}",
        "openb/openb_pod_list_default.csv": f"{PODS}\n{pods}",
        "openb/openb_pod_list_gpuspec33.csv": f"{PODS}\n{pods}",
        "openb/openb_pod_list_multigpu50.csv": "name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1,1,8,1000\nb,1,1,2,1000\n",
        "openb/openb_node_list_gpu_node.csv": "sn,cpu_milli,memory_mib,gpu,model\na,1,1,8,T4\nb,1,1,2,G2\n",
        "azure-v1-vm/vms_8plus_cores_dev.csv.gz": f"start_s,dur_lo_s,dur_hi_s\n{azure}",
        "alibaba-dlrm-2025/disaggregated_DLRM_trace.csv": f"role,creation_time,deletion_time\n{dlrm}",
        "alibaba-spot-2026/node_info_df.csv": "node_name,gpu_model,gpu_capacity_num,cpu_num\n"
        + "1,A10,4,64\n2,H800,8,64\n" * 20,
    }
    for name, text in files.items():
        if without and without in name:
            continue
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


PODS = "num_gpu,gpu_milli,gpu_spec,qos,cpu_milli,memory_mib,creation_time,deletion_time,scheduled_time"


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_every_scenario_is_built_from_small_files_of_another_period(tmp_path: Path, name: str) -> None:
    made = build(name, Ask(folder(tmp_path), 0.5, 1, "all", 1))
    assert made.fleet.total > 0
    assert len(made.demand.pod_start)
    assert np.isfinite(made.demand.facts["offered"])


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("S1", "alibaba-dlrm-2025"),
        ("S2", "uncg-desktops"),
        ("S2", "openb/openb_pod_list_default"),
        ("S3", "azure-v1-vm"),
        ("S5", "openb/openb_node_list_gpu_node"),
        ("S5", "openb/openb_pod_list_gpuspec33"),
        ("S6", "openb/openb_pod_list_multigpu50"),
        ("S7", "alibaba-spot-2026"),
    ],
)
def test_a_file_that_is_missing_is_named(tmp_path: Path, name: str, without: str) -> None:
    with pytest.raises(Rejected, match=f"no file .*{without}"):
        build(name, Ask(folder(tmp_path, without=without), 0.5, 1, "all", 1))


@pytest.mark.parametrize(
    ("name", "file", "text", "said"),
    [
        (
            "S1",
            "alibaba-dlrm-2025/disaggregated_DLRM_trace.csv",
            "role,creation_time,deletion_time\nCN,1,2\n",
            "HN",
        ),
        (
            "S5",
            "openb/openb_node_list_gpu_node.csv",
            "sn,cpu_milli,memory_mib,gpu,model\na,1,1,0,\n",
            "node with a GPU",
        ),
    ],
)
def test_what_a_scenario_lacks_in_a_file_is_said(
    tmp_path: Path, name: str, file: str, text: str, said: str
) -> None:
    (folder(tmp_path) / file).write_text(text)
    with pytest.raises(Rejected, match=said):
        build(name, Ask(tmp_path, 0.5, 1, "all", 1))
