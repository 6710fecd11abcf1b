"""Reads hooks.def and the signatures of NVIDIA's headers. No output of its own; see generate.py."""

import re
from dataclasses import dataclass
from pathlib import Path

HOOK = re.compile(r"^HOOK\((\w+),\s*(\w+),\s*(\w+),\s*(.+)\)$", re.MULTILINE)
TYPEDEF = re.compile(r"typedef\s+CUresult\s*\(CUDAAPI\s*\*\s*PFN_(\w+)\)\s*\((.*?)\);", re.DOTALL)
NVML = re.compile(r"nvmlReturn_t\s+DECLDIR\s+(\w+)\s*\((.*?)\)\s*;", re.DOTALL)
VERSION = re.compile(r"^(?P<base>\w+?)_v(?P<since>\d+)(?P<suffix>_ptds|_ptsz)?$")


@dataclass(frozen=True)
class Signature:
    """Parameters as written in the header, split: [("CUdeviceptr *", "dptr", "")]; last is an array suffix."""

    parameters: tuple[tuple[str, str, str], ...]

    @property
    def declared(self) -> str:
        return ", ".join(f"{kind} {name}{array}" for kind, name, array in self.parameters) or "void"

    @property
    def names(self) -> str:
        return ", ".join(name for _, name, _ in self.parameters)

    @property
    def types(self) -> tuple[str, ...]:
        """What the ABI depends on: parameter types without names and spacing."""
        return tuple(re.sub(r"\s+", "", kind) + array for kind, _, array in self.parameters)


@dataclass(frozen=True)
class Hook:
    symbol: str
    typedef: str
    kind: str
    action: str
    signature: Signature
    base: str
    """The name cuGetProcAddress knows it by."""
    since: int
    """CUDA release of this ABI, as cudaVersion (11030 = 11.3); 0 for NVML."""
    per_thread: bool
    """Uses the per-thread default stream."""

    @property
    def is_nvml(self) -> bool:
        return self.symbol.startswith("nvml")

    @property
    def result(self) -> str:
        return "nvmlReturn_t" if self.is_nvml else "CUresult"


def read_signature(text: str) -> Signature:
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
    text = " ".join(text.split())
    if text in ("", "void"):
        return Signature(())
    parameters = []
    for part in text.split(","):
        found = re.match(r"^(.*?[\s*])(\w+)\s*((?:\[\w*\])*)$", part.strip())
        if not found:
            raise SystemExit(f"cannot read the parameter {part!r} in {text!r}")
        parameters.append((found[1].strip(), found[2], found[3]))
    return Signature(tuple(parameters))


def read_typedefs(cuda_include: Path) -> dict[str, Signature]:
    """PFN_ name without prefix → signature, from cudaTypedefs.h."""
    text = (cuda_include / "cudaTypedefs.h").read_text()
    return {name: read_signature(parameters) for name, parameters in TYPEDEF.findall(text)}


def read_nvml(nvml_include: Path) -> dict[str, Signature]:
    text = (nvml_include / "nvml.h").read_text()
    return {name: read_signature(parameters) for name, parameters in NVML.findall(text)}


def read_hooks(table: Path, typedefs: dict[str, Signature], nvml: dict[str, Signature]) -> list[Hook]:
    hooks = []
    for symbol, typedef, kind, action in HOOK.findall(table.read_text()):
        if symbol.startswith("nvml"):
            if symbol not in nvml:
                raise SystemExit(f"{table.name}: {symbol} is not in nvml.h")
            hooks.append(Hook(symbol, typedef, kind, action, nvml[symbol], symbol, 0, False))
            continue
        if typedef not in typedefs:
            raise SystemExit(f"{table.name}: PFN_{typedef} is not in cudaTypedefs.h")
        version = VERSION.match(typedef)
        if not version:
            raise SystemExit(f"{table.name}: {typedef} carries no version")
        hooks.append(
            Hook(
                symbol,
                typedef,
                kind,
                action,
                typedefs[typedef],
                version["base"],
                int(version["since"]),
                bool(version["suffix"]),
            )
        )
    seen = [hook.symbol for hook in hooks]
    if len(seen) != len(set(seen)):
        raise SystemExit(f"{table.name}: listed twice: {sorted({s for s in seen if seen.count(s) > 1})}")
    return hooks
