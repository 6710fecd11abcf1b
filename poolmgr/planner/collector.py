"""Python's cyclic garbage collector, kept off what a planner makes: many values, and no cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """At 40,000 GPUs the collector walks a decision's values ten times over, a quarter of its time. What it would have
    found meanwhile it finds afterwards."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def keep_for_good() -> None:
    """Take all that is there now out of the collector, at once and at no cost. For the first look at a large cluster:
    the view of it and what follows from its nodes live as long as the process, and walking them holds up decisions
    for a quarter of a second at a time. They are freed when nobody needs them, as ever; only cycles that are garbage
    already stay, so this is done once and not again and again."""
    gc.freeze()
