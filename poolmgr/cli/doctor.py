"""`poolmgr doctor`: what stands in the way in this cluster, and how to clear it."""

from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Annotated

import typer

from poolmgr.cli.daily.connection import Context, Kubeconfig, with_cluster
from poolmgr.cli.daily.listing import Format, Listing, Row, dumped, written
from poolmgr.cli.daily.reading import Output
from poolmgr.domain.errors import PoolError
from poolmgr.wire.instants import to_rfc3339

if TYPE_CHECKING:
    from poolmgr.doctor.findings import Finding

app = typer.Typer(add_completion=False)

EPILOG = """
Exit codes: 0 no problem, 1 a problem, 2 all or part of the cluster could not be checked.

Examples:

  poolmgr doctor

  poolmgr doctor --all

  poolmgr doctor --exit-code-of crds,manager,webhook

  poolmgr doctor -o json | jq '.items[] | select(.grade == "problem")'
"""


@app.command(epilog=EPILOG)
def doctor(
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also list the checks that passed.")
    ] = False,
    only: Annotated[
        str,
        typer.Option(
            "--exit-code-of",
            help="Checks that decide the exit code, separated by commas, e.g. crds,manager,webhook; default: all.",
        ),
    ] = "",
    output: Output = Format.TABLE,
    hami_device_config: Annotated[
        str, typer.Option(help="Name of HAMi's device ConfigMap, if its chart was not installed as `hami`.")
    ] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Check a cluster for problems that keep poolmgr from working, and say how to fix them. Changes nothing.

    What you may not read, or nothing reports, counts as `unknown`, never as `ok`.
    """
    from poolmgr.cluster.client import Client
    from poolmgr.cluster.survey import survey
    from poolmgr.doctor.examine import examine
    from poolmgr.doctor.facts import Facts
    from poolmgr.doctor.findings import EXIT_UNKNOWN, Grade, exit_code

    async def ask(client: Client) -> Facts:
        return await survey(
            client, client_version=installed("poolmgr"), hami_device_config=hami_device_config
        )

    try:
        facts = with_cluster(kubeconfig, context, ask)
    except PoolError as error:
        typer.echo(f"poolmgr: {error.message} ({error.reason})", err=True)
        raise typer.Exit(EXIT_UNKNOWN) from error
    findings = examine(facts)
    decisive = _decisive(findings, only)

    def row(finding: "Finding") -> Row:
        value = {
            "check": finding.check,
            "about": finding.about,
            "grade": finding.grade.value,
            "message": finding.message,
            "fix": finding.fix,
        }
        cells = (finding.grade.value, finding.check, finding.about, finding.message, finding.fix)
        return Row(f"{finding.check}/{finding.about}", cells, value)

    shown = [f for f in findings if everything or f.grade is not Grade.OK]
    listing = Listing(("GRADE", "CHECK", "ABOUT", "WHAT", "FIX"), (), tuple(map(row, shown)))
    about = {"readAt": to_rfc3339(facts.now)}
    if output in (Format.JSON, Format.YAML):
        print(dumped({**about, "items": [row(f).value for f in findings]}, output))
    elif shown:
        print(written(listing, output, about))
    if output in (Format.TABLE, Format.WIDE):
        counts = {grade: sum(f.grade is grade for f in findings) for grade in Grade}
        print(("\n" if shown else "") + ", ".join(f"{count} {grade}" for grade, count in counts.items()))
    raise typer.Exit(exit_code(decisive))


def _decisive(findings: "list[Finding]", only: str) -> "list[Finding]":
    """Those of the named checks, or all. Raises BadParameter for a check that there is not."""
    named = {word.strip() for word in only.split(",") if word.strip()}
    known = {finding.check for finding in findings}
    if unknown := named - known:
        raise typer.BadParameter(
            f"no check is named {', '.join(sorted(unknown))}; here there are {', '.join(sorted(known))}"
        )
    return [finding for finding in findings if not named or finding.check in named]


if __name__ == "__main__":
    app()
