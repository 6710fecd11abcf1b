"""The dashboard in a real Chromium on a real `poolmgr demo`: what `make run` shows."""

import json
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from e2e.processes import PATIENCE_SECONDS
from tests.integration.api.demo import Demo

PATIENCE_MS = PATIENCE_SECONDS * 1000

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: chromium)"),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    running = Demo(tmp_path_factory.mktemp("demo"), "--speed", "60")
    yield running
    running.stop()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, headless=True, args=QUIET
        )
        context.set_default_timeout(PATIENCE_MS)
        yield context
        context.close()


def opened(browser: BrowserContext, demo: Demo, errors: list[str], width: int = 1280) -> Page:
    page = browser.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(demo.address)
    return page


def test_page_shows_every_gpu_and_a_move_passes_by(demo: Demo, browser: BrowserContext) -> None:
    errors: list[str] = []
    page = opened(browser, demo, errors)
    assert page.locator(".nodes .gpu").count() == 48
    assert page.locator(".nodes .node").count() == 6
    # Morning on the simulated fleet: people start desktops, so a GPU starts to move before long.
    page.wait_for_selector(".nodes .gpu.moving", timeout=PATIENCE_MS)
    page.wait_for_selector(".move .steps .now", timeout=PATIENCE_MS)
    page.wait_for_selector(".feed li.done", timeout=PATIENCE_MS)
    assert page.locator(".plot svg .area-vm").count() == 1
    assert errors == []


def test_page_stays_live_without_being_loaded_again(demo: Demo, browser: BrowserContext) -> None:
    page = opened(browser, demo, [])
    before = page.inner_text("[data-region=clock]")
    page.wait_for_function(
        "old => document.querySelector('[data-region=clock]').innerText !== old", arg=before
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(demo: Demo, browser: BrowserContext, width: int) -> None:
    page = opened(browser, demo, [], width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_picture_can_be_walked_by_keyboard(demo: Demo, browser: BrowserContext) -> None:
    page = opened(browser, demo, [])
    page.locator(".nodes .gpu[tabindex='0']").focus()
    first = page.evaluate("document.activeElement.id")
    assert page.locator(".nodes .gpu[tabindex='0']").count() == 1
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.id")
    assert second != first
    assert page.inner_text("[data-tip]").startswith(second.split("-")[-1])
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.id") not in (first, second)
    page.keyboard.press("Escape")
    assert page.locator("[data-tip]").is_hidden()


def test_theme_is_kept(demo: Demo, browser: BrowserContext) -> None:
    page = opened(browser, demo, [])
    for expected in ("light", "dark"):
        page.click("[data-theme-switch]")
        assert page.inner_text("[data-theme-switch]") == f"Theme: {expected}"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def post(url: str, body: Any) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_rebalance_answers_with_reasons_or_a_problem(demo: Demo) -> None:
    url = f"{demo.address}/api/v1/pools"
    status, answer = post(f"{url}/desktops:rebalance", {"dryRun": True})
    assert status == 200
    assert answer["plan"]["refusals"]
    assert all(r["reason"] and r["message"] for r in answer["plan"]["refusals"])
    assert post(f"{url}/none:rebalance", {"dryRun": True})[1]["code"] == "PoolNotFound"
    assert post(f"{url}/desktops:rebalance", {"dryRun": 1})[1]["code"] == "InvalidBody"
    status, answer = post(f"{url}/desktops:rebalance", {"dryRun": False, "generation": 99})
    assert (status, answer["code"]) == (412, "StaleGeneration")


def test_ctrl_c_ends_everything_at_once_even_while_watched(tmp_path: Path, browser: BrowserContext) -> None:
    demo = Demo(tmp_path, "--nodes", "1", "--gpus", "4")
    page = opened(browser, demo, [])
    page.wait_for_selector(".pulse")
    status = demo.stop()
    assert status == 0, "".join(demo.output)
    assert "nothing is left running" in "".join(demo.output)
    assert "Traceback" not in "".join(demo.output)
    assert "It is 09:30 on a Monday there" in "".join(demo.output)
    # The page says so instead of showing an old picture as if it were new.
    page.wait_for_selector("[data-lost]:not([hidden])", timeout=PATIENCE_MS)


def test_port_in_use_is_said_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "poolmgr.cli.main", "demo", "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "choose another with --port" in done.stderr
    assert "Traceback" not in done.stderr
