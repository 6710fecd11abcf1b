"""Files of a container image, read from its layers.

A layer is a tar archive that lies over those below it: its file replaces theirs, `.wh.NAME` takes NAME away, and
`.wh..wh..opq` takes away all that the folder held below (OCI image specification, "Representing Changes").
"""

import tarfile
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


class LayerUnreadable(Exception):
    """A layer is packed in a way, or holds the file in a form, that is not read here."""


def files_in(layers: Sequence[Path], wanted: Collection[str]) -> dict[str, bytes]:
    """Content by path of those `wanted` files that the image shows; `layers` are its archives, lowest first.

    Paths are relative to the image's root, as `usr/bin/tool`. Raises LayerUnreadable.
    """
    found: dict[str, bytes] = {}
    looked_for = set(wanted)
    for layer in reversed(layers):
        if not looked_for:
            break
        shown, hidden = _read_layer(layer, looked_for)
        found |= shown
        looked_for -= shown.keys() | hidden
    return found


def _read_layer(layer: Path, wanted: Collection[str]) -> tuple[dict[str, bytes], set[str]]:
    """What the layer has of `wanted`, and what it takes away from the layers below."""
    shown: dict[str, bytes] = {}
    hidden: set[str] = set()
    try:
        with tarfile.open(layer) as archive:
            for member in archive:
                path = str(PurePosixPath(member.name.lstrip("/")))
                folder, _, name = path.rpartition("/")
                if path in wanted:
                    shown[path] = _content(archive, member)
                elif name == _OPAQUE:
                    hidden.update(item for item in wanted if not folder or _below(item, folder))
                elif name.startswith(_WHITEOUT):
                    gone = str(PurePosixPath(folder, name.removeprefix(_WHITEOUT)))
                    hidden.update(item for item in wanted if item == gone or _below(item, gone))
                elif not member.isdir() and any(_below(item, path) for item in wanted):
                    raise LayerUnreadable(f"/{path} is no folder but a {_kind(member)}: name the real path")
    except tarfile.ReadError as error:
        raise LayerUnreadable(f"layer {layer.name} is no tar archive, plain or gzip ({error})") from error
    return shown, hidden


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member) if member.isreg() else None
    if file is None:
        raise LayerUnreadable(f"/{member.name} is no plain file but a {_kind(member)}: name the real path")
    return file.read()


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"link to {member.linkname}"
    return "folder" if member.isdir() else "file"


def _below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")
