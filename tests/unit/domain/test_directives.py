"""An operator's directives: added and ended, told with reason, name and time, and which are refused."""

import pytest

from poolmgr.domain.directives import (
    ALL_GPUS,
    NO_DIRECTIVES,
    Directive,
    Directives,
    Note,
    Request,
    Verb,
    after,
    changes,
    closes,
    is_closed_to_vms,
    keeps,
)
from poolmgr.domain.errors import Rejected
from poolmgr.domain.identifiers import NodeName, PciAddress
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason

NODE, A, B = NodeName("gpu-7"), "0000:3b:00.0", "0000:5e:00.0"
THERE = {PciAddress(A): False, PciAddress(B): False}
NOTE = Note("ticket 4711", "alice", 1_764_000_000.0)


def ask(directives: Directives, verb: Verb, *devices: str, gone=THERE, **more) -> Directives:
    return after(directives, Request(verb, devices, **more), NODE, gone)


@pytest.mark.parametrize(
    ("verb", "undo", "directive"),
    [(Verb.CORDON, Verb.UNCORDON, Directive.CORDON), (Verb.QUARANTINE, Verb.RELEASE, Directive.QUARANTINE)],
)
def test_a_directive_holds_for_its_gpu_until_it_is_ended(
    verb: Verb, undo: Verb, directive: Directive
) -> None:
    standing = ask(NO_DIRECTIVES, verb, A.upper(), note=NOTE)
    assert (standing.named(directive, A), standing.named(directive, B)) == (A, "")
    assert standing.note(directive, A) == NOTE
    assert ask(standing, verb, A, note=Note("other", "bob")) == standing, "who came first stays named"
    assert ask(standing, undo, A) == ask(standing, undo) == NO_DIRECTIVES
    assert ask(NO_DIRECTIVES, undo, A) == NO_DIRECTIVES


@pytest.mark.parametrize(("verb", "undo"), [(Verb.CORDON, Verb.UNCORDON), (Verb.QUARANTINE, Verb.RELEASE)])
def test_a_directive_about_all_gpus_ends_for_all_together(verb: Verb, undo: Verb) -> None:
    standing = ask(NO_DIRECTIVES, verb)
    with pytest.raises(Rejected, match=f"{undo} gpu-7, then"):
        ask(standing, undo, A)
    assert ask(standing, undo) == NO_DIRECTIVES


def test_a_gpu_that_the_node_does_not_have_gets_no_directive_but_its_old_one_can_end() -> None:
    with pytest.raises(Rejected, match=f"has no GPU 0000:ff:00.0; it has {A}, {B}"):
        ask(NO_DIRECTIVES, Verb.QUARANTINE, "0000:ff:00.0")
    replaced = Directives(quarantined=frozenset({"0000:ff:00.0"}))
    assert ask(replaced, Verb.RELEASE, "0000:ff:00.0") == NO_DIRECTIVES


def test_only_a_card_that_is_gone_can_be_forgotten_and_its_other_directives_go_with_it() -> None:
    with pytest.raises(Rejected, match="is on its bus") as refused:
        ask(NO_DIRECTIVES, Verb.FORGET, A)
    assert refused.value.reason is Reason.STILL_THERE
    with pytest.raises(Rejected, match="name the GPU"):
        ask(NO_DIRECTIVES, Verb.FORGET)
    standing = ask(ask(NO_DIRECTIVES, Verb.QUARANTINE, A, note=NOTE), Verb.CORDON, B)
    found = ask(standing, Verb.FORGET, A, gone={**THERE, PciAddress(A): True})
    assert (found.forgotten, found.quarantined, found.cordoned) == (frozenset({A}), frozenset(), {B})
    assert found.notes == ()


def test_a_quarantined_gpu_is_kept_and_closed_on_both_sides_with_who_and_why() -> None:
    standing = ask(NO_DIRECTIVES, Verb.QUARANTINE, A, note=NOTE)
    for mode in (*Mode, None):
        kept, closed = keeps(standing, NODE, A, mode), closes(standing, NODE, A, mode)
        assert kept is not None and closed == kept and kept.reason is Reason.GPU_QUARANTINED
        assert "(ticket 4711, by alice, since 2025-11-24 16:00 UTC)" in kept.message
        assert f"`poolmgr gpu release gpu-7/{A}`" in kept.message
        assert keeps(standing, NODE, B, mode) is None and closes(standing, NODE, B, mode) is None
    every = keeps(ask(NO_DIRECTIVES, Verb.QUARANTINE), NODE, B, Mode.SHARED)
    assert every is not None and "`poolmgr gpu release gpu-7`" in every.message, (
        "what ends it is said as it can be"
    )


def test_a_cordoned_gpu_is_kept_and_stays_open() -> None:
    standing = ask(NO_DIRECTIVES, Verb.CORDON, A)
    kept = keeps(standing, NODE, A, Mode.SHARED)
    assert kept is not None and kept.reason is Reason.GPU_CORDONED
    assert closes(standing, NODE, A, Mode.SHARED) is None


@pytest.mark.parametrize("to", list(Mode))
def test_a_drain_keeps_what_is_there_and_closes_what_is_to_leave(to: Mode) -> None:
    standing = ask(NO_DIRECTIVES, Verb.DRAIN, to=to, note=NOTE)
    kept, closed = keeps(standing, NODE, A, to), closes(standing, NODE, A, to.other)
    assert kept is not None and closed is not None
    assert kept.reason is closed.reason is Reason.NODE_DRAINED
    assert keeps(standing, NODE, A, to.other) is None, "it may move there"
    assert closes(standing, NODE, A, to) is None, "who needs one may have it there"
    assert ask(standing, Verb.UNDRAIN) == NO_DIRECTIVES
    with pytest.raises(Rejected, match="the side to drain to"):
        ask(NO_DIRECTIVES, Verb.DRAIN)


@pytest.mark.parametrize(
    ("directives", "withdrawn"),
    [
        (NO_DIRECTIVES, False),
        (Directives(cordoned=frozenset({ALL_GPUS})), False),
        (Directives(quarantined=frozenset({A})), True),
        (Directives(drain_to=Mode.SHARED), True),
        (Directives(drain_to=Mode.PASSTHROUGH), False),
    ],
)
def test_which_directives_close_a_gpu_to_vms(directives: Directives, withdrawn: bool) -> None:
    assert is_closed_to_vms(directives, A) is withdrawn


def test_changes_are_told_with_who_made_them() -> None:
    before = Directives(cordoned=frozenset({ALL_GPUS}))
    now = ask(
        ask(ask(NO_DIRECTIVES, Verb.QUARANTINE, A, note=NOTE), Verb.DRAIN, to=Mode.SHARED), Verb.CORDON, B
    )
    reported = [(str(reason), message, note.by) for reason, message, note in changes(before, now, NODE)]
    assert reported == [
        ("GpuCordoned", f"GPU {B} of gpu-7 stays in its mode", ""),
        ("GpuCordoned", "every GPU of gpu-7 may move again", ""),
        (
            "GpuQuarantined",
            f"GPU {A} of gpu-7 is taken out of use (ticket 4711, by alice, since 2025-11-24 16:00 UTC)",
            "alice",
        ),
        ("NodeDrained", "gpu-7 is being drained to Shared", ""),
    ]
    assert changes(now, now, NODE) == ()
