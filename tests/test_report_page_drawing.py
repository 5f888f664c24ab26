"""What the report's page draws: values, colours, padding, what is missing."""

from __future__ import annotations

import re

import numpy as np
import pytest

import report_page_use
from report_page_data import array, blob, layer, page_data, story
from report_page_use import (
    Show,
    colour,
    looks_blue,
    looks_empty,
    looks_orange,
    plot_of,
    readout,
    settle,
    spot,
)

browser, show = report_page_use.browser, report_page_use.show


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
        settle(page)
        told = page.locator(".readout").inner_text()
        assert "steps 32–39" in told
        assert "mean h[" in told
        assert "Steps 32–39" in page.locator(".card.at").inner_text()
        plot.focus()
        page.keyboard.press("End")
        page.keyboard.press("ArrowLeft")
        settle(page)
        assert "Steps 64–71" in page.locator(".card.at").inner_text()


def test_statements_about_pooled_steps_are_about_all_of_them(show: Show) -> None:
    means = np.zeros((3, 10))
    means[2] = 0.03
    means[1] = -0.5
    low, high = means.copy(), means.copy()
    low[0], high[0] = -0.99, 1.0  # swings, and its mean is nothing
    low[1], high[1] = -0.6, -0.4
    high[2, 6] = 0.29
    rows = [blob(means)]
    rows[0] |= {"low": blob(low)["data"], "high": blob(high)["data"]}
    data = page_data([layer("lower", [array("hidden_state", [means], rows=rows)])], 78)
    data["axes"][0].update(columns=10, stride=8)
    with show(data, place="layer=lower&unit=2&step=20&range=8-47") as page:
        assert page.locator(".card.at .unit-chip").all_inner_texts() == ["0", "1", "2"]
        chips = page.locator(".active-units .unit-chip")
        chips.first.wait_for()
        assert chips.all_inner_texts() == ["1"]
        page.get_by_text("means of the steps in a column").wait_for()
        peak = page.locator(".card.unit .peaks button").first
        assert peak.inner_text().split() == ["steps", "48–55", "0.29"]
        page.locator("#threshold").fill("0.6")
        page.wait_for_function("() => !document.querySelector('.active-units .unit-chip')")
        told = page.locator(".card.range").inner_text()
        assert "None for certain" in told
        assert "nothing to compare" not in told
