"""Rows that only a GPU gives, beside those of `rows.py`: tenants on one GPU, and PyTorch programs."""

import concurrent.futures
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.hook.bed import Bed
from bench.hook.containers import LIMIT_BYTES, Arm, DidNotFinish, Program, run_program
from bench.hook.rows import Row
from bench.hook.shares import Shares

TENANTS = ((30, 70), (10, 90), (25, 25, 25, 25))
PROGRAM = Path(__file__).with_name("torch_program.py")
ALLOCATORS = {
    "default": "",
    "expandable segments": "expandable_segments:True",
    "cudaMallocAsync": "backend:cudaMallocAsync",
}


def tenant_rows(bed: Bed, arms: list[Arm], seconds: int) -> Iterator[Row]:
    """Containers side by side, each with its share; the figure is the worst one's error in points."""
    measured = Shares(bed)
    for shares in TENANTS:
        row = Row(
            f"share error, tenants {'/'.join(map(str, shares))}", "points", note="kernels of 200 µs, all busy"
        )
        for arm in arms[1:]:
            try:
                row.figures[arm.name] = max(
                    abs(got - wanted)
                    for got, wanted in zip(_side_by_side(measured, arm, shares, seconds), shares, strict=True)
                )
            except DidNotFinish as end:
                row.figures[arm.name] = str(end)
        yield row


def _side_by_side(measured: Shares, arm: Arm, shares: tuple[int, ...], seconds: int) -> list[float]:
    """Percent of the GPU that each got. They share the machine, and see each other's regions as the chart lets them."""
    arguments = ("--ns", "200000", "--seconds", str(seconds), "--warm", "2")
    with tempfile.TemporaryDirectory(prefix="poolmgr-hookbench-") as folder:
        shared = {"FAKE_CUDA_SHM": f"{folder}/machine", "POOLMGR_HOOK_ACTIVITY": folder}
        tenants = [
            Program(
                "share",
                arguments,
                core_limit=limit,
                virtual=True,
                variables={**shared, "CUDA_DEVICE_MEMORY_SHARED_CACHE": f"{folder}/{number}.cache"},
            )
            for number, limit in enumerate(shares)
        ]
        measured.run_alone(tenants[0])
        with concurrent.futures.ThreadPoolExecutor(len(shares)) as pool:
            running = [pool.submit(measured.of, arm, tenant) for tenant in tenants]
            return [tenant.result() for tenant in running]


def torch_rows(bed: Bed, arms: list[Arm], seconds: int) -> Iterator[Row]:
    """PyTorch, where it can be imported: training at half a GPU, memory by each of its allocators."""
    if importlib.util.find_spec("torch") is None:
        return
    train = Program("torch", ("train", str(seconds)), timeout_seconds=seconds + 120)
    row = Row("PyTorch: training at 50 %", "points", note="against training without a hook")
    try:
        (alone,) = _torch(bed, arms[0], train)
    except DidNotFinish as end:
        row.note = f"without a hook it {end}"
        yield row
        return
    for arm in arms[1:]:
        try:
            (limited,) = _torch(
                bed, arm, Program("torch", train.arguments, 50, timeout_seconds=seconds + 120)
            )
            speed = limited["steps"] / limited["elapsed_s"] / (alone["steps"] / alone["elapsed_s"])
            row.figures[arm.name] = abs(100 * speed - 50)
        except DidNotFinish as end:
            row.figures[arm.name] = str(end)
    yield row
    for name, setting in ALLOCATORS.items():
        row = Row(f"PyTorch: memory above the limit, {name}", "MiB", note="limit 1 GiB; reserved by PyTorch")
        variables = {"PYTORCH_CUDA_ALLOC_CONF": setting} if setting else {}
        for arm in arms[1:]:
            try:
                (filled,) = _torch(bed, arm, Program("torch", ("fill",), variables=variables))
                row.figures[arm.name] = max(0, filled["bytes"] - LIMIT_BYTES) / (1 << 20)
            except DidNotFinish as end:
                row.figures[arm.name] = str(end)
        yield row


def _torch(bed: Bed, arm: Arm, program: Program) -> list[dict[str, float]]:
    return run_program([sys.executable, str(PROGRAM), *program.arguments], bed, arm, program)
