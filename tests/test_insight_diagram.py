"""Diagrams: what is in them, that nothing overlaps or breaks out, and how Chromium shows them."""

from __future__ import annotations

import dataclasses
import itertools
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

import chromium
from insight_zoo import MODELS, made
from recurra.insight import structure_of
from recurra.insight.diagram import diagram_svg
from recurra.insight.diagram.layout import lay_out
from recurra.insight.diagram.picture import picture_of
from recurra.insight.diagram.text import cut, width_of
from recurra.insight.structure import Cell, Node, Recurrent, Structure, Tensor

browser = chromium.browser

SVG = "{http://www.w3.org/2000/svg}"


def chain(names: list[str], *, units: int = 4) -> Structure:
    """LSTMs on top of each other."""
    tensors = [Tensor(0, "series", (None, None, 3))]
    nodes = []
    for index, name in enumerate(names):
        tensors.append(Tensor(index + 1, name, (None, None, units)))
        cell = Cell("cell", "LSTMCell", "lstm", units, 3)
        lstm = Recurrent("LSTM", "recurra", name, (cell,), return_sequences=True, engine="cpu")
        nodes.append(Node(name, "LSTM", (index,), (index + 1,), recurrent=lstm))
    return Structure("chain", "Functional", tuple(tensors), tuple(nodes), (0,), (len(names),))


def texts(svg: str) -> list[str]:
    return ["".join(each.itertext()) for each in ET.fromstring(svg).iter(f"{SVG}text")]


def overlap(a: Any, b: Any) -> bool:
    (x, y, w, h), (u, v, s, t) = a, b
    return x < u + s and u < x + w and y < v + t and v < y + h


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_is_drawn_once_and_nothing_overlaps(name: str) -> None:
    structure = structure_of(made(name).model)
    picture = picture_of(structure)
    placed = lay_out(picture)
    paths = [box.path for box in placed.boxes if box.path]
    assert sorted(paths) == sorted(node.path for node in structure.nodes)
    areas = [(x, y, *box.size) for box, (x, y) in placed.boxes.items()]
    assert not any(overlap(a, b) for a, b in itertools.combinations(areas, 2))
    for x, y, w, h in areas:
        assert x >= 0
        assert y >= 0
        assert x + w <= placed.width + 0.01
        assert y + h <= placed.height + 0.01
    for group, x, y, w, h in placed.frames:
        inside = set(group.boxes())
        for box, (u, v) in placed.boxes.items():
            assert overlap((x, y, w, h), (u, v, *box.size)) == (box in inside)
    for way in placed.ways:  # from above to below
        assert all(a[1] <= b[1] for a, b in itertools.pairwise(way.points))


@pytest.mark.parametrize("name", MODELS)
def test_links_shapes_and_names_are_in_the_svg(name: str) -> None:
    structure = structure_of(made(name).model)
    svg = diagram_svg(structure)
    root = ET.fromstring(svg)
    links = [e.get("data-path") for e in root.iter() if e.get("data-path")]
    assert sorted(links) == sorted(node.path for node in structure.recurrent())
    said = " | ".join(texts(svg))
    for node in structure.nodes:
        assert node.path.rpartition("/")[2] in said
    assert root.find(f"{SVG}title").text == structure.name
    assert root.get("role") == "img"
    assert root.get("aria-label")


def test_masks_states_and_groups_are_told() -> None:
    said = texts(diagram_svg(structure_of(made("translator").model)))
    assert "LSTM · 5 units · ignores mask" in said
    assert "state_h, state_c (B, 5)" in said
    assert {"(B, T, 4)", "(B, T2, 4)", "with a mask", "initial states"} <= set(said)
    said = texts(diagram_svg(structure_of(made("nested_and_shared").model)))
    assert said.count("encoder") == 2
    assert said.count("squeeze") == 2
    said = " ".join(texts(diagram_svg(structure_of(made("directions").model))))
    assert "Bidirectional(LSTM) · 2 + 3 units" in said
    assert "Bidirectional(GRU) · 2 × 2 units, ave" in said
    said = texts(diagram_svg(structure_of(made("forecaster").model)))
    assert "with a mask" not in said


def test_hostile_names_stay_text() -> None:
    evil = '</text><script>alert(1)</script>"><img src=x onerror=alert(1)>\x00\ud800&amp;'
    structure = chain([evil, "plain"])
    structure = dataclasses.replace(structure, name=evil)
    svg = diagram_svg(structure, ids=True)
    root = ET.fromstring(svg)
    kinds = {each.tag.removeprefix(SVG) for each in root.iter()}
    assert kinds <= {"svg", "title", "desc", "style", "rect", "g", "path", "text", "tspan"}
    assert not [n for each in root.iter() for n in each.attrib if n.startswith("on")]
    assert [e.get("id") for e in root.iter() if e.get("id")] == ["layer-1", "layer-2"]
    assert "href" not in svg
    assert "url(" not in svg


def test_a_tall_model_is_folded_into_columns() -> None:
    names = [f"lstm_{number}" for number in range(40)]
    structure = chain(names)
    placed = lay_out(picture_of(structure))
    assert placed.height < 3 * placed.width
    columns = {round(x + box.size[0] / 2) for box, (x, _) in placed.boxes.items()}
    assert 2 <= len(columns) <= 6
    order = sorted((box for box in placed.boxes if box.path), key=lambda b: int(b.path[5:]))
    for one, other in itertools.pairwise(order):
        (x, y), (u, v) = placed.boxes[one], placed.boxes[other]
        assert v > y or u > x + one.size[0]  # below, or in the next column
    shapes = [text for text in texts(diagram_svg(structure)) if text == "(B, T, 4)"]
    assert len(shapes) == 40


def test_hundreds_of_layers_with_wires_everywhere() -> None:
    """Each layer reads the three before it."""
    count = 250
    tensors = [Tensor(n, f"t{n}", (None, None, 4)) for n in range(count + 1)]
    nodes = [
        Node(f"add_{n}", "Add", tuple(range(max(0, n - 2), n + 1)), (n + 1,)) for n in range(count)
    ]
    structure = Structure("dense", "Functional", tuple(tensors), tuple(nodes), (0,), (count,))
    svg = diagram_svg(structure)
    assert svg.count("rm-layer") >= count
    assert len(svg) < 1_500_000


def test_groups_that_take_turns_and_layers_without_wires() -> None:
    tensors = [Tensor(n, f"t{n}", (None, 4)) for n in range(5)]
    names = ["one/a", "two/b", "one/c", "two/d"]
    nodes = [Node(name, "Dense", (n,), (n + 1,)) for n, name in enumerate(names)]
    lost = [Node(f"lost/dense_{n}", "Dense", (), ()) for n in range(3)]
    structure = Structure("x", "Model", tuple(tensors), (*nodes, *lost), (0,), (4,))
    svg = diagram_svg(structure)
    assert {"a", "b", "c", "d", "dense_2", "lost"} <= set(texts(svg))
    assert (
        ET.fromstring(diagram_svg(Structure("empty", "Model", (), (), (), ()))).tag == f"{SVG}svg"
    )


def test_texts_are_cut_in_their_middle() -> None:
    assert cut("short", 10) == "short"
    assert cut("bidirectional_encoder_17", 15) == "bidirec…oder_17"
    assert len(cut("x" * 500, 30)) == 30
    assert width_of("WWW", 10) > width_of("iii", 10)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_fit_into_their_boxes_and_are_readable(
    browser: Any, tmp_path: Path, scheme: str
) -> None:
    """As Chromium draws it: no text is wider than its box, and all have enough contrast."""
    drawn = "".join(
        diagram_svg(structure_of(made(name).model)) for name in ("translator", "nested_and_shared")
    )
    page_path = tmp_path / "page.html"
    page_path.write_text(f"<!doctype html><title>x</title>{drawn}", encoding="utf-8")
    with chromium.opened(browser, page_path, color_scheme=scheme) as page:
        too_wide = page.evaluate(
            """() => [...document.querySelectorAll("g[class^=rm-]")].flatMap((g) => {
                const box = g.querySelector(".rm-box");
                if (!box) return [];
                const limit = box.getBoundingClientRect();
                return [...g.querySelectorAll("text")].filter((text) => {
                    const area = text.getBoundingClientRect();
                    return area.left < limit.left || area.right > limit.right;
                }).map((text) => text.textContent);
            })"""
        )
        colours = page.evaluate(
            """() => [...document.querySelectorAll("svg text")].map((text) => [
                getComputedStyle(text).fill,
                getComputedStyle(text.closest("svg").querySelector(".rm-paper")).fill])"""
        )
    assert too_wide == []
    assert colours
    for ink, paper in {tuple(pair) for pair in colours}:
        assert contrast(ink, paper) > 4.5, (ink, paper)


def contrast(one: str, other: str) -> float:
    """Of two colours, "rgb(1, 2, 3)" or "color(srgb 0.1 0.2 0.3)", as WCAG 2 defines it."""
    light = sorted(luminance(colour) for colour in (one, other))
    return (light[1] + 0.05) / (light[0] + 0.05)


def luminance(colour: str) -> float:
    most = 1 if colour.startswith("color(srgb") else 255
    parts = [float(part) / most for part in re.findall(r"[\d.]+", colour)[:3]]
    assert all(0 <= part <= 1 for part in parts), colour
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
