"""Nothing is read and nothing asked for without the right to it; what is open is listed here."""

from dataclasses import dataclass, field

import pytest
from fastapi.routing import APIRoute

from poolmgr.api.app import create_app
from poolmgr.api.auth import COOKIE, OpenAccess
from poolmgr.api.ui import login
from poolmgr.api.ui import router as page
from poolmgr.domain.access import AUDIT, METRICS, READ, Forbidden, Permission, Unauthenticated, rebalance
from tests.unit.api.stand_ins import Records, Steering, StillClock, client

OPEN = {"/healthz", "/readyz", "/ui/static/{name}", "/ui/login", "/ui/logout"}
"""What asks for nothing: the kubelet's probes, the page's static files, and the way in."""
REBALANCE = "/api/v1/pools/desktops:rebalance"


@dataclass
class Rights:
    """Access control by a list: what each token may."""

    may: dict[str, set[Permission]] = field(default_factory=dict)
    asked: list[Permission] = field(default_factory=list)

    async def admit(self, token: str, address: str, permission: Permission) -> str:
        self.asked.append(permission)
        if token not in self.may:
            raise Unauthenticated("send a token")
        if permission not in self.may[token]:
            raise Forbidden(token, permission)
        return token


def routes() -> list[tuple[str, str]]:
    app = create_app(
        control=Steering(), history=Records(), audit=Records(), clock=StillClock(), access=OpenAccess()
    )
    pages = [
        (method, route.path)
        for route in (*page.router.routes, *login.router.routes)
        if isinstance(route, APIRoute)
        for method in route.methods
    ]
    schema = [(m.upper(), path) for path, calls in app.openapi()["paths"].items() for m in calls]
    return sorted({*pages, *schema})


def test_the_list_of_routes_is_whole() -> None:
    assert {("GET", "/"), ("GET", "/metrics"), ("GET", "/api/v1/pools"), ("GET", "/api/v1/calls")} <= set(
        routes()
    )


@pytest.mark.parametrize(("method", "path"), [route for route in routes() if route[1] not in OPEN])
async def test_a_stranger_gets_nothing_anywhere(method: str, path: str) -> None:
    rights = Rights()
    async with client(access=rights) as http:
        address = path.replace("{name}", "desktops")
        answer = await http.request(method, address, json={"dryRun": True} if method == "POST" else None)
    assert answer.status_code == 401
    assert rights.asked
    assert "rack" not in answer.text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/ui/static/mark.svg", "/api/v1/openapi.json"])
async def test_probes_and_static_files_ask_for_nothing(path: str) -> None:
    async with client(access=Rights()) as http:
        assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("path", "permission"),
    [("/api/v1/pools", READ), ("/", READ), ("/metrics", METRICS), ("/api/v1/calls", AUDIT)],
)
async def test_each_right_opens_its_own(path: str, permission: Permission) -> None:
    async with client(access=Rights({"t": {READ, permission}, "u": {READ} - {permission}})) as http:
        assert (await http.get(path, headers={"authorization": "Bearer t"})).status_code == 200
        refused = await http.get(path, headers={"authorization": "Bearer u"})
    assert refused.status_code == 403


async def test_moves_are_asked_for_by_the_right_to_that_pool() -> None:
    control, records = Steering(), Records()
    rights = Rights({"ann": {READ, rebalance("desktops")}, "bob": {READ, rebalance("other")}})
    async with client(control, records, access=rights) as http:
        for who, status in (("bob", 403), ("ann", 200)):
            headers = {"authorization": f"Bearer {who}"}
            answer = await http.post(REBALANCE, json={"dryRun": False}, headers=headers)
            assert answer.status_code == status
    assert [call.caller for call in records.calls] == ["ann"]
    assert len(control.asked) == 1


async def test_the_page_asks_for_a_token_and_keeps_it_for_reading_alone() -> None:
    control = Steering()
    rights = Rights({"ann": {READ, METRICS, AUDIT, rebalance("desktops")}})
    async with client(control, access=rights) as http:
        first = await http.get("/")
        assert (first.status_code, 'action="/ui/login"' in first.text) == (401, True)
        assert "form-action 'self'" in first.headers["content-security-policy"]
        entered = await http.post("/ui/login", data={"token": " an\nn "})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        kept = entered.headers["set-cookie"]
        assert f"{COOKIE}=ann;" in kept
        assert "HttpOnly" in kept and "SameSite=strict" in kept
        assert (await http.get("/")).status_code == 200
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.post(REBALANCE, json={"dryRun": False})).status_code == 401
        assert (await http.get("/api/v1/calls")).status_code == 401
        assert control.asked == []
        left = await http.post("/ui/logout")
        assert left.status_code == 303
        assert (await http.get("/")).status_code == 401


async def test_a_token_that_is_not_good_is_told_on_the_page() -> None:
    async with client(access=Rights({"ann": set()})) as http:
        assert "send a token" not in (await http.get("/")).text, "nothing was sent yet"
        http.cookies.set(COOKIE, "bad")
        assert "send a token" in (await http.get("/")).text
        http.cookies.set(COOKIE, "ann")
        seen = await http.get("/")
    assert seen.status_code == 403
    assert "may not list gpupools" in seen.text


@pytest.mark.parametrize("body", [b"", b"token", b"token=", b"\xff\xfe", b"a=1&" * 50])
async def test_an_odd_form_is_no_error(body: bytes) -> None:
    async with client(access=Rights()) as http:
        assert (await http.post("/ui/login", content=body)).status_code < 500
