"""What an operator wants of a node's GPUs, whatever demand says: kept in their mode, out of use, given back to one side.

A directive stands until somebody ends it. It closes GPUs to whoever comes, and never touches who is there: a GPU in use stays
with its user, and is withdrawn once nobody uses it.

| directive | moves | whoever comes | whoever is there |
|---|---|---|---|
| cordon | none of these GPUs | may have them, in the mode that they have | stays |
| quarantine | none of these GPUs | gets another one | stays; with the last user the GPU leaves service |
| drain of the node to a side | to that side only | may have GPUs that are there already | stays; with the last user the GPU moves |
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from poolmgr.domain.backoff import utc
from poolmgr.domain.errors import Rejected
from poolmgr.domain.identifiers import NodeName, PciAddress
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason

ALL_GPUS = "all"
"""In place of an address: every GPU of the node, also one that comes later."""
LONGEST_NOTE = 256
"""Characters of a reason or a name. Annotations of an object may have 256 KiB together."""


class Directive(StrEnum):
    CORDON = "cordon"
    QUARANTINE = "quarantine"
    DRAIN = "drain"


WORDS = frozenset({Reason.GPU_CORDONED, Reason.GPU_QUARANTINED, Reason.NODE_DRAINED})
"""The reasons by which an operator keeps a GPU where it is: a move that is under way is finished all the same."""


@dataclass(frozen=True, slots=True)
class Note:
    """What the operator who gave a directive left with it."""

    reason: str = ""
    by: str = ""
    at: float = 0.0
    """Unix seconds; 0 where it is not said."""


@dataclass(frozen=True, slots=True)
class Directives:
    """All directives of one node."""

    cordoned: frozenset[str] = frozenset()
    """PCI addresses, or ALL_GPUS."""
    quarantined: frozenset[str] = frozenset()
    drain_to: Mode | None = None
    forgotten: frozenset[str] = frozenset()
    """PCI addresses of cards that are gone for good; each ends by itself once it is done."""
    notes: tuple[tuple[str, Note], ...] = ()
    """By `key_of`, sorted."""

    def note(self, directive: Directive, target: str = "") -> Note:
        """What was said with it; `target` as in the sets, empty for a drain."""
        return dict(self.notes).get(key_of(directive, target), Note())

    def named(self, directive: Directive, address: str) -> str:
        """By which name the directive holds for this GPU: its address, ALL_GPUS, or empty where it does not."""
        names = self.cordoned if directive is Directive.CORDON else self.quarantined
        return address if address in names else ALL_GPUS if ALL_GPUS in names else ""


NO_DIRECTIVES = Directives()


def key_of(directive: Directive, target: str = "") -> str:
    return f"{directive}:{target}" if target else str(directive)


def keeps(directives: Directives, node: NodeName, address: str, mode: Mode | None) -> Verdict | None:
    """Why no move takes the GPU out of `mode`, in which it is; None where no directive says so."""
    if (closed := _quarantined(directives, node, address)) is not None:
        return closed
    if name := directives.named(Directive.CORDON, address):
        said = _said(directives.note(Directive.CORDON, name))
        target = node if name == ALL_GPUS else f"{node}/{address}"
        return Verdict(
            False,
            Reason.GPU_CORDONED,
            f"an operator cordoned it{said}; `poolmgr uncordon {target}` lets it move again",
        )
    if mode is not None and directives.drain_to is mode:
        said = _said(directives.note(Directive.DRAIN))
        return Verdict(
            False,
            Reason.NODE_DRAINED,
            f"an operator is draining {node} to {mode}{said}; `poolmgr node undrain {node}` ends the drain",
        )
    return None


def closes(directives: Directives, node: NodeName, address: str, mode: Mode | None) -> Verdict | None:
    """Why nobody new gets the GPU, which is in `mode`; None where no directive says so."""
    if (closed := _quarantined(directives, node, address)) is not None:
        return closed
    if mode is not None and directives.drain_to is mode.other:
        said = _said(directives.note(Directive.DRAIN))
        return Verdict(
            False,
            Reason.NODE_DRAINED,
            f"an operator is draining {node} to {mode.other}{said}: no new workload gets it, and it moves once it is idle; "
            f"`poolmgr node undrain {node}` ends the drain",
        )
    return None


def is_closed_to_vms(directives: Directives, address: str) -> bool:
    """Whether no VM gets this GPU, which is on their side."""
    return (
        directives is not NO_DIRECTIVES
        and closes(directives, NodeName(""), address, Mode.PASSTHROUGH) is not None
    )


def _quarantined(directives: Directives, node: NodeName, address: str) -> Verdict | None:
    name = directives.named(Directive.QUARANTINE, address)
    if not name:
        return None
    said = _said(directives.note(Directive.QUARANTINE, name))
    target = node if name == ALL_GPUS else f"{node}/{address}"
    return Verdict(
        False,
        Reason.GPU_QUARANTINED,
        f"an operator took it out of use{said}: no new workload gets it; `poolmgr gpu release {target}` gives it back",
    )


def _said(note: Note) -> str:
    """In brackets, whatever of it is known."""
    parts = [note.reason, f"by {note.by}" if note.by else "", f"since {utc(note.at)}" if note.at else ""]
    details = ", ".join(filter(None, parts))
    return f" ({details})" if details else ""


class Verb(StrEnum):
    CORDON = "cordon"
    UNCORDON = "uncordon"
    QUARANTINE = "quarantine"
    RELEASE = "release"
    FORGET = "forget"
    DRAIN = "drain"
    UNDRAIN = "undrain"


@dataclass(frozen=True, slots=True)
class Request:
    """One verb of an operator about one node."""

    verb: Verb
    devices: tuple[str, ...] = ()
    """PCI addresses; none: all GPUs of the node."""
    to: Mode | None = None
    """Of a drain."""
    note: Note = Note()


def after(directives: Directives, request: Request, node: str, gone: Mapping[PciAddress, bool]) -> Directives:
    """The directives once the request is met; equal to `directives` where that is so already.

    `gone`: for each GPU that the node reports, whether it is no longer on its bus. Raises Rejected for a GPU that the
    node does not have, one to be forgotten that is there, and some of the GPUs of a directive about all of them together.
    """
    devices = tuple(dict.fromkeys(device.casefold() for device in request.devices))
    for device in devices:
        if device not in gone and request.verb not in (Verb.UNCORDON, Verb.RELEASE):
            have = ", ".join(sorted(gone)) or "none"
            raise Rejected(Reason.NOT_FOUND, f"{node} has no GPU {device}; it has {have}")
    match request.verb:
        case Verb.CORDON:
            return _added(directives, Directive.CORDON, devices, request.note)
        case Verb.QUARANTINE:
            return _added(directives, Directive.QUARANTINE, devices, request.note)
        case Verb.UNCORDON:
            return _ended(directives, Directive.CORDON, devices, node)
        case Verb.RELEASE:
            return _ended(directives, Directive.QUARANTINE, devices, node)
        case Verb.FORGET:
            return _forgotten(directives, devices, node, gone)
        case Verb.DRAIN:
            if request.to is None:
                raise Rejected(
                    Reason.INVALID_REQUEST, "a drain needs the side to drain to: Shared or Passthrough"
                )
            if directives.drain_to is request.to:
                return directives
            return _noted(replace(directives, drain_to=request.to), {key_of(Directive.DRAIN): request.note})
        case Verb.UNDRAIN:
            return _noted(replace(directives, drain_to=None), {key_of(Directive.DRAIN): None})


def _forgotten(
    directives: Directives, devices: tuple[str, ...], node: str, gone: Mapping[PciAddress, bool]
) -> Directives:
    if not devices:
        raise Rejected(Reason.INVALID_REQUEST, f"name the GPU of {node} that is gone: {node}/PCI-ADDRESS")
    for device in devices:
        if not gone[PciAddress(device)]:
            raise Rejected(
                Reason.STILL_THERE,
                f"GPU {device} of {node} is on its bus: only a card that is gone can be forgotten. To take it out of use: "
                f"`poolmgr gpu quarantine {node}/{device}`",
            )
    found = replace(
        directives,
        forgotten=directives.forgotten | frozenset(devices),
        cordoned=directives.cordoned - frozenset(devices),
        quarantined=directives.quarantined - frozenset(devices),
    )
    return _noted(found, {key_of(directive, device): None for directive in Directive for device in devices})


def _added(directives: Directives, directive: Directive, devices: tuple[str, ...], note: Note) -> Directives:
    known = directives.cordoned if directive is Directive.CORDON else directives.quarantined
    fresh = frozenset(devices or (ALL_GPUS,)) - known
    return _noted(
        _with(directives, directive, known | fresh), {key_of(directive, name): note for name in fresh}
    )


def _ended(directives: Directives, directive: Directive, devices: tuple[str, ...], node: str) -> Directives:
    known = directives.cordoned if directive is Directive.CORDON else directives.quarantined
    if devices and ALL_GPUS in known:
        done, undo, again = {
            Directive.CORDON: ("cordoned", "uncordon", "cordon"),
            Directive.QUARANTINE: ("quarantined", "gpu release", "gpu quarantine"),
        }[directive]
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"all GPUs of {node} were {done} together: {undo} {node}, then {again} the ones to keep that way",
        )
    gone = frozenset(devices) & known if devices else known
    return _noted(
        _with(directives, directive, known - gone), {key_of(directive, name): None for name in gone}
    )


def _with(directives: Directives, directive: Directive, names: frozenset[str]) -> Directives:
    if directive is Directive.CORDON:
        return replace(directives, cordoned=names)
    return replace(directives, quarantined=names)


def _noted(directives: Directives, changes: Mapping[str, Note | None]) -> Directives:
    notes = dict(directives.notes)
    for key, note in changes.items():
        notes.pop(key, None)
        if note is not None and note != Note():
            notes[key] = replace(note, reason=note.reason[:LONGEST_NOTE], by=note.by[:LONGEST_NOTE])
    return replace(directives, notes=tuple(sorted(notes.items())))


def changes(before: Directives, now: Directives, node: str) -> tuple[tuple[Reason, str, Note], ...]:
    """What an operator has changed: reason code, sentence, and who said so. For log, Events and the audit."""
    found: list[tuple[Reason, str, Note]] = []
    for directive, reason, done, undone in (
        (Directive.CORDON, Reason.GPU_CORDONED, "stays in its mode", "may move again"),
        (Directive.QUARANTINE, Reason.GPU_QUARANTINED, "is taken out of use", "is given back to use"),
    ):
        old = before.cordoned if directive is Directive.CORDON else before.quarantined
        new = now.cordoned if directive is Directive.CORDON else now.quarantined
        for name in sorted(new - old):
            note = now.note(directive, name)
            found.append((reason, f"{_named(node, name)} {done}{_said(note)}", note))
        found += [(reason, f"{_named(node, name)} {undone}", Note()) for name in sorted(old - new)]
    if now.drain_to is not before.drain_to:
        note = now.note(Directive.DRAIN)
        said = (
            f"{node} is no longer being drained"
            if now.drain_to is None
            else f"{node} is being drained to {now.drain_to}{_said(note)}"
        )
        found.append((Reason.NODE_DRAINED, said, note))
    for name in sorted(now.forgotten - before.forgotten):
        found.append((Reason.DEVICE_GONE, f"GPU {name} of {node}, which is gone, is forgotten", Note()))
    return tuple(found)


def _named(node: str, name: str) -> str:
    return f"every GPU of {node}" if name == ALL_GPUS else f"GPU {name} of {node}"
