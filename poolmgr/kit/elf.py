"""Whether the dynamic linker of this machine takes a shared library. It leaves one for another machine out of a preload
with a line on stderr: programs then run, without any limit."""

MACHINES = {"x86_64": 62, "aarch64": 183}
"""`e_machine` of ELF's header (elf.h: EM_X86_64, EM_AARCH64), by what the kernel calls the machine."""
HEADER_BYTES = 20
"""Up to the end of `e_machine`."""


def why_not_loaded(content: bytes, machine: str) -> str | None:
    """What is wrong with a library's content (its first 20 bytes are enough) on `machine`, as `platform.machine()` says
    it: the end of a sentence that begins with the library's path. None if nothing is."""
    if not content.startswith(b"\x7fELF") or len(content) < HEADER_BYTES:
        return "is no shared library"
    if int.from_bytes(content[18:20], "little") != MACHINES.get(machine):
        return (
            f"is built for another machine than this {machine}: programs would run without any limit. "
            "Take the build for this machine"
        )
    return None
