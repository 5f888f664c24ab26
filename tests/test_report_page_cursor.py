"""The report's page: one cursor, the window of time, and the keys."""

from __future__ import annotations

import re

import numpy as np
import pytest

import chromium
import report_page_use
from report_page_data import array, layer, page_data, story
from report_page_use import (
    Show,
    colour,
    cursors,
    drag,
    looks_orange,
    plot_of,
    readout,
    settle,
    spot,
    take_range,
    wait_for_window,
    window_of,
)

browser, show = report_page_use.browser, report_page_use.show


# One cursor


def test_one_cursor_moves_over_all_views(show: Show) -> None:
    with show(story()) as page:
        plot = plot_of(page)
        start = set(cursors(page))
        assert start == {39}, "the last real step, where the final states are"
        page.mouse.move(*spot(plot, 6, line=2))
        settle(page)
        assert set(cursors(page)) == {6}
        assert len(cursors(page)) > 8
        assert "step 6" in readout(page)
        assert "cat" not in readout(page)
        assert "on" in readout(page), "the token of step 6"
        line = plot.locator(".cursor").bounding_box()
        assert abs(line["x"] + line["width"] / 2 - spot(plot, 6)[0]) < 2
        page.mouse.move(5, 5)
        settle(page)
        assert set(cursors(page)) == {39}, "back to where it was left"
        page.mouse.click(*spot(plot, 12))
        page.mouse.move(5, 5)
        settle(page)
        assert set(cursors(page)) == {12}, "a click leaves it there"


def test_layers_of_other_lengths_have_cursors_of_their_own(show: Show) -> None:
    first = layer("encoder", [array("hidden_state", [np.zeros((2, 10))])])
    second = layer("decoder", [array("hidden_state", [np.zeros((2, 4))])], axis=1)
    data = page_data([first, second], 10)
    data["axes"].append({"name": "outputs", "time_steps": 4, "columns": 4, "stride": 1})
    data["rows"][0]["tokens"] = [
        {"axis": 0, "items": list("abcdefghij")},
        {"axis": 1, "items": list("wxyz")},
    ]
    with show(data) as page:
        plot = plot_of(page, path="decoder")
        page.mouse.click(*spot(plot, 1, 4, 0, 2))
        settle(page)
        steps = page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll(".layer")].map((layer) =>
                [layer.dataset.path, layer.querySelector(".cursor").dataset.step]))"""
        )
        assert steps == {"encoder": "9", "decoder": "1"}
        assert page.locator(".tokens").inner_text() == "wxyz", "the text of the chosen layer"
        assert page.locator(".readout .token").inner_text() == "x"
        page.select_option("#layer-choice", "0")
        settle(page)
        assert page.locator(".tokens").inner_text() == "abcdefghij"
        assert window_of(page) == (0, 10)


def test_numbers_at_the_cursor_are_those_of_the_data(show: Show) -> None:
    with show(story()) as page:
        plot = plot_of(page)
        page.mouse.click(*spot(plot, 6, line=2))
        settle(page)
        tip = page.locator(".tip").inner_text()
        assert "step 6" in tip
        assert tip.endswith("h[2] = 0.8"), "no more digits than 254 levels have"
        meters = page.locator(".card.at .meter")
        shown = dict(re.findall(r"(\w)\s+([−\d.]+)", " ".join(meters.all_inner_texts())))
        assert shown == {"h": "0.80", "c": "1.6", "i": "0.33", "f": "0.33", "g": "0.40"}
        update = page.locator(".card.at .update").inner_text()
        assert "0.33 · 1.6 + 0.33 · 0.4" in update
        chips = page.locator(".card.at .unit-chip").all_inner_texts()
        assert chips[:3] == ["2", "4", "1"], "the largest |h| first"


# Time


def test_zooming_and_moving_along_time(show: Show) -> None:
    with show(story()) as page:
        plot = plot_of(page)
        page.mouse.click(*spot(plot, 20))
        page.keyboard.press("+")
        settle(page)
        low, high = window_of(page)
        assert high - low == 20
        assert low < 20 < high
        assert "step 20" in readout(page)
        cursor = plot.locator(".cursor").bounding_box()
        over = plot.locator(".over").bounding_box()
        middle = (20.5 - low) / (high - low)
        share = (cursor["x"] + cursor["width"] / 2 - over["x"]) / over["width"]
        assert abs(share - middle) < 0.02
        page.get_by_role("button", name="Zoom out").click()
        settle(page)
        assert window_of(page) == (0, 40)
        take_range(page, 5, 9)
        page.keyboard.press("z")
        settle(page)
        low, high = window_of(page)
        assert (low, high) == (3, 12)
        assert looks_orange(colour(plot, (7.5 - low) / (high - low), 2.3 / 6))
        page.get_by_role("button", name="Show all steps").click()
        settle(page)
        assert window_of(page) == (0, 40)
        page.mouse.move(*spot(plot, 30))
        page.keyboard.down("Control")
        page.mouse.wheel(0, -50)
        page.keyboard.up("Control")
        wait_for_window(page, "low > 5 && high - low < 30")
        page.keyboard.down("Shift")
        page.mouse.wheel(0, -2000)
        page.keyboard.up("Shift")
        wait_for_window(page, "low === 0")
        plot.locator(".over").dblclick()
        settle(page)
        assert window_of(page) == (0, 40)


def test_the_strip_shows_and_moves_the_window(show: Show) -> None:
    with show(story()) as page:
        strip = page.locator(".strip").bounding_box()

        def at(step: float) -> tuple[float, float]:
            return strip["x"] + step / 40 * strip["width"], strip["y"] + strip["height"] / 2

        drag(page, at(10), at(20))
        assert window_of(page) == (10, 20)
        drag(page, at(15), at(22))
        assert window_of(page) == (17, 27)
        drag(page, at(27), at(35))
        assert window_of(page) == (17, 35)
        page.mouse.click(*at(3.5))
        settle(page)
        assert "step 3" in readout(page)
        low, high = window_of(page)
        assert low <= 3 < high, "what was clicked can be seen"
        drawn = page.locator(".strip canvas").evaluate(
            "(c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v) => v)"
        )
        assert drawn


# Keys


def test_keys(show: Show) -> None:
    with show(story()) as page:
        plot = plot_of(page)
        plot.focus()
        for keys, step in (
            ("ArrowLeft", 38),
            ("Home", 0),
            ("ArrowRight", 1),
            ("Control+ArrowRight", 11),
            ("End", 39),
            ("ArrowRight", 39),
        ):
            page.keyboard.press(keys)
            settle(page)
            assert set(cursors(page)) == {step}, keys
        page.wait_for_function("() => document.querySelector('[role=status]').textContent")
        assert "Step 39" in page.locator("[role=status]").inner_text()
        page.fill("#unit-choice", "2")
        plot.focus()
        page.keyboard.press("ArrowDown")
        settle(page)
        assert page.locator("#unit-choice").input_value() == "3"
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        settle(page)
        assert page.locator("#unit-choice").input_value() == "1"
        page.keyboard.press("Home")
        for _ in range(3):
            page.keyboard.press("Shift+ArrowRight")
        settle(page)
        assert page.locator(".card.range h3").inner_text() == "Steps 0–3 (4)"
        page.keyboard.press("Shift+ArrowLeft")
        settle(page)
        assert page.locator(".card.range h3").inner_text() == "Steps 0–2 (3)"
        page.keyboard.press("Escape")
        settle(page)
        assert page.locator(".card.range h3").inner_text() == "Range"
        page.keyboard.press("]")
        settle(page)
        assert page.locator("#row-choice").input_value() == "1"
        page.keyboard.press("[")
        settle(page)
        assert page.locator("#row-choice").input_value() == "0"
        page.keyboard.press("}")
        settle(page)
        assert page.locator("#layer-choice").input_value() == "1"


def test_boxes_that_are_too_wide_are_scrolled_by_arrows(show: Show) -> None:
    with show(story(), size=chromium.PHONE) as page:
        plot_of(page).focus()
        page.keyboard.press("Home")
        for name in (".scroll", ".diagram"):
            box = page.locator(name).first
            box.evaluate("(box) => (box.firstElementChild.style.width = '1200px')")
            box.focus()
            page.keyboard.press("ArrowRight")
            handle = box.element_handle()
            page.wait_for_function("(box) => box.scrollLeft > 0", arg=handle)
            box.evaluate("(box) => (box.firstElementChild.style.width = '100px')")
        assert set(cursors(page)) == {0}
        page.keyboard.press("ArrowRight")
        settle(page)
        assert set(cursors(page)) == {1}, "nothing to scroll: the arrow is the cursor's"


@pytest.mark.parametrize("size", [chromium.DESKTOP, chromium.PHONE])
def test_a_unit_is_typed_and_left_again(show: Show, size: tuple[int, int]) -> None:
    with show(story(), size=size) as page:
        field, inspector = page.locator("#unit-choice"), page.locator("#inspector")
        before = inspector.is_visible()
        for leave, unit in (("Enter", "3"), ("Escape", "3")):
            plot_of(page).focus()
            page.keyboard.press("u")
            assert inspector.is_visible()
            page.keyboard.type("3" if leave == "Enter" else "1")
            page.keyboard.press(leave)
            settle(page)
            assert field.input_value() == unit
            assert inspector.is_visible() == before
            assert page.locator(".unit-part h3").first.inner_text() == f"Unit {unit} over time"
            page.keyboard.press("Home")
            page.keyboard.press("ArrowRight")
            settle(page)
            assert "step 1\n" in readout(page), "the keys are the page's again"


def test_keys_in_fields_stay_there(show: Show) -> None:
    with show(story()) as page:
        page.focus("#unit-choice")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("t")
        settle(page)
        assert set(cursors(page)) == {39}
        assert page.locator("html").get_attribute("data-theme") == "light"


def test_help(show: Show) -> None:
    with show(story()) as page:
        page.keyboard.press("?")
        help_page = page.get_by_role("dialog")
        assert help_page.is_visible()
        for key in ("Shift + ← →", "z", "Escape", "[ ]"):
            assert help_page.get_by_text(key, exact=True).is_visible()
        page.keyboard.press("Escape")
        assert not help_page.is_visible()
        page.get_by_role("button", name="Keys and how to read").click()
        help_page.get_by_role("button", name="Close").click()
        assert not help_page.is_visible()
