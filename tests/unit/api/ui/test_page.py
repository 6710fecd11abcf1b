"""The page as a whole: everything on it in one request, live afterwards, harmless to show."""

import asyncio
import json
from dataclasses import replace
from html.parser import HTMLParser

from poolmgr.api.ui.fleet import NODES_A_PAGE
from poolmgr.api.ui.live import REGIONS, LivePage
from poolmgr.domain.census import Count
from poolmgr.domain.fleet import Node
from poolmgr.domain.history import DemandSample
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from tests.showcase import NOW, fleet, gpu, pod
from tests.unit.api.stand_ins import Records, Steering, client


class Outline(HTMLParser):
    """Tags that do not close, ids, and addresses, of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "img", "line", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href"):
                self.links.append(value or "")
            if name.startswith("on") or name == "style":
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag


async def page(control: Steering | None = None, records: Records | None = None) -> str:
    async with client(control, records) as http:
        answer = await http.get("/")
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    return answer.text


async def test_page_shows_gpus_moves_waits_pools_and_trouble() -> None:
    html = await page()
    for words in (
        "1 GPU needs attention",
        'id="g-rack-2-0000:03:00.0"',
        "UnbindTimedOut",
        "cad/ada-workstation",
        "An A10 of rack-2 is on its way.",
        "desktops",
        "0 to 6",
    ):
        assert words in html


async def test_lent_node_has_a_tag_that_says_what_it_means() -> None:
    plain, lent = fleet().nodes
    html = await page(Steering(snapshot=fleet(nodes=(plain, replace(lent, best_effort_only=True)))))
    assert html.count('class="tag"') == 1
    assert 'title="Only best-effort containers may start here.' in html
    assert 'aria-label="rack-2, best-effort containers only, drain"' in html
    assert "best-effort" not in await page()


async def test_page_is_well_formed_and_loads_nothing_from_elsewhere() -> None:
    samples = tuple(DemandSample(NOW + i * 60, Count(gpus=4, passthrough_used=1)) for i in range(9))
    outline = Outline(await page(records=Records(past_samples=samples)))
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert all(link.startswith(("/", "#")) for link in outline.links)
    assert outline.handlers == []


async def test_names_from_the_cluster_are_only_ever_text() -> None:
    nasty = pod("<script>alert(1)</script>", namespace='"><img src=x onerror=alert(1)>')
    html = await page(Steering(snapshot=fleet(pods=(nasty,))))
    assert "<script>alert" not in html
    assert "<img src=x" not in html


async def test_ledger_that_is_down_leaves_the_present_and_says_so() -> None:
    html = await page(records=Records(down=True))
    assert "The ledger does not work." in html
    assert 'id="g-rack-1-0000:01:00.0"' in html
    assert "VM cad/ada-workstation waits for an A10; this one is idle." in html


async def test_before_the_first_view_the_page_says_what_it_waits_for() -> None:
    html = await page(
        Steering(snapshot=None, readiness=Verdict(False, Reason.NOT_SYNCED, "not complete yet"))
    )
    assert "The manager cannot see the cluster yet" in html
    assert "Not complete yet." in html


async def test_empty_cluster_says_what_to_look_at() -> None:
    html = await page(Steering(snapshot=fleet(nodes=(), pools=(), vms=(), pods=()), plan=None))
    assert "kubectl get gpunodes" in html
    assert "There is no GPUPool" in html


async def test_stream_sends_everything_once_and_then_only_what_changed() -> None:
    control, stopping = Steering(), asyncio.Event()
    live = LivePage(control, Records())
    live.interval_seconds = 0.0
    stream = live.changes(stopping)
    first = json.loads((await anext(stream)).removeprefix("data: "))["regions"]
    assert tuple(first) == REGIONS
    live.interval_seconds = 0.0
    assert json.loads((await anext(stream)).removeprefix("data: "))["regions"] == {}
    control.snapshot = fleet(taken_at=NOW + 60, generation=42)
    live.interval_seconds = 0.0
    second = json.loads((await anext(stream)).removeprefix("data: "))["regions"]
    assert "clock" in second
    assert "pools" not in second
    stopping.set()
    assert [event async for event in stream] == []


async def test_stream_sends_of_the_nodes_only_the_cards_that_changed() -> None:
    control, stopping = Steering(), asyncio.Event()
    live = LivePage(control, Records())
    stream = live.changes(stopping)
    await anext(stream)
    first, second = fleet().nodes
    control.snapshot = fleet(nodes=(first, replace(second, cordoned=True, transition=None)), generation=43)
    live.interval_seconds = 0.0
    changed = json.loads((await anext(stream)).removeprefix("data: "))["regions"]
    assert "fleet" not in changed
    assert "cordoned" in changed["node rack-2"]
    assert "node rack-1" not in changed
    control.snapshot = fleet(nodes=(first,), generation=44)
    live.interval_seconds = 0.0
    changed = json.loads((await anext(stream)).removeprefix("data: "))["regions"]
    assert "rack-2" not in changed["fleet"]
    stopping.set()


async def test_page_of_nodes_is_in_the_address_and_leads_to_the_others() -> None:
    nodes = tuple(Node(NodeName(f"n-{n}"), (gpu(f"n-{n}", 1),)) for n in range(1, NODES_A_PAGE + 2))
    control = Steering(snapshot=fleet(nodes=nodes, vms=(), pods=()))
    async with client(control) as http:
        front, back = (await http.get("/")).text, (await http.get("/?page=2")).text
        assert (await http.get("/?page=0")).status_code == 422
    assert 'href="/?page=2" rel="next"' in front
    assert "nodes 1 to 100 of 101" in front
    assert "nodes 101 to 101 of 101" in back
    assert 'id="g-n-101-0000:01:00.0"' in back
    assert 'id="g-n-101-0000:01:00.0"' not in front
    for html in (front, back):
        outline = Outline(html)
        assert outline.open == []
        assert len(set(outline.ids)) == len(outline.ids)


async def test_only_the_known_files_are_served() -> None:
    async with client() as http:
        script = await http.get("/ui/static/dashboard.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert "immutable" in script.headers["cache-control"]
        for name in ("nothing.js", "..%2frouter.py", "%2e%2e/router.py"):
            assert (await http.get(f"/ui/static/{name}")).status_code == 404
