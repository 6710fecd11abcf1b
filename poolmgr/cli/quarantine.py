"""`poolmgr gpu quarantine`, `release` and `forget`: take GPUs of the cluster out of use, back, and off the books."""

import typer

from poolmgr.cli.daily.connection import Context, Kubeconfig
from poolmgr.cli.daily.directives import DryRun, Targets, Why, carry_out, print_answers
from poolmgr.cli.daily.listing import Format
from poolmgr.cli.daily.reading import Output
from poolmgr.domain.directives import Verb

QUARANTINE_EXAMPLES = """
Examples:

  poolmgr gpu quarantine gpu-7/0000:3b:00.0 --reason "ECC errors, ticket 4711"

  poolmgr gpu quarantine gpu-7 --dry-run

  poolmgr gpu quarantine gpu-7/0000:3b:00.0 -o json
"""
RELEASE_EXAMPLES = """
Examples:

  poolmgr gpu release gpu-7/0000:3b:00.0

  poolmgr gpu release gpu-7
"""
FORGET_EXAMPLES = """
Examples:

  poolmgr gpu forget gpu-7/0000:65:00.0 --dry-run

  poolmgr gpu forget gpu-7/0000:65:00.0
"""


def quarantine(
    what: Targets,
    reason: Why = "",
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Take GPUs of the cluster out of use: no new VM or pod gets them, and they do not move.

    A workload that uses one keeps it; when it ends, the GPU is out of use on both sides. This lasts until poolmgr gpu
    release. Requires the right to patch gpunodes.
    """
    answers = carry_out(
        what, Verb.QUARANTINE, reason=reason, dry_run=dry_run, kubeconfig=kubeconfig, context=context
    )
    print_answers(what, answers, output, "quarantined", "quarantined already")


def release(
    what: Targets,
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Put quarantined GPUs back into use. Naming a node releases all of its GPUs.

    This does not release a GPU that its agent has quarantined (a driver that does not let go, a card off its bus): do what
    poolmgr explain gpu says.
    """
    answers = carry_out(
        what, Verb.RELEASE, reason="", dry_run=dry_run, kubeconfig=kubeconfig, context=context
    )
    print_answers(what, answers, output, "released", "was not quarantined")


def forget(
    what: Targets,
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Forget GPUs that are gone for good: a card that was taken out or replaced at another address.

    Only a GPU that its agent reports as gone (DeviceGone) can be forgotten. If it ever comes back, it is a new GPU.
    """
    answers = carry_out(what, Verb.FORGET, reason="", dry_run=dry_run, kubeconfig=kubeconfig, context=context)
    print_answers(what, answers, output, "forgotten", "is being forgotten")


def add_to(app: typer.Typer) -> None:
    """The three commands, in a group of the caller's."""
    app.command(epilog=QUARANTINE_EXAMPLES)(quarantine)
    app.command(epilog=RELEASE_EXAMPLES)(release)
    app.command(epilog=FORGET_EXAMPLES)(forget)
