"""Figures of traces: what is on them, looked up in matplotlib's objects and in pixels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recurra.insight import Trace
from recurra.insight.plotting import plot
from report_cases import sample_trace

pytest.importorskip("matplotlib", reason='pip install "recurra[plots]" draws traces')


@pytest.fixture(scope="module")
def trace() -> Trace:
    return sample_trace(batch=4, time_steps=12, units=5, gradients=True)


@pytest.fixture(autouse=True)
def _leave_matplotlib_as_it_was() -> Iterator[None]:
    import matplotlib

    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


def panels(figure: Any) -> dict[str, Any]:
    """The figure's axes by title, without colour bars."""
    return {axes.get_title("left"): axes for axes in figure.axes if axes.get_title("left")}


def image_of(axes: Any) -> Any:
    (image,) = axes.get_images()
    return image


def test_states_and_gates_between_input_and_prediction(trace: Trace) -> None:
    found = panels(plot(trace, "lstm"))
    assert [title.partition("  ")[0] for title in found] == [
        "input: series",
        "hidden state",
        "cell state",
        "input gate",
        "forget gate",
        "candidate",
        "output gate",
        "prediction: forecast",
    ]
    layer = trace["lstm"]
    np.testing.assert_allclose(
        image_of(found["forget gate  f"]).get_array(), layer.arrays["forget_gate"][0].T
    )
    (line,) = found["prediction: forecast"].get_lines()
    np.testing.assert_allclose(line.get_ydata(), trace.outputs["forecast"][0, :, 0])
    assert {tuple(axes.get_xlim()) for axes in found.values()} == {(-0.5, 11.5)}
    last = found["prediction: forecast"]
    assert last.get_xlabel() == "time step"
    assert found["hidden state  h"].get_ylabel() == "unit"


def test_palettes_are_fixed_where_values_are_bounded(trace: Trace) -> None:
    found = panels(plot(trace, "lstm"))
    limits = {
        title.partition("  ")[0]: image_of(axes).get_clim()
        for title, axes in found.items()
        if axes.get_images()
    }
    assert limits["hidden state"] == limits["candidate"] == (-1, 1)
    for gate in ("input gate", "forget gate", "output gate"):
        assert limits[gate] == (0, 1)
    largest = np.abs(trace["lstm"].arrays["cell_state"][0]).max()
    assert limits["cell state"] == pytest.approx((-largest, largest))
    assert any(f"colours from −{largest:.3g} to {largest:.3g}" in title for title in found)


def test_an_unbounded_state_has_a_range_of_its_own(trace: Trace) -> None:
    layer = trace["lstm"]
    activations = {**layer.info["activations"], "candidate": "relu"}
    loose = replace(layer, info={**layer.info, "activations": activations})
    figure = plot(replace(trace, layers={"lstm": loose}), arrays="hidden_state")
    ((title, axes),) = panels(figure).items()
    largest = np.abs(layer.arrays["hidden_state"][0]).max()
    assert image_of(axes).get_clim() == pytest.approx((-largest, largest))
    assert "colours from" in title


@pytest.mark.parametrize("kind", ["diverging", "sequential"])
def test_palettes_run_evenly_and_stay_apart_without_red_or_green(kind: str) -> None:
    """Lightness tells values apart, whatever colours the reader's eyes tell apart."""
    from recurra.insight.plotting.style import colormap

    colours = colormap(kind)(np.linspace(0, 1, 101))[:, :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    light = linear @ [0.2126, 0.7152, 0.0722]
    if kind == "sequential":
        assert np.all(np.diff(light) < 0)
    else:
        assert np.all(np.diff(light[:51]) > 0)
        assert np.all(np.diff(light[50:]) < 0)
        # Blue more than red on one side, red more than blue on the other.
        assert np.all(colours[:45, 2] > colours[:45, 0])
        assert np.all(colours[56:, 0] > colours[56:, 2])


def test_padded_steps_are_hatched(trace: Trace) -> None:
    mask = trace["lstm"].mask
    assert mask is not None
    for row in (0, 1, 2):
        padded = np.flatnonzero(~mask[row])
        for axes in panels(plot(trace, "lstm", row=row)).values():
            hatched = [patch for patch in axes.patches if patch.get_gid() == "padded"]
            assert len(hatched) == (len(padded) > 0)
            for patch in hatched:
                assert patch.get_hatch()
                assert patch.get_x() == padded[0] - 0.5
                assert patch.get_width() == len(padded)


def test_steps_units_and_rows_are_chosen(trace: Trace) -> None:
    figure = plot(trace, "lstm", row=3, arrays=["hidden_state"], units=[4, 1], steps=(3, 9))
    ((_, axes),) = panels(figure).items()
    expected = trace["lstm"].arrays["hidden_state"][3, 3:9][:, [4, 1]]
    np.testing.assert_allclose(image_of(axes).get_array(), expected.T)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["4", "1"]
    figure.canvas.draw()
    assert axes.get_xticklabels()[0].get_text() == "3"
    assert "row 3" in figure.get_suptitle()


def test_units_by_their_peak(trace: Trace) -> None:
    hidden = np.zeros((4, 12, 5), "float32")
    for unit, step in enumerate((9, 2, 5, 0, 7)):
        hidden[0, step, unit] = (-1) ** unit * 0.5
    layer = trace["lstm"]
    layer = replace(layer, arrays={**layer.arrays, "hidden_state": hidden})
    sorted_trace = replace(trace, layers={"lstm": layer})
    (axes,) = panels(plot(sorted_trace, arrays="hidden_state", order="peak")).values()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["3", "1", "2", "4", "0"]


def test_curves_of_single_units(trace: Trace) -> None:
    drawn = {
        line.get_label(): line.get_ydata()
        for axes in plot(trace, "lstm", kind="lines", units=2).axes
        if axes.get_title("left").startswith("unit 2")
        for line in axes.get_lines()
    }
    for name in ("hidden_state", "cell_state", "forget_gate", "candidate"):
        label = next(label for label in drawn if label.startswith(name.replace("_", " ")))
        np.testing.assert_allclose(drawn[label], trace["lstm"].arrays[name][0, :, 2], rtol=1e-6)
    several = panels(plot(trace, "lstm", kind="lines", units=[0, 3], row=1))
    labels = [text.get_text() for text in several["forget gate  f"].get_legend().get_texts()]
    assert labels == ["unit 0", "unit 3"]
    padded = ~trace["lstm"].mask[1]
    assert np.isnan(several["forget gate  f"].get_lines()[0].get_ydata()[padded]).all()
    moving = panels(plot(trace, "lstm", kind="lines", arrays=["hidden_state"]))
    texts = moving["hidden state  h"].get_legend().get_texts()
    assert "unit 0" not in [text.get_text() for text in texts]  # dead


def test_many_layers_show_their_hidden_states() -> None:
    trace = sample_trace(layers=3, units=4, names="lstm")
    found = panels(plot(trace))
    assert [title for title, axes in found.items() if axes.get_images()] == [
        f"{path}: LSTM, 4 units: hidden state  h" for path in trace
    ]
    directions = {
        f"bi/{name}": replace(layer, path=f"bi/{name}")
        for name, layer in zip(("forward_layer", "backward_layer"), trace.values(), strict=False)
    }
    both = panels(plot(replace(trace, layers=directions), "bi"))
    assert sum(bool(axes.get_images()) for axes in both.values()) == 2


def test_norms_and_gradients_over_time(trace: Trace) -> None:
    summary = trace.summary()["lstm"]
    (line,) = panels(plot(trace, kind="norms"))["norm of the cell state  ‖c‖"].get_lines()
    np.testing.assert_allclose(line.get_ydata(), summary.norms["cell_state"])
    axes = panels(plot(trace, kind="gradients"))["gradient by the hidden state  ‖∂L/∂h‖"]
    np.testing.assert_allclose(
        axes.get_lines()[0].get_ydata(), summary.gradient.norms["hidden_state"]
    )
    assert axes.get_yscale() == "log"
    (row,) = panels(plot(trace, kind="norms", row=1, layer="lstm"))[
        "norm of the hidden state  ‖h‖"
    ].get_lines()
    real = trace["lstm"].mask[1]
    expected = np.linalg.norm(trace["lstm"].arrays["hidden_state"][1], axis=-1)
    np.testing.assert_allclose(row.get_ydata()[real], expected[real], rtol=1e-6)
    assert np.isnan(row.get_ydata()[~real]).all()


def test_a_point_per_unit(trace: Trace) -> None:
    summary = trace.summary()["lstm"]
    found = panels(plot(trace, kind="saturation"))
    (points,) = found["forget gate  f"].collections
    gate = summary.gates["forget_gate"]
    np.testing.assert_allclose(points.get_offsets(), np.stack([gate.low, gate.high], axis=1))
    assert "candidate  g" not in found
    (axes,) = panels(plot(trace, kind="memory")).values()
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), np.sort(summary.memory.steps)[::-1])


def test_names_of_curves_do_not_cover_the_title() -> None:
    trace = sample_trace(layers=4, units=2, names="a_layer_with_quite_a_long_name_of_its_own")
    figure = plot(trace, kind="norms")
    figure.canvas.draw()
    for axes in panels(figure).values():
        legend = axes.get_legend().get_window_extent()
        assert not legend.overlaps(axes._left_title.get_window_extent())
        assert legend.x1 <= figure.bbox.x1


def test_indices_are_points(trace: Trace) -> None:
    words = replace(trace, inputs={"words": np.arange(48).reshape(4, 12)})
    axes = panels(plot(words, "lstm"))["input: words (indices)"]
    (line,) = axes.get_lines()
    assert (line.get_linestyle(), line.get_marker()) == ("None", "s")
    assert "input: words" not in panels(plot(words, "lstm", tokens=["a"] * 12))


def test_tokens_stand_along_the_axis(trace: Trace) -> None:
    tokens = ["The", " ", "$x", "\n", *"abcdefg"]  # one fewer than steps
    figure = plot(trace, "lstm", tokens=tokens)
    last = list(panels(figure).values())[-1]
    shown = [label.get_text() for label in last.get_xticklabels()]
    assert shown[:5] == ["The", "␣", r"\$x", "⏎", "a"]
    figure.canvas.draw()  # a lone dollar sign would be an error, if it began a formula
    with pytest.raises(ValueError, match="13 texts, and 'lstm' has 12 time steps"):
        plot(trace, "lstm", tokens=["x"] * 13)


def test_forecasts_go_on_where_the_input_ends(trace: Trace) -> None:
    ahead = np.arange(4 * 3.0).reshape(4, 3)
    forecaster = replace(trace, outputs={"forecast": ahead})
    found = panels(plot(forecaster, "lstm", row=3, forecast=1))
    curves = found["input: series"].get_lines()
    forecast = next(line for line in curves if line.get_label() == "prediction: forecast")
    np.testing.assert_allclose(forecast.get_ydata()[-3:], ahead[3])
    np.testing.assert_allclose(forecast.get_xdata()[-3:], [12, 13, 14])
    assert forecast.get_ydata()[11] == pytest.approx(trace.inputs["series"][3, 11, 1])
    assert {axes.get_xlim() for axes in found.values()} == {(-0.5, 14.5)}
    alone = panels(plot(forecaster, "lstm", row=3, forecast=True))["prediction: forecast"]
    np.testing.assert_allclose(alone.get_lines()[0].get_ydata()[-3:], ahead[3])
    with pytest.raises(ValueError, match="does not have: it has 3, numbered from 0 to 2"):
        plot(forecaster, "lstm", forecast=3)


@pytest.mark.parametrize("cell", ["lstm", "gru", "simple_rnn"])
@pytest.mark.parametrize("kind", ["heatmap", "lines", "norms", "gradients"])
def test_every_cell(cell: str, kind: Any) -> None:
    trace = sample_trace(cell=cell, batch=2, time_steps=6, units=3, gradients=True)
    assert panels(plot(trace, kind=kind))


def test_long_and_wide_layers_are_drawn_by_means() -> None:
    trace = sample_trace(batch=1, time_steps=5000, units=40, padded=False)
    (axes,) = panels(plot(trace, arrays="hidden_state")).values()
    image = image_of(axes)
    shown = np.asarray(image.get_array())
    assert shown.shape == (40, 1667)
    values = trace["lstm"].arrays["hidden_state"][0]
    np.testing.assert_allclose(shown[:, 7], values[21:24].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(shown[:, -1], values[4998:].mean(axis=0), rtol=1e-5)
    assert image.get_extent()[:2] == [-0.5, 5000.5]
    assert axes.get_xlim() == (-0.5, 4999.5)


def test_values_that_are_none_are_seen(trace: Trace) -> None:
    layer = trace["lstm"]
    broken = layer.arrays["hidden_state"].copy()
    broken[0, 4, 2] = np.nan
    layer = replace(layer, arrays={**layer.arrays, "hidden_state": broken})
    figure = plot(replace(trace, layers={"lstm": layer}), arrays="hidden_state")
    (axes,) = panels(figure).values()
    figure.canvas.draw()
    x, y = axes.transData.transform((4, 2))
    pixels = np.asarray(figure.canvas.buffer_rgba())
    red, green, blue, _ = pixels[pixels.shape[0] - 1 - int(y), int(x)]
    assert red > 200
    assert green < 100
    assert blue > 100


def test_figures_need_no_screen_and_no_pyplot(trace: Trace, tmp_path: Any) -> None:
    before = sys.modules.pop("matplotlib.pyplot", None)
    try:
        figure = trace.plot("lstm", row=1)
        figure.savefig(tmp_path / "lstm.png")
        figure.savefig(tmp_path / "lstm.svg")
        assert (tmp_path / "lstm.png").stat().st_size > 10_000
        assert figure._repr_png_().startswith(b"\x89PNG")
        assert "matplotlib.pyplot" not in sys.modules
    finally:
        if before is not None:
            sys.modules["matplotlib.pyplot"] = before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "gru"}, KeyError, "it has 'lstm'"),
        ({"row": "lstm"}, ValueError, "row='lstm'; expected the number of a row"),
        ({"row": 4}, ValueError, "row=4, and 'lstm' has 4 rows: pass a number from 0 to 3"),
        ({"units": [7]}, ValueError, "names 7, and 'lstm' has 5 units, numbered from 0 to 4"),
        ({"arrays": "forget"}, ValueError, "no sequence 'forget'; it has hidden_state, cell_state"),
        ({"steps": (9, 9)}, ValueError, "leaves nothing of 12 time steps"),
        ({"kind": "pie"}, ValueError, "kind='pie'; expected one of heatmap, lines"),
        ({"order": "size"}, ValueError, "order='size'; expected 'unit' or 'peak'"),
    ],
)
def test_what_is_not_there_is_said(
    trace: Trace, options: dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        plot(trace, **options)


@pytest.mark.parametrize(("batch", "steps"), [(0, 3), (2, 0)])
def test_nothing_to_draw(batch: int, steps: int) -> None:
    trace = sample_trace(batch=2, time_steps=3, units=2, padded=False)
    arrays = {name: a[:batch, :steps] for name, a in trace["lstm"].arrays.items() if a.ndim == 3}
    empty = replace(trace, layers={"lstm": replace(trace["lstm"], arrays=arrays)})
    with pytest.raises(ValueError, match=f"has {batch} rows of {steps} time steps"):
        plot(empty)


def test_gradients_need_a_loss() -> None:
    trace = sample_trace(batch=1, units=2)
    for options in ({"kind": "gradients"}, {"arrays": ["dhidden_state"]}):
        with pytest.raises(ValueError, match="loss="):
            plot(trace, **options)


def test_cells_without_gates_have_no_figures_of_gates() -> None:
    trace = sample_trace(cell="simple_rnn", batch=1, units=2)
    for kind in ("saturation", "memory"):
        with pytest.raises(ValueError, match="No layer here"):
            plot(trace, kind=kind)


def test_without_matplotlib_the_error_says_how_to_get_it(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "recurra\[plots\]"'):
        trace.plot()


def texts_below(figure: Any) -> list[str]:
    """What stands along the lowest axis."""
    axes = [axes for axes in panels(figure).values() if axes.get_xticklabels()][-1]
    return [label.get_text() for label in axes.get_xticklabels()]


@pytest.mark.parametrize("kind", ["heatmap", "lines", "norms", "gradients"])
def test_tokens_stand_at_their_steps_in_every_kind(trace: Trace, kind: Any) -> None:
    tokens = [f"t{step}" for step in range(10)]
    figure = plot(trace, "lstm", kind=kind, tokens=tokens, steps=slice(-5, None))
    assert texts_below(figure) == ["t7", "t8", "t9", "", ""]
    assert set(texts_below(plot(trace, "lstm", kind=kind, tokens=tokens, steps=(10, 12)))) == {""}
    with pytest.raises(ValueError, match="tokens has 13 texts, and 'lstm' has 12 time steps"):
        plot(trace, "lstm", kind=kind, tokens=["x"] * 13)


def test_tokens_of_real_steps_stand_behind_the_padding(trace: Trace) -> None:
    layer = trace["lstm"]
    mask = np.ones((4, 12), bool)
    mask[1, :8] = False
    padded = replace(trace, layers={"lstm": replace(layer, mask=mask)})
    for kind in ("heatmap", "lines", "norms"):
        figure = plot(padded, "lstm", 1, kind=kind, tokens=list("abcd"))
        assert texts_below(figure) == [""] * 8 + list("abcd")
    figure = plot(padded, "lstm", 0, tokens=list("abcd"))
    assert texts_below(figure) == list("abcd") + [""] * 8, "that row has no padding"


@pytest.mark.parametrize("kind", ["heatmap", "norms", "saturation", "memory"])
def test_texts_of_others_are_no_formulas(trace: Trace, kind: Any) -> None:
    name = r"a$b_{$ \frac{1}{$ of $5"
    layers = {each: replace(trace["lstm"], path=each) for each in (name, "other")}
    named = replace(trace, layers=layers)
    figure = plot(named, kind=kind, arrays="hidden_state", title=name)
    figure.draw_without_rendering()
    assert figure.get_suptitle() == name
    assert not figure._suptitle.get_parse_math()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"arrays": []}, r"arrays=\[\]; expected a name"),
        ({"arrays": [3]}, "arrays="),
        ({"layer": []}, r"layer=\[\]; expected a layer's name"),
        ({"layer": 0}, "layer=0; expected a layer's name"),
        ({"units": "abc"}, "units='abc'; expected a unit's number"),
        ({"units": [1.5]}, "units="),
        ({"units": []}, "units="),
        ({"steps": 3}, r"steps=3; expected \(start, stop\)"),
        ({"steps": slice(0, 9, 2)}, "leaves steps out between others"),
        ({"steps": ("a", 3)}, r"expected \(start, stop\)"),
        ({"steps": (12, 15)}, "leaves nothing of 12 time steps"),
        ({"width": 0}, "width=0; expected a number of inches"),
        ({"width": float("nan")}, "width=nan; expected"),
        ({"forecast": "x"}, "forecast='x'; expected True, or the number"),
        ({"row": 1.7}, "row=1.7; expected the number of a row"),
        ({"kind": "lines", "order": "zz"}, "order='zz'; expected 'unit' or 'peak'"),
    ],
)
def test_arguments_of_no_meaning_are_named(trace: Trace, wrong: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plot(trace, **wrong)


def test_memory_that_is_not_known_is_told_from_memory_that_is_not_there(trace: Trace) -> None:
    layer = trace["lstm"]
    arrays = {name: np.full_like(values, np.nan) for name, values in layer.arrays.items()}
    broken = replace(trace, layers={"lstm": replace(layer, arrays=arrays)})
    with pytest.raises(ValueError, match="'lstm' has units without any gate value that is"):
        plot(broken, kind="memory")


@pytest.mark.filterwarnings("error")
def test_a_row_of_padding_alone_is_drawn(trace: Trace) -> None:
    layer = replace(trace["lstm"], mask=np.arange(4)[:, None] != np.zeros(12))
    for kind in ("heatmap", "lines", "norms"):
        plot(replace(trace, layers={"lstm": layer}), "lstm", 0, kind=kind)
