"""Makes C from hooks.def and NVIDIA's headers: `generate.py hook|cuda|nvml --out DIR …`.

hook: ph_calls.h and ph_calls.c (the table of calls), ph_hooks.h (prototypes of the actions), ph_wrappers.c (exports),
libvgpu.map (version script).
cuda: fk_cuda_exports.c, every export of the fake libcuda: those that some source implements, the others "not supported".
nvml: fk_nvml_exports.c, the same of the fake libnvidia-ml; needs no more than --nvml, --names and --sources.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from hooks_table import VERSION, Hook, Signature, read_hooks, read_nvml, read_typedefs

BANNER = "/* Made by libhook/gen/generate.py from hooks.def; do not edit. */\n"
GLIBC_BASE = {"x86_64": "GLIBC_2.2.5", "aarch64": "GLIBC_2.17"}
"""The first glibc of each architecture: dlsym's version before it moved into libc in 2.34."""
ACTION = re.compile(r"^(launch|before|wait)\((.*)\)$")


def split_arguments(text: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += letter
    return [*parts, current.strip()]


def wrapper(hook: Hook) -> str:
    """The exported function. Its whole cost while nothing is limited: one load and one predictable branch."""
    names = hook.signature.names
    kind = f"(({hook.result} (*)({hook.signature.declared}))ph_real(&ph_calls[PH_{hook.symbol}]))"
    head = f"PH_EXPORT {hook.result} {hook.symbol}({hook.signature.declared}) {{\n"
    found = ACTION.match(hook.action)
    if not found:
        call = f"&ph_calls[PH_{hook.symbol}]" + (f", {names}" if names else "")
        return head + f"    ph_ensure_initialized();\n    return ph_{hook.action}({call});\n}}\n"
    what, arguments = found[1], split_arguments(found[2])
    per_thread = "true" if hook.per_thread else "false"
    if what == "launch":
        stream, key, size = arguments
        return head + (
            f"    int gate = ph_gate_state();\n"
            f"    if (PH_LIKELY(gate == PH_GATE_OPEN)) {{ ph_note_activity(); return {kind}({names}); }}\n"
            f"    if (PH_UNLIKELY(gate == PH_GATE_UNINITIALIZED)) ph_initialize_at_launch();\n"
            f"    ph_note_activity();\n"
            f"    struct ph_launch launch;\n"
            f"    if (!ph_launch_begin(&launch, {stream}, {per_thread}, (const void *)({key}), {size})) return {kind}({names});\n"
            f"    {hook.result} result = {kind}({names});\n"
            f"    ph_launch_end(&launch, result == CUDA_SUCCESS);\n"
            f"    return result;\n}}\n"
        )
    stream = arguments[0]
    before = (
        f"    if (PH_LIKELY(ph_gate_state() == PH_GATE_OPEN)) return {kind}({names});\n"
        f"    ph_ensure_initialized();\n"
        f"    ph_before_order({stream}, {per_thread});\n"
    )
    if what == "before":
        return head + before + f"    return {kind}({names});\n}}\n"
    return (
        head
        + before
        + (f"    {hook.result} result = {kind}({names});\n    ph_after_wait();\n    return result;\n}}\n")
    )


def write_hook(hooks: list[Hook], out: Path, arch: str) -> None:
    ids = [BANNER, "#pragma once\n", "enum ph_id {"]
    ids += [f"    PH_{hook.symbol}," for hook in hooks]
    ids += ["    PH_COUNT\n};"]
    (out / "ph_calls.h").write_text("\n".join(ids) + "\n")

    header = [BANNER, "#pragma once\n"]
    done: set[str] = set()
    for hook in hooks:
        if ACTION.match(hook.action) or hook.action in done:
            continue
        done.add(hook.action)
        parameters = "" if hook.signature.declared == "void" else ", " + hook.signature.declared
        header.append(f"{hook.result} ph_{hook.action}(const struct ph_call *call{parameters});")
    (out / "ph_hooks.h").write_text("\n".join(header) + "\n")

    table = [BANNER, '#include "calls.h"\n', "struct ph_call ph_calls[PH_COUNT] = {"]
    table += [
        f'    [PH_{hook.symbol}] = {{ .symbol = "{hook.symbol}", .base = "{hook.base}", '
        f".hook = (void *){hook.symbol}, .since = {hook.since}, .per_thread = {str(hook.per_thread).lower()} }},"
        for hook in hooks
    ]
    (out / "ph_calls.c").write_text("\n".join([*table, "};\n"]))

    body = [
        BANNER,
        '#include "batches.h"\n#include "hooks.h"\n#include "housekeeper.h"\n#include "init.h"\n',
    ]
    body += [wrapper(hook) for hook in hooks]
    (out / "ph_wrappers.c").write_text("\n".join(body))

    names = "\n".join(f"        {hook.symbol};" for hook in hooks)
    (out / "libvgpu.map").write_text(
        "/* Made by libhook/gen/generate.py. dlsym and dlvsym carry glibc's own versions: programs ask for them by these. */\n"
        f"LIBVGPU_1 {{\n    global:\n{names}\n    local: *;\n}};\n"
        f"{GLIBC_BASE.get(arch, 'GLIBC_2.17')} {{\n    global: dlsym; dlvsym;\n}};\n"
        "GLIBC_2.34 {\n    global: dlsym; dlvsym;\n};\n"
    )


def implemented(sources: list[Path]) -> set[str]:
    found: set[str] = set()
    for source in sources:
        found |= set(re.findall(r"^(?:CUresult|nvmlReturn_t) fk_(\w+)\(", source.read_text(), re.MULTILINE))
    return found


def written_out(sources: list[Path]) -> set[str]:
    """Exports that a source defines itself, because their result is no status code."""
    own = re.compile(r"^[a-z][\w *]*?\b((?:nvml|cu)\w+)\(", re.MULTILINE)
    return {name for source in sources for name in own.findall(source.read_text())}


def stub(name: str, driver: str) -> str:
    """Exported under the driver's name without clashing with the header's prototype of it."""
    return (
        f'int fk_stub_{name}(void) __asm__("{name}");\n'
        f'int fk_stub_{name}(void) {{ return {driver}_unsupported("{name}"); }}'
    )


def write_cuda(
    hooks: list[Hook], extra: list[Hook], names: list[str], sources: list[Path], out: Path
) -> None:
    """One export per name. Variants with the same parameters share an implementation."""
    have = implemented(sources)
    every = [hook for hook in [*hooks, *extra] if not hook.is_nvml]
    by_shape: dict[tuple[str, tuple[str, ...]], str] = {}
    for hook in every:
        plain = re.sub(r"_pt[ds][sz]?$", "", hook.symbol)
        if plain in have:
            by_shape.setdefault((hook.base, hook.signature.types), plain)
    body = [BANNER, '#include "fake.h"\n']
    table = []
    for hook in every:
        plain = re.sub(r"_pt[ds][sz]?$", "", hook.symbol)
        target = plain if plain in have else by_shape.get((hook.base, hook.signature.types))
        pure = hook.signature.names
        if target is None:
            body.append(stub(hook.symbol, "fk"))
        else:
            parameters = "" if hook.signature.declared == "void" else ", " + hook.signature.declared
            per_thread = str(hook.per_thread).lower()
            body.append(
                f"{hook.result} fk_{target}(const struct fk_call *call{parameters});\n"
                f"{hook.result} {hook.symbol}({hook.signature.declared}) {{\n"
                f'    static const struct fk_call call = {{ "{hook.symbol}", {per_thread} }};\n'
                f"    int refused = fk_enter(&call);\n"
                f"    if (refused) return ({hook.result})refused;\n"
                f"    return fk_{target}(&call{', ' + pure if pure else ''});\n}}"
            )
        table.append(
            f'    {{ "{hook.base}", "{hook.symbol}", {hook.since}, {str(hook.per_thread).lower()}, (void *){hook.symbol if target else "fk_stub_" + hook.symbol} }},'
        )
    known = {hook.symbol for hook in every} | written_out(sources)
    for name in names:
        if name not in known and name.startswith("cu") and not name.startswith("cudbg"):
            body.append(stub(name, "fk"))
    body.append("const struct fk_symbol fk_symbols[] = {\n" + "\n".join(table) + "\n    { 0 }\n};")
    (out / "fk_cuda_exports.c").write_text("\n".join(body) + "\n")


def write_nvml(signatures: dict[str, Signature], names: list[str], sources: list[Path], out: Path) -> None:
    """One export per name, one at a time in each program."""
    have = implemented(sources)
    body = [BANNER, '#include "nvml_view.h"\n']
    for name in sorted(have):
        signature = signatures[name]
        parameters = "" if signature.declared == "void" else ", " + signature.declared
        pure = ", " + signature.names if signature.names else ""
        body.append(
            f"nvmlReturn_t fk_{name}(const struct fk_call *call{parameters});\n"
            f"nvmlReturn_t {name}({signature.declared});\n"
            f"nvmlReturn_t {name}({signature.declared}) {{\n"
            f'    static const struct fk_call call = {{ "{name}" }};\n'
            f"    nvmlReturn_t result = nv_enter(&call);\n"
            f"    if (result == NVML_SUCCESS) result = fk_{name}(&call{pure});\n"
            f"    nv_leave();\n"
            f"    return result;\n}}"
        )
    known = have | written_out(sources)
    body += [stub(name, "nv") for name in names if name.startswith("nvml") and name not in known]
    (out / "fk_nvml_exports.c").write_text("\n".join(body) + "\n")


def read_extra(path: Path, typedefs: dict[str, Signature]) -> list[Hook]:
    """FAKE(symbol, typedef): functions that programs need and the hook leaves alone."""
    extra = []
    for symbol, typedef in re.findall(r"^FAKE\((\w+),\s*(\w+)\)$", path.read_text(), re.MULTILINE):
        signature = typedefs.get(typedef)
        if signature is None:
            raise SystemExit(f"{path.name}: no signature for {symbol}")
        version = VERSION.match(typedef)
        extra.append(
            Hook(
                symbol,
                typedef,
                "passed",
                "",
                signature,
                version["base"] if version else symbol,
                int(version["since"]) if version else 0,
                bool(version and version["suffix"]),
            )
        )
    return extra


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["hook", "cuda", "nvml"])
    parser.add_argument("--out", type=Path, required=True)
    for name in ("--cuda", "--nvml", "--table", "--extra"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--arch", default="x86_64", choices=["x86_64", "aarch64"])
    parser.add_argument("--names", type=Path, nargs="*", default=[])
    parser.add_argument("--sources", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    names = sorted(
        {line.strip() for path in args.names for line in path.read_text().splitlines() if line.strip()}
    )
    nvml = read_nvml(args.nvml)
    if args.what == "nvml":
        write_nvml(nvml, names, args.sources, args.out)
        return
    typedefs = read_typedefs(args.cuda)
    hooks = read_hooks(args.table, typedefs, nvml)
    if args.what == "hook":
        write_hook(hooks, args.out, args.arch)
    else:
        write_cuda(hooks, read_extra(args.extra, typedefs), names, args.sources, args.out)


if __name__ == "__main__":
    main()
