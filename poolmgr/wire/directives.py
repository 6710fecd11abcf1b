"""An operator's directives as annotations of a GPUNode, both ways.

By hand or from Git the lists alone are enough; `poolmgr.io/operator-notes` says who asked for what, since when and why.
"""

import msgspec

from poolmgr.domain.directives import NO_DIRECTIVES, Directives, Note
from poolmgr.domain.modes import Mode
from poolmgr.wire.annotations import CORDONED_GPUS, DRAIN_TO, FORGOTTEN_GPUS, OPERATOR_NOTES, QUARANTINED_GPUS
from poolmgr.wire.instants import to_rfc3339, unix_or_zero
from poolmgr.wire.meta import Wire
from poolmgr.wire.text import listed

DIRECTIVES = (CORDONED_GPUS, QUARANTINED_GPUS, DRAIN_TO, FORGOTTEN_GPUS, OPERATOR_NOTES)
_MODES = {mode.value.casefold(): mode for mode in Mode}


class _NoteText(Wire, frozen=True):
    reason: str = ""
    by: str = ""
    at: str = ""


def directives_of(annotations: dict[str, str]) -> Directives:
    """Of a GPUNode. What cannot be read directs nothing: a drain to no known side is no drain."""
    if not any(name in annotations for name in DIRECTIVES):
        return NO_DIRECTIVES
    return Directives(
        cordoned=_names(annotations.get(CORDONED_GPUS)),
        quarantined=_names(annotations.get(QUARANTINED_GPUS)),
        drain_to=_MODES.get(annotations.get(DRAIN_TO, "").strip().casefold()),
        forgotten=_names(annotations.get(FORGOTTEN_GPUS)),
        notes=_notes(annotations.get(OPERATOR_NOTES, "")),
    )


def annotations_of(directives: Directives) -> dict[str, str | None]:
    """The annotations that say so, every one of them: None takes it off."""
    notes = {
        key: {
            "reason": note.reason,
            "by": note.by,
            "at": to_rfc3339(note.at) if note.at else "",
        }
        for key, note in directives.notes
    }
    return {
        CORDONED_GPUS: ",".join(sorted(directives.cordoned)) or None,
        QUARANTINED_GPUS: ",".join(sorted(directives.quarantined)) or None,
        DRAIN_TO: directives.drain_to.value if directives.drain_to else None,
        FORGOTTEN_GPUS: ",".join(sorted(directives.forgotten)) or None,
        OPERATOR_NOTES: msgspec.json.encode(notes, order="sorted").decode() if notes else None,
    }


def _names(text: str | None) -> frozenset[str]:
    return frozenset(listed(text.casefold())) if text else frozenset()


def _notes(text: str) -> tuple[tuple[str, Note], ...]:
    if not text:
        return ()
    try:
        found = msgspec.json.decode(text, type=dict[str, _NoteText])
    except (msgspec.DecodeError, RecursionError):
        return ()
    return tuple(sorted((key, Note(n.reason, n.by, unix_or_zero(n.at))) for key, n in found.items()))
