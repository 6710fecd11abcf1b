"""`poolmgr bench webhook`: our admission webhook beside HAMi's, and beside our last release's."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from poolmgr.cli.bench_hook import machine, tell
from poolmgr.cli.checkouts import CHECKOUT, named_checkout

OURS = "poolmgr"

Other = Annotated[
    list[str] | None,
    typer.Option(help="Another checkout whose webhook runs beside this one's: NAME=PATH; may be repeated."),
]


def webhook(
    hami: Annotated[str, typer.Option(help="HAMi's release; only the real one is measured.")] = "2.10.0",
    before: Annotated[
        str | None,
        typer.Option(
            help="A revision of poolmgr to run beside this one. Left out: the last release, where there is no HAMi."
        ),
    ] = None,
    other: Other = None,
    rounds: Annotated[int, typer.Option(help="Rounds; the table has their medians.", min=1)] = 7,
    seconds: Annotated[int, typer.Option(help="Seconds of each load.", min=1)] = 3,
    quick: Annotated[
        bool, typer.Option(help="One round of a second each: only shows that it works.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with every load.")] = False,
    write: Annotated[
        Path | None,
        typer.Option(help="Put the table into its section of this page, e.g. docs/benchmarks.md."),
    ] = None,
) -> None:
    """Load the admission webhooks over TLS: requests a second, latency, CPU seconds.

    Needs this project's checkout, since etcd and the API server come from e2e/controlplane, and wrk. HAMi's own
    scheduler is taken from where `make parts` finds it. About 3 minutes for two webhooks.

    \b
    Example: poolmgr bench webhook --before 4dde115 --write docs/benchmarks.md
    Example: POOLMGR_PARTS=~/parts poolmgr bench webhook --quick
    """
    from bench.sections import measured_on
    from bench.webhook.release import checkout_of, last_release
    from bench.webhook.report import markdown
    from bench.webhook.run import Figures, compare_on_own_plane, hami_missing
    from poolmgr.kit.marked_section import replace_section

    where = machine()
    checkouts = [(OURS, CHECKOUT), *map(named_checkout, other or [])]
    if before is None and not other and hami_missing(hami):
        before = last_release()
    if before:
        checkouts.append((f"poolmgr {before}", checkout_of(before)))
    loads, no_hami = compare_on_own_plane(
        checkouts, hami, 1 if quick else rounds, 1 if quick else seconds, tell
    )
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "review": case.body.key,
                        "connections": case.connections,
                        "webhook": name,
                        **asdict(load),
                    }
                    for case, by_name in loads.items()
                    for name, found in by_name.items()
                    for load in found
                ]
            )
        )
        return
    figures = {case: {name: Figures.of(found) for name, found in by.items()} for case, by in loads.items()}
    beside = [name for name in next(iter(figures.values())) if name != OURS]
    judge = "" if no_hami else f"HAMi {hami}"
    head = [
        "## Admission webhook",
        "",
        "    poolmgr bench webhook" + (f" --before {before}" if before else ""),
        "",
        f"{where} Each webhook is the program that its users run, on one API server; reviews come over TLS by HTTP/1.1 "
        "on connections that are kept, one after another on each; all answers are looked at. Medians of "
        f"{1 if quick else rounds} rounds of {1 if quick else seconds} s each, in turns. Ours runs on one core, HAMi's "
        "on as many as there are. `against`: our figure divided by theirs. An API server does not send us the plain "
        "pod at all (matchConditions); HAMi it does.",
    ]
    lines = markdown(figures, beside, judge, head)
    if no_hami:
        lines += ["", f"HAMi's webhook is not in the table: {no_hami}."]
    lines += ["", f"{measured_on()}."]
    print("\n".join(lines))
    if write is not None:
        page = write.read_text(encoding="utf-8") if write.exists() else "# Benchmarks\n"
        write.write_text(replace_section(page, "webhook", "\n".join(lines)), encoding="utf-8")
