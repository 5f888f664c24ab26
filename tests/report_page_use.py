"""The report's page as a reader uses it: what the tests in test_report_page_*.py share.

    import report_page_use

    browser, show = report_page_use.browser, report_page_use.show

    def test_a_page(show):
        with show(story()) as page:
            page.mouse.move(*spot(plot_of(page), step=6))

`show` opens a page in Chromium and waits until it is drawn.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import chromium
from recurra.insight.report.page import html_page

browser = chromium.browser

Show = Callable[..., contextlib.AbstractContextManager[Any]]


@pytest.fixture
def show(browser: Any, tmp_path: Any) -> Show:
    """Opens the page of some data; it must have had no problem when it is closed."""

    @contextlib.contextmanager
    def opened(data: dict[str, Any], place: str = "", **settings: Any) -> Iterator[Any]:
        path = tmp_path / "report.html"
        path.write_text(html_page(data), encoding="utf-8")
        settings.setdefault("size", (1440, 900))
        with chromium.opened(browser, path, **settings) as page:
            if place:
                page.goto(f"{path.resolve().as_uri()}#{place}")
                page.reload()
            page.wait_for_selector("html[data-ready]")
            settle(page)
            yield page

    return opened


def settle(page: Any) -> None:
    """Until what has changed is drawn."""
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def plot_of(page: Any, name: str = "hidden_state", path: str = "lower") -> Any:
    plot = page.locator(f'[data-path="{path}"] .map[data-array="{name}"] .plot')
    plot.evaluate("(plot) => plot.scrollIntoView({block: 'center'})")
    plot.page.wait_for_function("(plot) => plot.dataset.drawn", arg=plot.element_handle())
    return plot


def colour(plot: Any, x: float, y: float) -> tuple[int, int, int]:
    """A heat map's colour, at shares of its width and height."""
    found = plot.evaluate(
        """(plot, [x, y]) => {
            const canvas = plot.querySelector("canvas");
            const over = plot.querySelector(".over");
            const k = canvas.width / plot.clientWidth;
            const left = (over.offsetLeft + x * over.clientWidth) * k;
            const top = y * over.clientHeight * k;
            const copy = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
            copy.drawImage(canvas, Math.floor(left), Math.floor(top), 1, 1, 0, 0, 1, 1);
            return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        [x, y],
    )
    return tuple(found)


def spot(plot: Any, step: float, steps: float = 40, line: float = 0, lines: float = 6) -> Any:
    """Where a step and a line are, in the window."""
    box = plot.locator(".over").bounding_box()
    left = box["x"] + (step + 0.5) / steps * box["width"]
    return left, box["y"] + (line + 0.5) / lines * box["height"]


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*middle)
    page.mouse.move(*end)
    page.mouse.up()
    settle(page)


def readout(page: Any) -> str:
    return page.locator(".readout").inner_text()


def window_of(page: Any) -> tuple[int, int]:
    low, high = page.locator(".strip").get_attribute("data-window").split("-")
    return int(low), int(high)


def wait_for_window(page: Any, what: str) -> None:
    """Wheels turn without being waited for."""
    page.wait_for_function(
        "() => { const [low, high] = document.querySelector('.strip').dataset.window"
        f".split('-').map(Number); return {what}; }}"
    )


def take_range(page: Any, first: int, last: int) -> None:
    plot = plot_of(page)
    drag(page, spot(plot, first), spot(plot, last))


def looks_blue(rgb: tuple[int, ...]) -> bool:
    return rgb[2] > rgb[0] + 40


def looks_orange(rgb: tuple[int, ...]) -> bool:
    return rgb[0] > rgb[2] + 40


def looks_empty(rgb: tuple[int, ...]) -> bool:
    return min(rgb) > 235


def cursors(page: Any) -> list[int]:
    return page.evaluate(
        "() => [...document.querySelectorAll('.plot .cursor')].map((c) => Number(c.dataset.step))"
    )


def ground(token: Any) -> tuple[int, ...]:
    text = token.evaluate("(token) => getComputedStyle(token).backgroundColor")
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
