"""The page at three in the morning, in a real Chromium: it never shows what it cannot know as if it knew it.

Set POOLMGR_SCREENSHOTS to a folder to keep a picture of each.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import uvicorn
from playwright.sync_api import BrowserContext, Page, Route

from poolmgr.api.app import create_app
from poolmgr.api.auth import OpenAccess
from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import AgentSign
from poolmgr.domain.modes import Mode
from poolmgr.kit.clock import SystemClock
from poolmgr.kit.http_server import Server
from tests.integration.api.demo import Demo
from tests.integration.api.test_dashboard import PATIENCE_MS, browser, pytestmark
from tests.showcase import NOW, fleet, gpu, pod
from tests.unit.api.stand_ins import Records, Steering

__all__ = ["browser", "pytestmark"]

LOST = "[data-lost]:not([hidden])"


@contextmanager
def served(control: Steering) -> Iterator[str]:
    """The real app on a port of this machine; the manager behind it answers from `control`."""
    records = Records()
    app = create_app(
        control=control, history=records, audit=records, clock=SystemClock(), access=OpenAccess()
    )
    server = Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
    [port] = {s.getsockname()[1] for one in server.servers for s in one.sockets}
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        app.state.stopping.set()
        server.stop()
        thread.join()


def opened(browser: BrowserContext, address: str) -> Page:
    page = browser.new_page()
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto(address)
    return page


def keep(page: Page, name: str) -> None:
    if folder := os.environ.get("POOLMGR_SCREENSHOTS"):
        page.screenshot(path=Path(folder, f"{name}.png"))


def test_frozen_manager_is_said_and_how_old_the_picture_is(tmp_path: Path, browser: BrowserContext) -> None:
    demo = Demo(tmp_path, "--nodes", "2", "--gpus", "4")
    page = opened(browser, demo.address)
    page.wait_for_selector(".pulse")
    os.kill(demo.process.pid, signal.SIGSTOP)
    try:
        page.wait_for_selector(LOST, timeout=PATIENCE_MS)
        page.wait_for_function(
            "/is [1-9]\\d* s old/.test(document.querySelector('[data-lost]').innerText)", timeout=PATIENCE_MS
        )
        said = "getComputedStyle(document.querySelector('.headline h1'), '::before').content"
        assert page.evaluate(said) == '"Last known: "'
        keep(page, "page-frozen-manager")
    finally:
        os.kill(demo.process.pid, signal.SIGCONT)
    page.wait_for_selector("[data-lost]", state="hidden", timeout=PATIENCE_MS)
    demo.stop()


def test_page_comes_back_after_a_proxys_503(browser: BrowserContext) -> None:
    with served(Steering()) as address:
        page = browser.new_page()
        refused: list[str] = []

        def proxy(route: Route) -> None:
            if len(refused) < 2:
                refused.append(route.request.url)
                route.fulfill(status=503, body="upstream connect error")
            else:
                route.continue_()

        page.route("**/ui/events*", proxy)
        page.goto(address)
        page.wait_for_selector(LOST, timeout=PATIENCE_MS)
        keep(page, "page-behind-a-503")
        page.wait_for_selector("[data-lost]", state="hidden", timeout=PATIENCE_MS)
        assert len(refused) == 2


def test_silent_agent_is_the_first_line(browser: BrowserContext) -> None:
    silent = AgentSign(heard=False, since=NOW - 300, silent=True)
    first, second = (
        Node(NodeName(name), (gpu(name, 1), gpu(name, 2, Mode.PASSTHROUGH))) for name in ("rack-1", "rack-2")
    )
    snapshot = fleet(nodes=(replace(first, agent=silent), second), vms=(), pods=())
    with served(Steering(snapshot=snapshot)) as address:
        page = opened(browser, address)
        assert page.inner_text("h1") == "1 agent is silent"
        assert "rack-1" in page.inner_text("[data-region=headline]")
        keep(page, "page-silent-agent")


def test_a_long_queue_hides_neither_the_move_nor_the_vm_that_waits(browser: BrowserContext) -> None:
    moving = fleet().nodes[1].gpus[1]
    queue = tuple(pod(f"job-{n}", waiting_since=NOW - 600 - n) for n in range(40))
    snapshot = fleet(pods=(pod("train", on=moving), *queue))
    with served(Steering(snapshot=snapshot)) as address:
        page = opened(browser, address)
        rows = page.locator("[data-region=waiting] .waiting li")
        assert rows.count() == 2, "forty pods are one row, and the VM another"
        assert "ml/job-39, ml/job-38, ml/job-37 and 37 more" in rows.first.inner_text()
        assert page.inner_text("[data-region=waiting] .count") == "41"
        [move] = page.locator(".move").all()
        assert "Waiting for pod ml/train to leave" in move.inner_text()
        keep(page, "page-long-queue")


def test_cluster_without_gpus_is_not_called_quiet(browser: BrowserContext) -> None:
    with served(Steering(snapshot=fleet(nodes=(), vms=(), pods=()))) as address:
        page = opened(browser, address)
        assert page.inner_text("h1") == "No GPU is in a pool"
        keep(page, "page-no-gpus")


def test_manager_that_sees_nothing_shows_no_gpus_and_says_so(browser: BrowserContext) -> None:
    with served(Steering(snapshot=None)) as address:
        page = opened(browser, address)
        assert page.inner_text("h1") == "The manager cannot see the cluster yet"
        assert page.locator(".gpu").count() == 0


def test_times_are_in_the_readers_zone(tmp_path: Path, browser: BrowserContext) -> None:
    with served(Steering()) as address:
        page = browser.new_page()
        session = browser.new_cdp_session(page)
        session.send("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Shanghai"})
        page.goto(address)
        # 08:00 UTC
        page.wait_for_function(
            "document.querySelector('[data-region=clock] time').innerText.includes('16:00')"
        )
        assert page.inner_text("[data-zone]") == "Asia/Shanghai"
