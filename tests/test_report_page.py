"""The report's page, used as a reader uses it: in Chromium, by pointer, keys and touch."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import chromium
from recurra.insight.report.page import html_page
from report_page_data import (
    HOSTILE,
    array,
    blob,
    layer,
    page_data,
    series,
    story,
)

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


# The file itself


def test_data_cannot_end_the_script_that_holds_it() -> None:
    data = page_data([], 1, title=HOSTILE, notes=[HOSTILE, "\u2028"])
    page = html_page(data)
    held = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert held is not None
    assert json.loads(held[1]) == data
    assert "\u2028" not in page
    assert f"<title>{html.escape(HOSTILE)}</title>" in page


def test_only_the_pages_own_program_may_run() -> None:
    page = html_page({})
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    program = page[page.rindex("<script>") + len("<script>") : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?://(?!www\.w3\.org/)", page), "a page asks for nothing"


def test_numbers_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        html_page({"value": float("nan")})


# What is drawn


def test_a_value_is_drawn_where_it_belongs(show: Show) -> None:
    values = np.zeros((4, 10))
    values[2, 7] = 1
    values[1, 3] = -1
    data = page_data([layer("lower", [array("hidden_state", [values])])], 10)
    with show(data) as page:
        plot = plot_of(page)
        for unit in range(4):
            for step in range(10):
                got = colour(plot, (step + 0.5) / 10, (unit + 0.5) / 4 + 0.02)
                if (unit, step) == (2, 7):
                    assert looks_orange(got)
                elif (unit, step) == (1, 3):
                    assert looks_blue(got)
                elif (unit, step) != (2, 3):  # nothing there, but the marker may be
                    assert looks_empty(got), (unit, step, got)


@pytest.mark.parametrize("ends", [(-1, 1), (-4, 4)])
def test_colours_stand_for_values_and_not_for_the_codes_of_a_file(
    show: Show, ends: tuple[int, int]
) -> None:
    values = np.array([[0.5, -0.5, 1.0, 0.0]])
    arrays = [array("hidden_state", [values], rows=[blob(values, *ends)])]
    with show(page_data([layer("lower", arrays)], 4)) as page:
        plot = plot_of(page)
        half, less, full, none = (colour(plot, (k + 0.5) / 4, 0.3) for k in range(4))
        assert looks_orange(half)
        assert looks_blue(less)
        assert sum(full) < sum(half) < sum(none)
        assert full[0] < 170, "1 has the palette's last colour"


def test_palettes_rise_evenly_and_can_be_told_apart_by_all(show: Show) -> None:
    with show(story()) as page:
        for theme in ("light", "dark"):
            ramps = page.evaluate(
                """() => Object.fromEntries([...document.querySelectorAll(".ramp")].map((bar) =>
                    [bar.dataset.kind, getComputedStyle(bar).backgroundImage]))"""
            )
            for kind in ("diverging", "sequential"):
                stops = re.findall(r"rgb\((\d+), (\d+), (\d+)\)", ramps[kind])
                rgb = np.array(stops, float) / 255
                light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
                seen = light @ [0.2126, 0.7152, 0.0722]
                if theme == "dark":
                    seen = -seen
                if kind == "sequential":
                    assert (np.diff(seen) < 0).all()
                    continue
                assert (np.diff(seen[:6]) > 0).all()
                assert (np.diff(seen[5:]) < 0).all()
                # Deuteranopia, after Machado, Oliveira and Fernandes (2009).
                to_eye = np.array(
                    [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
                )
                low, high = (to_eye @ light[k] for k in (2, 8))
                assert np.abs(low - high).max() > 0.2
            page.keyboard.press("t")
            settle(page)


def test_padded_steps_are_hatched_and_hold_no_value(show: Show) -> None:
    with show(story()) as page:
        page.select_option("#row-choice", "1")
        settle(page)
        plot = plot_of(page)
        real = {colour(plot, 0.55 + 0.002 * k, 0.5 / 6) for k in range(20)}
        padded = {colour(plot, 0.85 + 0.002 * k, 0.5 / 6) for k in range(20)}
        assert len(real) == 1
        assert len(padded) > 2, "a pattern, not a colour"
        page.mouse.move(*spot(plot, 35))
        assert "padded" in page.locator(".tip").inner_text()
        settle(page)
        assert "padded" in readout(page)
        assert "Padded" in page.locator(".card.at").inner_text()
        assert plot.get_attribute("data-missing") == "false"


def test_values_that_are_no_numbers_stand_out(show: Show) -> None:
    values = np.zeros((3, 10))
    values[:, 4] = np.nan
    with show(page_data([layer("lower", [array("hidden_state", [values])])], 10)) as page:
        plot = plot_of(page)
        red, green, blue = colour(plot, 4.5 / 10, 0.2)
        assert min(red, blue) > green + 60, "neither blue, nor orange, nor empty"
        assert page.get_by_text("no value (NaN, ∞)").is_visible()
        page.mouse.move(*spot(plot, 4, 10, 1, 3))
        assert "= –" in page.locator(".tip").inner_text()


def test_left_out_rows_say_so(show: Show) -> None:
    arrays = [array("hidden_state", [np.zeros((2, 4))]), array("candidate", [np.zeros((2, 4))])]
    arrays[1]["rows"] = [None]
    with show(page_data([layer("lower", arrays)], 4)) as page:
        left_out = page.locator('[data-array="candidate"] .blank')
        assert left_out.is_visible()
        assert not page.locator('[data-array="hidden_state"] .blank').is_visible()


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


def cursors(page: Any) -> list[int]:
    return page.evaluate(
        "() => [...document.querySelectorAll('.plot .cursor')].map((c) => Number(c.dataset.step))"
    )


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


# Units


def test_a_click_picks_a_unit_everywhere(show: Show) -> None:
    with show(story()) as page:
        plot = plot_of(page, "candidate")
        page.mouse.click(*spot(plot, 6, line=4))
        settle(page)
        lower = page.locator('[data-path="lower"]')
        marks = lower.locator(".marker").evaluate_all("(all) => all.map((m) => m.dataset.channel)")
        assert set(marks) == {"4"}
        assert lower.locator(".unit-part h3").inner_text() == "Unit 4 over time"
        assert lower.locator("tr.chosen th").inner_text() == "4"
        assert page.locator(".card.unit h3").inner_text() == "Unit 4 of lower"
        assert page.locator("#unit-choice").input_value() == "4"
        keys = lower.locator(".unit-part .key").all_inner_texts()
        assert keys[0].split() == ["h", "−0.7"]
        token = page.locator(".tokens .token").nth(6)
        assert token.evaluate("(t) => t.dataset.value") == "−0.7"


def test_a_units_number_can_be_typed(show: Show) -> None:
    with show(story()) as page:
        plot_of(page).focus()
        page.keyboard.press("u")
        page.keyboard.type("3")
        page.keyboard.press("Enter")
        settle(page)
        assert page.locator('[data-path="lower"] .unit-part h3').inner_text() == "Unit 3 over time"
        page.fill("#unit-choice", "77")
        page.keyboard.press("Enter")
        assert page.locator("#unit-choice").input_value() == "3", "there is no such unit"


def test_units_keep_their_numbers_where_some_were_left_out(show: Show) -> None:
    values = np.zeros((3, 6))
    values[1] = 0.9
    index = [3, 11, 20]
    arrays = [array("hidden_state", [values], total=32, channel_index=index)]
    with show(page_data([layer("lower", arrays, units=32, unit_index=index)], 6)) as page:
        plot = plot_of(page)
        page.mouse.click(*spot(plot, 2, 6, 1, 3))
        settle(page)
        assert page.locator(".unit-part h3").inner_text() == "Unit 11 over time"
        assert "h[11]" in readout(page)
        assert "32 units, 3 shown" in page.locator(".layer header").inner_text()


def test_the_order_of_units_can_be_chosen(show: Show) -> None:
    with show(story()) as page:
        plot = plot_of(page)
        page.mouse.click(*spot(plot, 6, line=4))
        settle(page)
        before = plot.locator(".marker").bounding_box()["y"]
        assert looks_orange(colour(plot, 6.5 / 40, 2.3 / 6))
        page.select_option("#order-0", "activity")
        settle(page)
        assert looks_orange(colour(plot, 6.5 / 40, 0.3 / 6)), "unit 2 is the most active"
        assert looks_blue(colour(plot, 6.5 / 40, 1.3 / 6)), "then unit 4"
        assert plot.locator(".marker").bounding_box()["y"] < before
        page.mouse.click(*spot(plot, 20, line=0))
        settle(page)
        assert page.locator("#unit-choice").input_value() == "2", "the line that is there now"
        page.select_option("#order-0", "memory")
        settle(page)
        assert looks_blue(colour(plot, 6.5 / 40, 0.3 / 6)), "unit 4 remembers longest"


def test_units_that_move_alike_are_next_to_each_other(show: Show) -> None:
    random = np.random.default_rng(0)
    steps = np.arange(64)
    kinds = random.permutation(np.arange(20) % 2)
    waves = np.stack([np.sin(steps / 3), np.cos(steps / 7)])
    values = 0.8 * waves[kinds] + random.normal(scale=0.03, size=(20, 64))
    with show(page_data([layer("lower", [array("hidden_state", [values])])], 64)) as page:
        assert page.locator("#order-0").input_value() == "alike"
        plot = plot_of(page)
        order = []
        for line in range(20):
            page.mouse.click(*spot(plot, 3, 64, line, 20))
            settle(page)
            order.append(int(page.locator("#unit-choice").input_value()))
        assert sorted(order) == list(range(20))
        changes = np.abs(np.diff(kinds[order])).sum()
        assert changes == 1, "two blocks"


def test_arrays_can_be_hidden_shown_and_made_large(show: Show) -> None:
    with show(story()) as page:
        maps = page.locator('[data-path="lower"] .map')
        assert maps.evaluate_all("(all) => all.map((m) => m.dataset.array)") == [
            "hidden_state",
            "cell_state",
            "input_gate",
            "forget_gate",
            "candidate",
        ]
        chip = page.locator('[data-path="lower"] .chip[data-array="cell_state"]')
        chip.click()
        assert maps.count() == 4
        assert chip.get_attribute("aria-pressed") == "false"
        chip.click()
        assert maps.nth(1).get_attribute("data-array") == "cell_state", "back in its place"
        small = maps.nth(0).bounding_box()
        maps.nth(0).locator(".grow").click()
        settle(page)
        large = maps.nth(0).bounding_box()
        assert large["width"] > 1.5 * small["width"]
        assert large["height"] > small["height"]
        assert looks_orange(colour(plot_of(page), 6.5 / 40, 2.3 / 6)), "drawn anew"


def test_lines_can_be_hidden(show: Show) -> None:
    with show(story()) as page:
        part = page.locator('[data-path="lower"] .unit-part')
        part.scroll_into_view_if_needed()
        settle(page)
        assert part.locator(".plot").get_attribute("data-ends") == "−1 1.606"
        key = part.locator(".key", has_text="c")
        key.first.click()
        settle(page)
        assert key.first.get_attribute("aria-pressed") == "false"
        assert part.locator(".plot").get_attribute("data-ends") == "−1 1", "c reached further"


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


def ground(token: Any) -> tuple[int, ...]:
    text = token.evaluate("(token) => getComputedStyle(token).backgroundColor")
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


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
        assert scores[0] > 0.95
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
        drag(page, spot(plot, 4, 20, 1, 3), spot(plot, 7, 20, 1, 3))
        match = page.locator(".similar button").first
        match.wait_for()
        match.click()
        settle(page)
        assert page.locator("#row-choice").input_value() == "1"
        assert looks_orange(colour(plot, 12.5 / 20, 0.5)), "sample 1, outer step 0"
        assert page.locator("#outer-0").input_value() == "0"


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


# Samples, layers, tables


def test_another_sample(show: Show) -> None:
    with show(story()) as page:
        plot = plot_of(page)
        assert page.locator(".sample").inner_text().split("\n")[-1].endswith("cat (0.93)")
        assert looks_empty(colour(plot, 14.5 / 40, 2.3 / 6))
        names = page.locator("#row-choice option").all_inner_texts()
        assert names == ["0 · first", f"1 · {HOSTILE}"]
        assert "2 of 40" in page.locator("header.top").inner_text()
        page.get_by_role("button", name="Next sample").click()
        settle(page)
        assert looks_orange(colour(plot, 14.5 / 40, 2.3 / 6))
        assert "dog (0.81)" in page.locator(".sample").inner_text()
        assert page.locator(".tokens .token").count() == 30
        assert set(cursors(page)) == {29}, "its last real step"
        assert page.get_by_role("button", name="Next sample").is_disabled()


def test_the_table_sorts_filters_and_picks(show: Show) -> None:
    with show(story(units=20)) as page:
        lines = page.locator('[data-path="lower"] tbody tr')
        units = page.locator('[data-path="lower"] tbody th')
        assert lines.count() == 12
        page.get_by_role("button", name="Show all 20").click()
        assert lines.count() == 20
        head = page.locator('[data-path="lower"] thead')
        head.get_by_role("button", name="memory").click()
        assert units.all_inner_texts()[:3] == ["18", "17", "16"], "the longest first"
        assert units.all_inner_texts()[-1] == "19", "what is undefined comes last"
        head.get_by_role("button", name="memory").click()
        assert units.all_inner_texts()[:2] == ["0", "1"]
        assert units.all_inner_texts()[-1] == "19"
        assert head.locator('[aria-sort="ascending"]').inner_text().startswith("memory")
        assert lines.nth(3).locator("td").all_inner_texts()[:2] == ["3", "50 %"]
        assert lines.nth(19).locator("td").first.inner_text() == "–"
        page.select_option("#filter-0", "dead")
        assert units.all_inner_texts() == ["0"]
        assert "dead" in lines.first.inner_text()
        lines.first.click()
        settle(page)
        assert page.locator("#unit-choice").input_value() == "0"
        assert "dead\nyes" in page.locator(".card.unit").inner_text()


def test_the_diagram_leads_to_layers_and_runs_nothing(show: Show) -> None:
    with show(story()) as page:
        assert page.title() == f"Title {HOSTILE}", "its script did not run"
        assert page.locator(".diagram script").count() == 0
        assert page.locator(".diagram rect").first.get_attribute("onclick") is None
        box = page.get_by_role("link", name="Look inside of upper")
        box.click()
        settle(page)
        assert page.locator("#layer-choice").input_value() == "1"
        assert "current" in box.get_attribute("class")
        page.wait_for_function("() => document.activeElement.classList.contains('plot')")
        page.wait_for_function(
            """() => {
                const top = document.getElementById("layer-1").getBoundingClientRect().top;
                return top > 60 && top < innerHeight / 2;
            }"""
        )
        page.get_by_role("link", name="Look inside of lower").focus()
        page.keyboard.press("Enter")
        settle(page)
        assert page.locator("#layer-choice").input_value() == "0"


def test_findings_notes_and_gaps_are_told(show: Show) -> None:
    finding = {
        "code": "R101",
        "severity": "warning",
        "where": HOSTILE,
        "problem": "Something.",
        "why": "Because.",
        "advice": "Do this.",
    }
    data = story()
    data.update(findings=[finding], notes=["Rows: 2 of 40."])
    data["model"]["gaps"] = ["A gap."]
    data["layers"][1]["go_backwards"] = True
    with show(data) as page:
        told = page.locator("main").inner_text()
        for text in ("R101", HOSTILE, "Do this.", "Rows: 2 of 40.", "A gap.", "reads backwards"):
            assert text in told
        assert "1 of 6 units is dead." in told
        page.get_by_text("How it computes").first.click()
        assert page.get_by_text("c' = f ∘ c + i ∘ g").first.is_visible()


# Inputs and predictions


def test_inputs_and_predictions_share_the_time_axis(show: Show) -> None:
    with show(story()) as page:
        data = page.locator("#data")
        plots = data.locator(".plot")
        assert plots.count() == 2
        page.mouse.move(*spot(plots.first, 10, lines=1))
        settle(page)
        keys = data.locator(".key").all_inner_texts()
        assert [key.split()[-1] for key in keys] == ["−0.191", "−0.095", "−0.064"]
        assert "target" in keys[2]
        lefts = {
            round(box["x"])
            for box in (
                plots.first.locator(".over").bounding_box(),
                plots.last.locator(".over").bounding_box(),
            )
        }
        assert len(lefts) == 1
        ink = plots.first.evaluate(
            """(plot) => {
                const c = plot.querySelector("canvas");
                const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
                let dark = 0;
                for (let i = 0; i < data.length; i += 4)
                    if (data[i + 3] > 200 && data[i] < 60) dark++;
                return dark;
            }"""
        )
        assert ink > 300, "a line is drawn"


def test_a_forecast_stands_behind_the_inputs_end(show: Show) -> None:
    past = np.linspace(0, 1, 20)[None]
    ahead = np.array([[2.0, 3.0, 4.0, 5.0, 6.0]])
    data = page_data([layer("lower", [array("hidden_state", [np.zeros((2, 20))])])], 20)
    data["series"] = [
        series("history", "input", [np.vstack([past, -past])], names=["price", "volume"]),
        series("ahead", "output", [ahead], start=20, continues=["history", 0]),
        series("wind", "output", [-ahead], start=20),
    ]
    with show(data) as page:
        plots = page.locator("#data .plot")
        assert plots.count() == 3, "the price and its forecast are one drawing"
        assert plots.first.get_attribute("data-ends") == "−0.36 6.36"
        page.mouse.move(5, 5)
        settle(page)
        assert oranges(plots.first, 0, 0.79) == 0, "the forecast is not before its time"
        assert oranges(plots.first, 0.81, 1) > 20
        page.mouse.move(*spot(plots.first, 22, 25, lines=1))
        settle(page)
        assert "after the input" in readout(page)
        keys = page.locator("#data .map").first.locator(".key").all_inner_texts()
        assert [key.split() for key in keys] == [["price", "–"], ["forecast", "4"]]
        assert "input has ended" in page.locator(".card.at").inner_text()
        heat = plot_of(page)
        assert colour(heat, 23 / 25, 0.3)[0:3] == (0, 0, 0), "nothing is drawn there"


def oranges(plot: Any, start: float, end: float) -> int:
    """How many of a drawing's pixels are orange, as forecasts are, between shares of its width."""
    return plot.evaluate(
        """(plot, [start, end]) => {
            const canvas = plot.querySelector("canvas");
            const over = plot.querySelector(".over");
            const k = canvas.width / plot.clientWidth;
            const left = Math.round((over.offsetLeft + start * over.clientWidth) * k);
            const wide = Math.round((end - start) * over.clientWidth * k);
            const tall = Math.round(over.clientHeight * k);
            const copy = new OffscreenCanvas(wide, tall).getContext("2d");
            copy.drawImage(canvas, left, 0, wide, tall, 0, 0, wide, tall);
            const {data} = copy.getImageData(0, 0, wide, tall);
            let found = 0;
            for (let i = 0; i < data.length; i += 4)
                if (data[i + 3] > 100 && data[i] > data[i + 2] + 80) found++;
            return found;
        }""",
        [start, end],
    )


def test_probabilities_of_one_answer_are_bars(show: Show) -> None:
    data = story()
    data["series"] = [
        series(
            "kind",
            "output",
            [[[0.1], [0.7], [0.2]]] * 2,
            axis=None,
            kind="probabilities",
            names=["cat", HOSTILE, "cow"],
        ),
        series("true", "target", [[[2]]] * 2, axis=None, kind="indices", of="kind"),
    ]
    with show(data) as page:
        lines = page.locator(".value-line")
        assert [line.split("\n")[:2] for line in lines.all_inner_texts()] == [
            [HOSTILE, "70 %"],
            ["cow", "20 %"],
            ["cat", "10 %"],
        ]
        assert "✓ target" in lines.nth(1).inner_text()
        widths = [lines.nth(k).locator(".bar").bounding_box()["width"] for k in (0, 1)]
        assert abs(widths[1] / widths[0] - 2 / 7) < 0.05


def test_many_outputs_are_compared_on_one_scale(show: Show) -> None:
    data = story()
    scores = np.repeat(np.arange(12.0)[:, None], 40, axis=1)
    data["series"] = [
        series("features", "input", [scores + np.arange(40)] * 2),
        series("scores", "output", [scores] * 2),
    ]
    with show(data) as page:
        features, outputs = (page.locator("#data .plot.heat").nth(k) for k in (0, 1))
        shades = [sum(colour(outputs, 0.5, (k + 0.5) / 12)) for k in range(12)]
        assert shades == sorted(shades, reverse=True)
        assert shades[0] > shades[11] + 400
        own = {colour(features, 20.5 / 40, (k + 0.5) / 12) for k in range(12)}
        assert len(own) == 1, "features have scales of their own"
        legends = page.locator("#data .legend").all_inner_texts()
        assert "greatest of the line" in legends[0]
        assert legends[1].split() == ["0", "11", "own", "scale"]


def test_probabilities_over_time_show_the_true_class(show: Show) -> None:
    data = story()
    share = np.full((4, 40), 0.05)
    share[2] = 0.85
    truth = np.full((1, 40), 2)
    truth[0, 30:] = 3
    names = ["name", "number", "string", "comment"]
    data["series"] = [
        series("tag", "output", [share] * 2, kind="probabilities", names=names),
        series("tag, true", "target", [truth] * 2, kind="indices", of="tag"),
    ]
    with show(data) as page:
        plot = page.locator("#data .plot.heat")
        assert plot.count() == 1
        assert sum(colour(plot, 5.5 / 40, 2.5 / 4)) < sum(colour(plot, 5.5 / 40, 1.5 / 4)) - 200
        page.mouse.move(*spot(plot, 5, line=2, lines=4))
        assert "tag[string] = 0.85" in page.locator(".tip").inner_text()
        red, green, _ = colour(plot, 33.5 / 40, 0.97)
        assert red > green + 80, "wrong steps are marked"
        red, green, _ = colour(plot, 20.5 / 40, 0.97)
        assert red < green + 20


# Surroundings


def test_dark_and_light(show: Show) -> None:
    with show(story(), color_scheme="dark") as page:
        plot = plot_of(page)
        assert max(colour(plot, 20.5 / 40, 2.3 / 6)) < 60, "nothing is dark"
        assert looks_orange(colour(plot, 6.5 / 40, 2.3 / 6))
        body = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert body == "rgb(16, 18, 22)"
        page.get_by_role("button", name="Light or dark").click()
        settle(page)
        assert looks_empty(colour(plot, 20.5 / 40, 2.3 / 6))
        page.keyboard.press("t")
        settle(page)
        assert max(colour(plot, 20.5 / 40, 2.3 / 6)) < 60


def test_a_phone(show: Show) -> None:
    with show(story(), size=chromium.PHONE) as page:
        wide = page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= 390, "nothing sticks out"
        for part in page.locator(".layer .plot, #data .plot").all():
            box = part.bounding_box()
            assert box["width"] > 300
            assert box["x"] + box["width"] <= 390
        for key in page.locator(".zooms button").all():
            assert key.bounding_box()["height"] >= 30, "large enough for a finger"
        plot = plot_of(page)
        page.touchscreen.tap(*spot(plot, 6, line=4))
        settle(page)
        assert "step 6" in readout(page)
        assert page.locator("#unit-choice").input_value() == "4"
        inspector = page.locator("#inspector")
        assert not inspector.is_visible()
        page.locator(".inspect").click()
        assert inspector.is_visible()
        assert "Step 6" in inspector.inner_text()
        page.locator(".shut").click()
        assert not inspector.is_visible()


def test_a_finger_moves_the_cursor_or_takes_a_range(show: Show) -> None:
    with show(story(), size=chromium.PHONE) as page:
        plot = plot_of(page)
        touch = page.context.new_cdp_session(page)

        def swipe(start: int, end: int) -> None:
            points = [spot(plot, step) for step in (start, (start + end) // 2, end)]
            for kind, (x, y) in zip(("touchStart", "touchMove", "touchMove"), points, strict=True):
                touch.send(
                    "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]}
                )
            touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
            settle(page)

        swipe(5, 15)
        assert "step 15" in readout(page)
        assert page.locator(".band:visible").count() == 0
        page.locator(".touch-only").click()
        page.wait_for_selector(".touch-only:text-is('Drag: range')")
        swipe(20, 25)
        assert page.locator(".card.range h3").text_content() == "Steps 20–25 (6)"


def test_paper_is_light_and_complete(show: Show) -> None:
    with show(story(), color_scheme="dark") as page:
        page.emulate_media(media="print")
        settle(page)
        assert page.locator("html").get_attribute("data-theme") == "light"
        drawn = page.locator(".plot").evaluate_all("(all) => all.map((p) => p.dataset.drawn)")
        assert all(drawn), "also what was never scrolled to"
        assert page.locator("details:not([open])").count() == 0
        assert not page.locator(".zooms").is_visible()
        assert page.locator("aside").is_visible()
        assert looks_empty(ground(page.locator(".tokens .token").nth(3)))
        page.emulate_media(media="screen")
        settle(page)
        assert page.locator("html").get_attribute("data-theme") == "dark"
        assert page.locator("details:not([open])").count() > 0
        assert len(page.pdf(format="A4")) > 10_000


def test_the_place_is_kept_in_the_address(show: Show) -> None:
    with show(story(), place="row=1&layer=lower&unit=4&step=13&range=12-16&window=8-24") as page:
        assert page.locator("#row-choice").input_value() == "1"
        assert page.locator("#unit-choice").input_value() == "4"
        assert "step 13" in readout(page)
        assert page.locator(".card.range h3").inner_text() == "Steps 12–16 (5)"
        assert window_of(page) == (8, 24)
        page.keyboard.press("ArrowRight")
        page.wait_for_function("() => location.hash.includes('step=14')")
    with show(story(), place="row=99&layer=none&unit=-1&step=x&range=9&window=0-9e9") as page:
        assert page.locator("#row-choice").input_value() == "1", "the last there is"
        assert window_of(page) == (0, 40)


def test_reports_of_little(show: Show) -> None:
    bare = page_data([layer("lower", [array("hidden_state", [np.zeros((1, 1))])], facts=[])], 1)
    bare["layers"][0]["equations"] = []
    with show(bare) as page:
        assert not page.locator("#text").is_visible()
        for gone in ("#model", "#data", ".unit-table", ".notes", ".findings"):
            assert page.locator(gone).count() == 0
        plot = plot_of(page)
        plot.focus()
        for key in ("ArrowRight", "ArrowDown", "+", "-", "z", "Home", "]", "}"):
            page.keyboard.press(key)
        drag(page, spot(plot, 0, 1, 0, 1), (spot(plot, 0, 1, 0, 1)[0] + 60, 300))
        assert "Steps 0–0 (1)" in page.locator(".card.range").inner_text()
        page.wait_for_timeout(150)
        assert "nothing to compare" in page.locator(".card.range").inner_text()
    with show(page_data([], 1)) as page:
        assert page.get_by_text("holds no recurrent layer").is_visible()
        page.keyboard.press("t")
        page.keyboard.press("ArrowLeft")


def test_pooled_steps(show: Show) -> None:
    values = np.zeros((2, 10))
    values[1, 4] = 0.5
    rows = [blob(values)]
    rows[0]["low"] = blob(values - 0.4)["data"]
    rows[0]["high"] = blob(values + 0.4)["data"]
    data = page_data([layer("lower", [array("hidden_state", [values], rows=rows)])], 78)
    data["axes"][0].update(columns=10, stride=8)
    with show(data) as page:
        plot = plot_of(page)
        assert looks_orange(colour(plot, 36 / 78, 0.7))
        page.mouse.move(*spot(plot, 35, 78, 1, 2))
        tip = page.locator(".tip").inner_text()
        assert "steps 32–39" in tip
        assert "h[1] = 0.5" in tip
        plot.focus()
        page.keyboard.press("End")
        page.keyboard.press("ArrowLeft")
        settle(page)
        assert "Steps 64–71" in page.locator(".card.at").inner_text()


def test_long_sequences_of_many_units(show: Show) -> None:
    units, steps = 512, 10_000
    random = np.random.default_rng(0)
    values = random.choice([0.0, 0.03, -0.03], size=(units, steps))
    values[300, 7000:7040] = 1
    values[300, 1500:1540] = 1
    gate = np.full((units, steps), 0.5)
    arrays = [array("hidden_state", [values]), array("forget_gate", [gate])]
    words = [f"word{step % 50}" for step in range(steps)]
    data = page_data([layer("lower", arrays)], steps)
    data["rows"][0]["tokens"] = [{"axis": 0, "items": words}]
    with show(data, color_scheme="dark") as page:
        plot = plot_of(page)
        page.select_option("#order-0", "number")
        page.fill("#unit-choice", "300")
        page.keyboard.press("Enter")
        plot.locator("xpath=..").locator(".grow").click()
        settle(page)
        marker = plot.locator(".marker").bounding_box()
        over = plot.locator(".over").bounding_box()
        line = (marker["y"] + marker["height"] / 2 - over["y"]) / over["height"]
        assert abs(line - 300.5 / 512) < 0.01
        take = [spot(plot, step, steps, 300, units) for step in (6960, 7080)]
        drag(page, *take)
        page.wait_for_selector(".similar button")
        page.keyboard.press("z")
        settle(page)
        low, high = window_of(page)
        assert high - low < 250
        assert looks_orange(colour(plot, (7020.5 - low) / (high - low), 300.5 / 512))
        assert not looks_orange(colour(plot, (6985.5 - low) / (high - low), 300.5 / 512))
        best = page.locator(".similar button").first
        assert abs(int(best.get_attribute("data-from")) - 1460) < 60
        best.click()
        settle(page)
        low, high = window_of(page)
        assert low < 1500 < high, "the window goes where the cursor goes"
        tokens = page.locator(".tokens .token")
        assert tokens.count() == steps
        here = tokens.nth(cursors(page)[0])
        assert "here" in here.get_attribute("class")
        assert here.is_visible()
        page.set_viewport_size({"width": 1440, "height": 300})
        page.evaluate("() => scrollTo(0, 0)")
        settle(page)
        # Paper cannot wait: all must be drawn, in its colours, when the event returns.
        page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
        assert min(colour(plot, 0.02, 0.1)) > 200
        assert looks_empty(ground(tokens.nth(steps - 1)))
