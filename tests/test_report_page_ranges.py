"""The report's page: the text, ranges of steps and what is like them."""

from __future__ import annotations

import numpy as np
import pytest

import chromium
import report_page_use
from report_page_data import HOSTILE, array, floats, layer, page_data, story
from report_page_use import (
    Show,
    colour,
    cursors,
    drag,
    ground,
    looks_blue,
    looks_empty,
    looks_orange,
    plot_of,
    settle,
    spot,
    take_range,
)

browser, show = report_page_use.browser, report_page_use.show


# Text


def test_tokens_have_the_units_colours_and_are_only_text(show: Show) -> None:
    with show(story()) as page:
        tokens = page.locator(".tokens .token")
        page.fill("#unit-choice", "2")
        page.keyboard.press("Enter")
        settle(page)
        assert tokens.count() == 40
        assert tokens.nth(3).inner_text() == HOSTILE.replace(" ", "␣")
        assert tokens.nth(4).inner_text() == "␣"
        assert tokens.nth(5).inner_text() == "↵"
        assert page.locator(".tokens br").count() == 5
        assert page.locator("img").count() == 0
        assert page.title() == f"Title {HOSTILE}"
        assert page.locator("h1").inner_text() == f"Title {HOSTILE}"
        assert looks_orange(ground(tokens.nth(6)))
        assert looks_empty(ground(tokens.nth(3)))
        page.fill("#unit-choice", "4")
        page.keyboard.press("Enter")
        settle(page)
        assert looks_blue(ground(tokens.nth(6)))
        page.select_option("#token-array", "forget_gate")
        settle(page)
        assert ground(tokens.nth(6)) == ground(tokens.nth(3)), "the gate is the same throughout"
        assert not looks_empty(ground(tokens.nth(3)))


def test_tokens_move_the_cursor_and_take_ranges(show: Show) -> None:
    with show(story()) as page:
        tokens = page.locator(".tokens .token")
        tokens.nth(7).hover()
        settle(page)
        assert set(cursors(page)) == {7}
        assert "here" in tokens.nth(7).get_attribute("class")
        tokens.nth(1).click()
        page.mouse.move(5, 5)
        settle(page)
        assert set(cursors(page)) == {1}
        places = [tokens.nth(k).bounding_box() for k in (8, 10)]
        centres = [(p["x"] + p["width"] / 2, p["y"] + p["height"] / 2) for p in places]
        drag(page, *centres)
        assert page.locator(".card.range h3").inner_text() == "Steps 8–10 (3)"
        assert page.locator(".tokens .chosen").count() == 3
        plot = plot_of(page)
        band = plot.locator(".band").bounding_box()
        assert abs(band["x"] - (spot(plot, 8)[0] - band["width"] / 6)) < 2


@pytest.mark.parametrize("size", [chromium.DESKTOP, chromium.PHONE])
def test_the_cursors_token_is_in_sight_in_a_long_text(show: Show, size: tuple[int, int]) -> None:
    steps = 4000
    data = page_data([layer("lower", [array("hidden_state", [np.zeros((2, steps))])])], steps)
    data["rows"][0]["tokens"] = [{"axis": 0, "items": [f"word{k}" for k in range(steps)]}]
    with show(data, size=size) as page:

        def check() -> None:
            page.wait_for_function(
                """() => {
                    const box = document.querySelector(".tokens").getBoundingClientRect();
                    const token = document.querySelector(".tokens .here").getBoundingClientRect();
                    return box.top <= token.top && token.bottom <= box.bottom;
                }""",
                timeout=5000,
            )

        check()
        plot = plot_of(page)
        for step in (2000, 280, 3600):
            page.mouse.click(*spot(plot, step, steps, lines=2))
            page.mouse.move(5, 5)
            check()
        page.mouse.move(*spot(plot, 1200, steps, lines=2))
        settle(page)
        assert cursors(page)[0] != 3600
        check()
        page.mouse.move(5, 5)
        settle(page)
        check()
        tokens = page.locator(".tokens")
        top = tokens.evaluate("(box) => box.scrollTop")
        box = tokens.bounding_box()
        page.mouse.move(box["x"] + 100, box["y"] + box["height"] - 4)
        settle(page)
        assert tokens.evaluate("(box) => box.scrollTop") == top, "it stays under the pointer"


# Ranges


def test_a_range_names_its_active_units_and_its_like(show: Show) -> None:
    with show(story(always=0.75)) as page:
        take_range(page, 5, 9)
        assert page.locator(".card.range h3").inner_text() == "Steps 5–9 (5)"
        page.wait_for_selector(".similar button")
        units = page.locator(".active-units .unit-chip").all_inner_texts()
        assert units[:3] == ["2", "5", "4"], "sorted by mean |h|"
        matches = page.locator(".similar button")
        found = matches.evaluate_all(
            "(all) => all.map((b) => [b.dataset.row, b.dataset.from, b.dataset.to])"
        )
        assert sorted(found[:2]) == [["0", "25", "29"], ["1", "12", "16"]]
        scores = [float(text) for text in matches.locator(".n").all_inner_texts()]
        assert scores[0] > 0.9
        assert scores == sorted(scores, reverse=True)
        assert max(scores[2:], default=0) < 0.8, "a unit that is always on makes nothing alike"
        for row, first, last in found:
            # Neither the range itself, nor padding.
            assert row == "1" or int(last) < 5 or int(first) > 9
            assert row == "0" or int(last) < 30
        page.locator('.similar button[data-row="1"]').first.click()
        settle(page)
        assert page.locator("#row-choice").input_value() == "1"
        assert page.locator(".card.range h3").inner_text() == "Steps 12–16 (5)"
        assert set(cursors(page)) == {12}
        page.wait_for_selector('.similar button[data-row="0"]')


def test_only_the_same_values_are_the_same(show: Show) -> None:
    given = [-0.355, -0.018, -0.278, -0.3, 0.1, -0.293, -0.146, 0.355, -0.004, -0.6, -0.35, -0.02]
    hidden = np.array(given)[None]
    arrays = [array("hidden_state", [hidden], rows=[floats(hidden)])]
    with show(page_data([layer("lower", arrays)], 12), place="row=0&layer=lower&range=0-0") as page:
        page.wait_for_selector(".similar button")
        found = page.locator(".similar button").evaluate_all(
            "(all) => all.map((one) => [one.dataset.from, one.querySelector('.n').textContent])"
        )
        assert [int(step) for step, _ in found[:4]] == [10, 3, 5, 2], "the nearest first"
        scores = [float(score) for _, score in found]
        assert scores == sorted(scores, reverse=True)
        assert 0.9 < scores[0] < 1
        assert not {"1", "4", "7", "8"} & {step for step, _ in found}


def test_the_threshold_decides_which_units_are_active(show: Show) -> None:
    with show(story()) as page:
        take_range(page, 6, 8)
        chips = page.locator(".active-units .unit-chip")
        chips.first.wait_for()

        def at(value: str) -> list[str]:
            page.locator("#threshold").fill(value)
            page.wait_for_timeout(150)
            return chips.all_inner_texts()

        assert at("0.75") == ["2"]
        assert at("0.65") == ["2", "4"]
        assert at("0.9") == []
        assert "None" in page.locator(".active-units").inner_text()
        page.get_by_role("button", name="Choose the threshold").click()
        page.wait_for_timeout(150)
        assert chips.all_inner_texts() == ["2", "4", "1"]
        chips.nth(1).click()
        settle(page)
        assert page.locator("#unit-choice").input_value() == "4"
        assert "chosen" in chips.nth(1).get_attribute("class")


def test_ranges_of_layers_inside_of_time_distributed(show: Show) -> None:
    hidden = np.zeros((4, 3, 20))
    hidden[1, 1, 4:8] = 0.9
    hidden[2, 1, 11:15] = 0.9
    arrays = [array("hidden_state", list(hidden))]
    data = page_data([layer("lower", arrays, outer=2)], 20)
    assert len(data["rows"]) == 2
    with show(data) as page:
        plot = plot_of(page)
        assert looks_empty(colour(plot, 5.5 / 20, 0.5))
        page.locator("#outer-0").fill("1")
        settle(page)
        assert looks_orange(colour(plot, 5.5 / 20, 0.5)), "sample 0, outer step 1"
        page.locator("#outer-0").fill("9")
        page.keyboard.press("Tab")
        assert page.locator("#outer-0").input_value() == "1", "there is no such step"
        drag(page, spot(plot, 4, 20, 1, 3), spot(plot, 7, 20, 1, 3))
        match = page.locator(".similar button").first
        match.wait_for()
        match.click()
        settle(page)
        assert page.locator("#row-choice").input_value() == "1"
        assert looks_orange(colour(plot, 12.5 / 20, 0.5)), "sample 1, outer step 0"
        assert page.locator("#outer-0").input_value() == "0"
