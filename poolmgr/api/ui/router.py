"""The page, its static files, and the stream that keeps it live."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from poolmgr.api.auth import READER, Credentials, require_reader
from poolmgr.api.ui.headers import HEADERS, NO_STORE, TYPES, static_file, static_version
from poolmgr.api.ui.live import LivePage, templates
from poolmgr.api.ui.login import login_page
from poolmgr.domain.access import Forbidden, Unauthenticated
from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

router = APIRouter(include_in_schema=False)

NodePage = Annotated[int, Query(ge=1, le=10_000)]
"""Which of the pages of nodes."""


@router.get("/")
async def page(request: Request, credentials: Credentials = None, page: NodePage = 1) -> HTMLResponse:
    try:
        await require_reader(request, credentials)
    except (Unauthenticated, Forbidden) as refusal:
        return login_page(request, refusal)
    live: LivePage = request.app.state.live
    shown = await live.shown(page)
    html = (
        templates()
        .get_template("page.html")
        .render(regions=shown.regions, cluster=request.app.state.cluster, version=static_version())
    )
    return HTMLResponse(html, headers=HEADERS | NO_STORE)


@router.get("/ui/events", dependencies=[READER])
async def events(request: Request, page: NodePage = 1) -> StreamingResponse:
    live: LivePage = request.app.state.live
    return StreamingResponse(
        live.changes(request.app.state.stopping, page),
        media_type="text/event-stream",
        headers=NO_STORE | {"X-Accel-Buffering": "no"},
    )


@router.get("/ui/static/{name}")
async def static(name: str) -> Response:
    if name not in TYPES:
        raise Rejected(Reason.NOT_FOUND, f"there is no file {name!r} here")
    return Response(
        static_file(name),
        media_type=TYPES[name],
        headers=HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"},
    )
