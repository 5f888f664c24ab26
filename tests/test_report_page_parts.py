"""The report's page: samples, tables, the diagram, findings and notes."""

from __future__ import annotations

import report_page_use
from report_page_data import HOSTILE, story
from report_page_use import Show, colour, cursors, looks_empty, looks_orange, plot_of, settle

browser, show = report_page_use.browser, report_page_use.show


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
        link = page.get_by_role("link", name="What this page leaves out: 1 note")
        link.click()
        page.wait_for_function(
            """() => {
                const {top, bottom} = document.getElementById("notes").getBoundingClientRect();
                return top >= 0 && bottom <= innerHeight;
            }"""
        )
        assert page.locator("#notes").evaluate("(notes) => notes === document.activeElement")


def test_a_diagram_of_an_ordinary_model_is_whole(show: Show) -> None:
    data = story()
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="{0}" viewBox="0 0 300 {0}"/>'
    for tall, whole in ((680, True), (2000, False)):
        data["diagram"] = svg.format(tall)
        with show(data) as page:
            cut = page.locator(".diagram").evaluate("(box) => box.scrollHeight > box.clientHeight")
            assert cut != whole
