"""`recurra.explain` of whole models, and how explanations are shown."""

from __future__ import annotations

import html.parser
import json
import re
from typing import Any

import keras
import pytest

import insight_zoo
import quick_weights
import recurra
from recurra.cells import CELLS
from recurra.insight import lint, structure_of
from recurra.insight.structure import Cell, Node, Recurrent, Structure, Tensor
from recurra.layers import LSTM, Masking, SimpleRNN

no_random_weights = quick_weights.no_random_weights


# --- Models ---


@pytest.mark.parametrize("name", insight_zoo.MODELS)
def test_every_model_is_explained_in_any_width_and_for_programs(name):
    case = insight_zoo.made(name)
    explanation = recurra.explain(case.model)
    structure = explanation.structure
    assert list(explanation.facts.layers) or not structure.recurrent()
    paths = [path for node in structure.recurrent() for path, _ in node.recurrent.leaves(node.path)]
    assert set(paths) <= set(explanation)
    for width in (60, 80, 120):
        for detail in ("brief", "normal", "full"):
            lines = explanation.text(width, detail=detail).splitlines()
            assert max(map(len, lines)) <= width
            assert not any("\x1b" in line or line != line.rstrip() for line in lines)
    data = json.loads(json.dumps(explanation.to_dict()))
    assert [layer["path"] for layer in data["layers"]] == [n.path for n in structure.recurrent()]
    counted = {node.path: node.parameters for node in structure.recurrent() if node.parameters}
    told = {layer["path"]: layer["parameters"]["count"] for layer in data["layers"]}
    assert counted.items() <= told.items()
    for step in data["way"]:
        assert step["path"] in explanation.text(200)
    Balanced().check(explanation.html(detail="full"))
    Balanced().check(explanation._repr_html_())


class Balanced(html.parser.HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    def check(self, text: str) -> list[str]:
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open
        return self.seen

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "br", "path", "rect", "line", "circle", "use", "polygon"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def translator() -> Any:
    return recurra.explain(insight_zoo.made("translator").model)


def test_the_way_of_the_data_keeps_chains_together(translator):
    paths = [step.path for step in translator.facts.steps]
    assert paths.index("encoder") == paths.index("embedding") + 1
    assert paths.index("target") > paths.index("encoder")
    assert paths.index("words") == paths.index("decoder") + 1
    shapes = {step.path: step.made[0].shape for step in translator.facts.steps}
    assert shapes["source"] == ("B", "T")
    assert shapes["target"] == ("B", "T2")
    assert shapes["decoder"] == ("B", "T2", 5)


def test_every_letter_of_the_shapes_is_told(translator):
    assert translator.text(80).rstrip().splitlines()[-1] == (
        "B sequences in the batch; T, T2 time steps"
    )
    assert "; T2 time steps;" in " ".join(translator["decoder"].text(80).split())


def test_the_way_says_who_reads_backwards():
    x = keras.Input((None, 3))
    y = LSTM(4, go_backwards=True, name="back")(x)
    model = keras.Model(x, LSTM(2)(keras.layers.RepeatVector(3)(y)))
    (back,) = [step for step in recurra.explain(model).facts.steps if step.path == "back"]
    assert back.note == "go_backwards: reads the last step first"
    assert "after the first step, which it reads last" in back.made[0].meaning


def test_a_decoders_states_come_from_the_encoder(translator):
    text = " ".join(translator["decoder"].text(80).split())
    assert "At first, h and c: encoder.state_h, encoder.state_c, given as initial_state." in text


def test_states_say_who_starts_from_whom_and_which_are_unused(translator):
    text = " ".join(translator.text(80).split())
    assert "decoder starts from given states: state_h ← encoder.state_h, state_c ← enc" in text
    assert "encoder starts from zeros at every call." in text
    assert "Returned, but unused: state_h, state_c of decoder." in text


def test_masks_are_followed_from_their_start_to_the_loss(translator):
    masks = translator.facts.masks
    assert masks[0].startswith("`embedding` makes it: steps whose index is 0")
    assert masks[1].startswith("`encoder` uses it: padded steps change nothing. It ends there.")
    missed = next(sentence for sentence in masks if sentence.startswith("`decoder`"))
    assert "does not get it: it is called on states too" in missed
    assert masks[-1].startswith("The output of `words` still has it: losses")
    # A decoder that does not get the mask reads padded steps: its last step is the last one.
    assert "after the last step" in translator["decoder"].facts.results.states[0].meaning
    assert "after the last real step" in translator["encoder"].facts.results.states[0].meaning


def test_masks_that_attention_and_means_use_are_told_without_states():
    a, b = keras.Input((None, 3)), keras.Input((None, 3))
    one = LSTM(2, return_sequences=True, name="one")(Masking(name="first")(a))
    two = LSTM(2, return_sequences=True, name="two")(Masking(name="second")(b))
    seen = keras.layers.MultiHeadAttention(1, 2, name="seen")(two, one)
    both = keras.layers.Concatenate(name="both")([two, seen])
    mean = keras.layers.GlobalAveragePooling1D(name="mean")(both)
    masks = recurra.explain(keras.Model([a, b], mean)).facts.masks
    assert list(masks)[-3:] == [
        "`seen` uses it, and hands it on: padded steps get no weight.",
        "`both` hands it on.",
        "`mean` uses it: padded steps get no weight. It ends there.",
    ]


@pytest.mark.filterwarnings("ignore:Layer 'conv'.*masking")
def test_a_mask_that_is_lost_before_a_recurrent_layer_is_told():
    x = keras.Input((None, 3))
    y = keras.layers.Conv1D(3, 2, name="conv")(Masking(name="masking")(x))
    facts = recurra.explain(keras.Model(x, LSTM(3, name="top")(y))).facts
    assert "`conv` (Conv1D) loses it, so `top` takes padded steps for real ones." in facts.masks


def test_long_models_are_told_shorter():
    x = y = keras.Input((None, 3), name="x")
    for index in range(40):
        y = keras.layers.Dense(3, name=f"dense_{index}")(y)
    model = keras.Model(x, SimpleRNN(3, name="rnn")(y))
    explanation = recurra.explain(model)
    assert "… 40 layers" in explanation.text(80)
    assert "dense_7" not in explanation.text(80)
    assert "dense_7" in explanation.text(80, detail="full")


def test_layers_are_found_by_path_last_part_or_name():
    explanation = recurra.explain(insight_zoo.made("directions").model)
    part = explanation["mul/forward_layer"]
    assert part.facts.path == "mul/forward_layer"
    assert explanation[part.facts.layer.layer_name].facts.path == "mul/forward_layer"
    with pytest.raises(KeyError, match="'forward_layer' can be 'sum/forward_layer' or"):
        explanation["forward_layer"]
    with pytest.raises(KeyError, match=r"No recurrent layer 'sums'; there are sum, "):
        explanation["sums"]


def test_findings_are_those_of_lint():
    model = insight_zoo.made("backwards").model
    explanation = recurra.explain(model)
    assert list(explanation.findings) == lint(structure_of(model))
    assert len(explanation.findings) > 0
    text = " ".join(explanation.text(80).split())
    for finding in explanation.findings:
        assert finding.code in text
        assert " ".join(finding.advice.split()) in text
    assert all(f.where == "down" for f in explanation["down"].findings)
    assert len(explanation["down"].findings) > 0


def test_a_loaded_model_and_its_file_are_explained_alike(tmp_path):
    case = insight_zoo.made("masked_classifier")
    case.model.save(tmp_path / "m.keras")
    kept = recurra.explain(case.model).to_dict()
    for other in (recurra.load(tmp_path / "m.keras"), str(tmp_path / "m.keras")):
        loaded = recurra.explain(other).to_dict()
        for one, two in zip(kept["layers"], loaded["layers"], strict=True):
            for key in ("path", "input", "call", "returns", "equal", "states", "parameters"):
                assert one[key] == two[key]
        assert loaded["masks"] == kept["masks"]
        assert [s["path"] for s in loaded["way"]] == [s["path"] for s in kept["way"]]


# --- How it is shown ---


def test_long_names_are_folded_and_whole():
    name = "a_name_made_by_joining_all_that_is_known_of_the_layers_configuration_with_underscores"
    x = keras.Input((None, 3))
    explanation = recurra.explain(keras.Model(x, LSTM(3, name=name)(x)))
    for width in (40, 60, 80):
        lines = explanation.text(width).splitlines()
        assert max(map(len, lines)) <= width
        first = "".join(line.strip().split("  ")[0] for line in lines)
        assert first.count(name) >= 2  # in the way of the data, and in the table of the layers
        assert "LSTM, 3 units" in explanation.text(width)


def test_names_are_shown_as_text_in_html():
    name = "<img src=x onerror=alert(1)>&"
    spec = CELLS["lstm"]
    cell = Cell("cell", "LSTMCell", "lstm", 2, 3, weights=spec.weight_shapes(3, 2))
    layer = Recurrent("LSTM", "recurra", cells=(cell,), engine="cpu", reason=name)
    tensors = (Tensor(0, name, (None, None, 3)), Tensor(1, name, (None, 2)))
    node = Node(name, "LSTM", (0,), (1,), recurrent=layer, parameters=48)
    structure = Structure(name, "Functional", tensors, (node,), (0,), (1,), gaps=(name,))
    explanation = recurra.explain(structure)
    for text in (explanation.html(detail="full"), explanation._repr_html_()):
        assert "<img" not in text
        assert "&lt;img src=x onerror=alert(1)&gt;&amp;" in text
    assert name in explanation.text(120)


def test_colours_come_from_rich_alone():
    from rich.console import Console

    explanation = recurra.explain(LSTM(3))
    console = Console(width=80, force_terminal=True, color_system="standard", record=True)
    with console.capture() as capture:
        console.print(explanation)
    assert "\x1b[" in capture.get()
    assert "\x1b" not in str(explanation)
    assert repr(explanation) == str(explanation)
    coloured = explanation.text(80, colour=True)
    bare = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in bare.splitlines()] == explanation.text(80).splitlines()


def test_the_page_needs_nothing_from_outside():
    explanation = recurra.explain(insight_zoo.made("tagger").model)
    assert explanation._repr_html_().count("<svg") == 1
    page = explanation.html()
    assert page.count("<svg") == 1
    assert page.count("<details") == len(explanation.facts.layers) == 2
    assert "More on each below." in page
    assert "<details" not in explanation.html(detail="brief")
    assert page.startswith("<!doctype html>")
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    assert "<script" not in page


def test_what_cannot_be_explained_says_what_can():
    with pytest.raises(TypeError, match="got the class LSTM; expected a layer: LSTM\\(64\\)"):
        recurra.explain(LSTM)
    with pytest.raises(TypeError, match="got 'd', a Dense, which is not recurrent"):
        recurra.explain(keras.layers.Dense(3, name="d"))
    with pytest.raises(TypeError, match="got a int"):
        recurra.explain(3)
    with pytest.raises(ValueError, match="detail='much'; expected 'brief', 'normal', 'full'"):
        recurra.explain(LSTM(3), detail="much")
