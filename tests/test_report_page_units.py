"""The report's page: choosing units, their order, and the arrays that are shown."""

from __future__ import annotations

import numpy as np

import report_page_use
from report_page_data import array, layer, page_data, story
from report_page_use import Show, colour, looks_blue, looks_orange, plot_of, readout, settle, spot

browser, show = report_page_use.browser, report_page_use.show


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
