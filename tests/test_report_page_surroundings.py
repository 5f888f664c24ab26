"""The report's page: dark, on a phone, on paper, of little, of much."""

from __future__ import annotations

import numpy as np

import chromium
import report_page_use
from report_page_data import array, layer, page_data, story
from report_page_use import (
    Show,
    colour,
    cursors,
    drag,
    ground,
    looks_empty,
    looks_orange,
    plot_of,
    readout,
    settle,
    spot,
    window_of,
)

browser, show = report_page_use.browser, report_page_use.show


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
        sizes = page.locator("button, select, input, summary").evaluate_all(
            """(all) => all.map((one) => [one, one.getBoundingClientRect()])
                .filter(([, {width}]) => width)
                .map(([{outerHTML}, {width, height}]) => [outerHTML, width, height])"""
        )
        assert len(sizes) > 40
        assert [each for each in sizes if min(each[1:]) < 24] == []
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
        assert inspector.evaluate("(panel) => panel.contains(document.activeElement)")
        page.locator(".shut").click()
        assert not inspector.is_visible()
        for place in ("", "#layer-choice", "#unit-choice"):
            page.locator(".inspect").press("Enter")
            assert inspector.is_visible()
            if place:
                page.focus(place)
            page.keyboard.press("Escape")
            if place == "#unit-choice":
                page.keyboard.press("Escape")
            assert not inspector.is_visible()
        assert page.locator(".inspect").evaluate("(key) => key === document.activeElement")


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
        text = page.locator("#text .tools")
        assert text.locator(".what").inner_text().startswith("of unit ")
        assert text.locator(".ramp").is_visible()
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
        page.wait_for_function(
            """() => {
                const [box, token] = [".tokens", ".here"].map((name) =>
                    document.querySelector(name).getBoundingClientRect());
                return box.top <= token.top && token.bottom <= box.bottom;
            }"""
        )
        page.set_viewport_size({"width": 1440, "height": 300})
        page.evaluate("() => scrollTo(0, 0)")
        settle(page)
        # Paper cannot wait: all must be drawn, in its colours, when the event returns.
        page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
        assert min(colour(plot, 0.02, 0.1)) > 200
        assert looks_empty(ground(tokens.nth(steps - 1)))
