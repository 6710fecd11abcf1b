"""What the verbs about GPUs and nodes share: they write a directive with the caller's own rights and print how far it is
carried out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from poolmgr.api import directive_schemas, present_directives
from poolmgr.cli.daily.connection import SURROUNDINGS, with_cluster
from poolmgr.cli.daily.listing import Format, aligned, dumped
from poolmgr.cli.daily.reading import warn
from poolmgr.cluster.look import Look, look
from poolmgr.domain.census import take_census
from poolmgr.domain.directives import Directives, Note, Request, Verb
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode

if TYPE_CHECKING:
    from poolmgr.cluster.client import Client

Targets = Annotated[
    list[str], typer.Argument(metavar="NODE[/PCI-ADDRESS]...", help="GPUs, or nodes with all their GPUs.")
]
Why = Annotated[str, typer.Option("--reason", help="The reason, kept with the directive.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]


def carry_out(
    what: Sequence[str],
    verb: Verb,
    *,
    reason: str,
    dry_run: bool,
    kubeconfig: str | None,
    context: str | None,
    to: Mode | None = None,
) -> list[directive_schemas.DirectiveAnswer]:
    """One answer for each target, in order. Those before one that is refused are done."""

    async def ask(client: "Client") -> tuple[Look, list[tuple[str, Request, Directives, Directives]]]:
        from poolmgr.cluster.operator_edits import change_directives, who_am_i

        found = await look(client)
        note = Note(reason, await who_am_i(client), SURROUNDINGS.get().clock.now())
        done = []
        for target in what:
            node, _, address = target.partition("/")
            request = Request(verb, (address.casefold(),) if address else (), to, note)
            before, now = await change_directives(client, node, request, dry_run=dry_run)
            done.append((node, request, before, now))
        return found, done

    found, done = with_cluster(kubeconfig, context, ask)
    warn(found)
    census = take_census(found.snapshot)
    parts = {part.node.name: part for part in census.nodes}
    answers = []
    for node, request, before, now in done:
        part = parts.get(NodeName(node))
        answers.append(
            present_directives.answer(
                node,
                request,
                before,
                now,
                part.uses if part else (),
                part.node.transition if part else None,
                dry_run=dry_run,
            )
        )
    return answers


def print_answers(
    what: Sequence[str],
    answers: Sequence[directive_schemas.DirectiveAnswer],
    form: Format,
    done: str,
    before: str,
) -> None:
    """`done` as in "cordoned"; `before` where nothing had to be changed."""
    if form in (Format.JSON, Format.YAML):
        values: list[Any] = [answer.model_dump(mode="json", by_alias=True) for answer in answers]
        print(dumped({"items": values}, form))
        return
    for target, answer in zip(what, answers, strict=True):
        node, _, address = target.partition("/")
        name = f"{node}/{address.casefold()}" if address else f"{node}, all GPUs"
        if form is Format.NAME:
            print(f"gpunode.poolmgr.io/{node}")
            continue
        said = before if not answer.changed else f"would be {done}" if answer.dry_run else done
        if address and answer.gpus:
            said += f"; {answer.gpus[0].message}"
        print(f"{name}: {said}")
        if not address and answer.gpus:
            rows = [
                (f"  {gpu.pci_address}", gpu.mode or "", str(gpu.state), gpu.message) for gpu in answer.gpus
            ]
            print(aligned(rows))
