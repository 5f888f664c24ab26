"""The report's page: inputs, predictions and targets."""

from __future__ import annotations

from typing import Any

import numpy as np

import report_page_use
from report_page_data import HOSTILE, array, layer, page_data, series, story
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


def test_scores_of_both_signs_have_zero_in_the_middle(show: Show) -> None:
    data = story()
    scores = np.repeat(np.arange(-4.0, 8.0)[:, None], 40, axis=1)
    data["series"] = [series("scores", "output", [scores] * 2)]
    with show(data) as page:
        plot = page.locator("#data .plot.heat")
        assert looks_blue(colour(plot, 0.5, 0.5 / 12))
        assert looks_empty(colour(plot, 0.5, 4.5 / 12))
        assert looks_orange(colour(plot, 0.5, 11.5 / 12))
        assert page.locator("#data .legend").inner_text().split() == ["−7", "7", "own", "scale"]


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
