"""Looking at reports as a reader does: in Chromium, driven by Playwright.

    import chromium

    browser = chromium.browser                   # a fixture: one browser per module

    def test_a_page(browser, tmp_path):
        with chromium.opened(browser, path) as page:      # a Playwright page
            page.get_by_role("button", name="Help").click()

`opened` fails the test if the page has logged an error or a warning, thrown an exception, or asked
for anything but itself. Where there is no Chromium, tests are skipped and say how to get one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",  # which needs rights that containers do not give
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # /dev/shm is small in containers
)
DESKTOP = (1280, 900)
PHONE = (390, 844)


def executable() -> str | None:
    """Chromium's path: $RECURRA_CHROMIUM, or what is installed; None without one."""
    given = os.environ.get("RECURRA_CHROMIUM")
    return given or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser for the tests of a module."""
    path = executable()
    if path is None:
        pytest.skip(
            "needs Chromium: apt-get install chromium, or its path in RECURRA_CHROMIUM",
        )
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright's Python package: pip install playwright"
    )
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS])
        yield started
        started.close()


@contextlib.contextmanager
def opened(
    browser: Any, path: Path | str, size: tuple[int, int] = DESKTOP, **settings: Any
) -> Iterator[Any]:
    """A page that shows a file; afterwards it must have had no problem.

    Args:
        browser: the fixture's.
        path: of an HTML file.
        size: of the window; narrow ones are touched, as phones are.
        **settings: of Playwright's `new_context`, as color_scheme="dark".
    """
    width, height = size
    settings.setdefault("viewport", {"width": width, "height": height})
    if width < 600:
        settings.setdefault("has_touch", True)
        settings.setdefault("is_mobile", True)
    context = browser.new_context(offline=True, **settings)
    problems: list[str] = []
    try:
        page = context.new_page()
        page.set_default_timeout(20_000)
        address = Path(path).resolve().as_uri()
        page.on("console", lambda message: _note(problems, message.type, message.text))
        page.on("pageerror", lambda error: problems.append(f"exception: {error}"))
        page.on("request", lambda request: _ask(problems, request.url, address))
        page.goto(address)
        yield page
    finally:
        context.close()
    assert not problems, problems


def _note(problems: list[str], kind: str, text: str) -> None:
    if kind in ("error", "warning", "assert"):
        problems.append(f"{kind}: {text}")


def _ask(problems: list[str], url: str, address: str) -> None:
    own = url.partition("#")[0] == address
    if not own and not url.startswith(("data:", "blob:")):
        problems.append(f"request: {url}")
