"""Operators' directives, and how far they are carried out, as the API's JSON. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from poolmgr.api import directive_schemas, schemas
from poolmgr.domain.census import GpuUse
from poolmgr.domain.directives import ALL_GPUS, WORDS, Directive, Directives, Note, Request, Verb
from poolmgr.domain.fleet import REBINDABLE, Gpu, Transition
from poolmgr.domain.modes import Mode
from poolmgr.domain.usage import state_of
from poolmgr.wire.gpu_nodes import with_directives
from poolmgr.wire.instants import to_rfc3339


def directives(found: Directives) -> list[schemas.Directive]:
    said = [
        _directive(Directive.CORDON, name, found.note(Directive.CORDON, name))
        for name in sorted(found.cordoned)
    ]
    said += [
        _directive(Directive.QUARANTINE, name, found.note(Directive.QUARANTINE, name))
        for name in sorted(found.quarantined)
    ]
    if found.drain_to is not None:
        said.append(_directive(Directive.DRAIN, ALL_GPUS, found.note(Directive.DRAIN), found.drain_to))
    return said + [_directive("forget", name, Note()) for name in sorted(found.forgotten)]


def _directive(directive: str, target: str, note: Note, to: Mode | None = None) -> schemas.Directive:
    return schemas.Directive(
        directive=str(directive),
        target=target,
        to=to,
        reason=note.reason,
        by=note.by,
        since=to_rfc3339(note.at) if note.at else None,
    )


def answer(
    node: str,
    request: Request,
    before: Directives,
    now: Directives,
    uses: Iterable[GpuUse],
    transition: Transition | None,
    *,
    dry_run: bool,
) -> directive_schemas.DirectiveAnswer:
    """`uses` are the node's GPUs as they were seen before."""
    asked = [use for use in uses if not request.devices or use.gpu.pci_address in request.devices]
    return directive_schemas.DirectiveAnswer(
        node=node,
        dry_run=dry_run,
        changed=now != before,
        directives=directives(now),
        gpus=[_gpu(use, request, now, transition) for use in asked],
    )


def _gpu(
    use: GpuUse, request: Request, now: Directives, transition: Transition | None
) -> directive_schemas.GpuDirectives:
    # What the directives before said of it must not hide what those of now say.
    own = REBINDABLE if use.gpu.rebind.reason in WORDS else use.gpu.rebind
    gpu = with_directives(replace(use.gpu, rebind=own), now)
    users = [user.name for user in use.users]
    return directive_schemas.GpuDirectives(
        pci_address=gpu.pci_address,
        mode=gpu.observed_mode,
        state=state_of(gpu, transition, bool(users), listed=use.unlisted is None),
        users=users,
        message=progress_message(gpu, users, request, transition),
    )


def progress_message(gpu: Gpu, users: list[str], request: Request, transition: Transition | None) -> str:
    """How far the request is carried out on the GPU: what follows from its state and its users."""
    by = f"in use by {', '.join(users)}" if users else ""
    moving = transition is not None and gpu.pci_address in transition.devices
    match request.verb:
        case Verb.CORDON:
            return "it stays in its mode" + (", once the move under way is over" if moving else "")
        case Verb.UNCORDON | Verb.UNDRAIN:
            return "it moves again where it is needed" if gpu.rebind else f"it stays: {gpu.rebind.message}"
        case Verb.QUARANTINE:
            return (
                f"{by}, and out of use after that; no new workload gets it"
                if by
                else "no workload gets it from now on"
            )
        case Verb.RELEASE:
            return (
                "workloads can get it again"
                if gpu.closed is None
                else f"it stays closed: {gpu.closed.message}"
            )
        case Verb.FORGET:
            return "the manager drops it, and its agent no longer reports it"
        case Verb.DRAIN:
            return _drained(gpu, by, request.to, moving)


def _drained(gpu: Gpu, by: str, to: Mode | None, moving: bool) -> str:
    if gpu.observed_mode is to:
        return f"it is in {to}, and stays there"
    if moving:
        return f"it is moving to {to}"
    if by:
        return f"{by}; it moves after that, and no new workload gets it"
    if not gpu.rebind:
        return f"it is idle, but stays: {gpu.rebind.message}"
    return f"it is idle, and moves to {to} as the pool's mode, bounds and budget allow"
