"""What operators want of a node's GPUs: kept in their mode, out of use, forgotten, given back to one side."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request

from poolmgr.api import directive_schemas, present_directives
from poolmgr.api.auth import Maintainer
from poolmgr.api.deps import CensusDep, ControlDep
from poolmgr.api.interfaces import Control
from poolmgr.api.problems import documented
from poolmgr.api.routers.nodes import NodeName
from poolmgr.domain.census import Census
from poolmgr.domain.directives import Note, Verb
from poolmgr.domain.directives import Request as Wanted

router = APIRouter(prefix="/nodes", tags=["nodes"])

PROBLEMS = documented(401, 403, 404, 412, 422, 503)
VERBS: dict[Verb, tuple[str, str]] = {
    Verb.CORDON: (
        "Keep GPUs in their present mode",
        "No plan moves them; a move under way is finished. Workloads may come and go.",
    ),
    Verb.UNCORDON: (
        "Let cordoned GPUs move again",
        "The opposite of `:cordon`. Without `devices`, every cordon of the node ends.",
    ),
    Verb.QUARANTINE: (
        "Take GPUs out of use",
        "No new VM or pod gets them, and they do not move. A workload that uses one keeps it; after that the GPU is out of use.",
    ),
    Verb.RELEASE: (
        "Put quarantined GPUs back into use",
        "The opposite of `:quarantine`. Without `devices`, every quarantine of the node ends.",
    ),
    Verb.FORGET: (
        "Forget GPUs that are gone for good",
        "For cards that were removed. A card that is still on its bus is refused (`StillThere`).",
    ),
    Verb.UNDRAIN: (
        "End the drain of a node",
        "The opposite of `:drain`. GPUs move back when they are needed, not at once.",
    ),
}


async def _answer(
    name: str, wanted: Wanted, request: Request, control: Control, census: Census, *, dry_run: bool
) -> directive_schemas.DirectiveAnswer:
    request.state.caller, request.state.dry_run = wanted.note.by, dry_run
    node, directives = await control.change_directives(name, wanted, dry_run=dry_run)
    uses = next((part.uses for part in census.nodes if part.node.name == name), ())
    return present_directives.answer(
        name, wanted, node.directives, directives, uses, node.transition, dry_run=dry_run
    )


def _operation(verb: Verb) -> Callable[..., Awaitable[directive_schemas.DirectiveAnswer]]:
    async def ask(
        name: NodeName,
        body: directive_schemas.DirectiveRequest,
        request: Request,
        control: ControlDep,
        census: CensusDep,
        caller: Maintainer,
    ) -> directive_schemas.DirectiveAnswer:
        devices = tuple(device.casefold() for device in body.devices)
        note = Note(body.reason, caller, census.snapshot.taken_at)
        wanted = Wanted(verb, devices, note=note)
        return await _answer(name, wanted, request, control, census, dry_run=body.dry_run)

    return ask


for verb, (summary, description) in VERBS.items():
    router.add_api_route(
        f"/{{name}}:{verb}",
        _operation(verb),
        methods=["POST"],
        name=str(verb),
        summary=summary,
        description=description,
        responses=PROBLEMS,
    )


@router.post("/{name}:drain", summary="Move all GPUs of a node to one side", responses=PROBLEMS)
async def drain(
    name: NodeName,
    body: directive_schemas.DrainRequest,
    request: Request,
    control: ControlDep,
    census: CensusDep,
    caller: Maintainer,
) -> directive_schemas.DirectiveAnswer:
    """GPUs on the other side are closed to whoever comes and move once nobody uses them; nobody is evicted. It holds until
    `:undrain`. With `dryRun: true` the answer says how far it is."""
    note = Note(body.reason, caller, census.snapshot.taken_at)
    wanted = Wanted(Verb.DRAIN, to=body.to, note=note)
    return await _answer(name, wanted, request, control, census, dry_run=body.dry_run)
