"""Signing in to the page with a token, where the manager asks for one. The browser keeps it in a cookie for reading."""

from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from poolmgr.api.auth import COOKIE
from poolmgr.api.problems import status_of
from poolmgr.api.ui.headers import HEADERS, NO_STORE, static_version
from poolmgr.api.ui.live import templates
from poolmgr.domain.access import Forbidden, Unauthenticated

router = APIRouter(include_in_schema=False)

FORM_HEADERS = HEADERS | {
    "Content-Security-Policy": HEADERS["Content-Security-Policy"].replace(
        "form-action 'none'", "form-action 'self'"
    )
}


def login_page(request: Request, refusal: Unauthenticated | Forbidden) -> HTMLResponse:
    """The form, with what was wrong with the token that was sent, if one was."""
    said = refusal.message if request.cookies.get(COOKIE) else ""
    html = (
        templates()
        .get_template("login.html")
        .render(said=said, cluster=request.app.state.cluster, version=static_version())
    )
    return HTMLResponse(html, status_of(refusal), FORM_HEADERS | NO_STORE)


@router.post("/ui/login")
async def login(request: Request) -> RedirectResponse:
    """Keep the token; the page says whether it is good."""
    try:
        form = parse_qs((await request.body()).decode("ascii", "replace"), max_num_fields=4)
    except ValueError:  # it is not our form
        form = {}
    answer = RedirectResponse("/", 303, NO_STORE)
    answer.set_cookie(
        COOKIE,
        "".join(form.get("token", [""])[0].split()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/ui/logout")
async def logout() -> RedirectResponse:
    answer = RedirectResponse("/", 303, NO_STORE)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer
