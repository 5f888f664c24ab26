"""PyTorch's recurrent models: taken over by from_torch, and read from what it exports."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra
from recurra.runtime.errors import StreamingError, UnsupportedLayerError
from recurra.runtime.layer import Array

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
nn = torch.nn

FEATURES, UNITS, BATCH, STEPS = 3, 4, 3, 5


def numbers(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def close(made: Any, wanted: list[Array]) -> None:
    made = made if isinstance(made, list) else [made]
    assert [x.shape for x in made] == [x.shape for x in wanted]
    for one, two in zip(made, wanted, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)


def theirs(module: Any, x: Array, states: list[Array] | None = None) -> list[Array]:
    """What a recurrent module gives, batch first and states one by one."""
    given = torch.tensor(x)
    if not module.batch_first:
        given = given.transpose(0, 1)
    start: Any = None
    if states:
        start = tuple(torch.tensor(s) for s in states)
        start = start if len(start) > 1 else start[0]
    with torch.no_grad():
        y, after = module(given, start)
    y = y if module.batch_first else y.transpose(0, 1)
    after = after if isinstance(after, tuple) else (after,)
    return [y.numpy(), *(each.numpy() for kind in after for each in kind)]


MODULES = [
    (kind, options)
    for kind in ("LSTM", "GRU", "RNN")
    for options in (
        {},
        {"batch_first": True, "bias": False},
        {"num_layers": 2, "bidirectional": True, "dropout": 0.3},
        {"num_layers": 3, "batch_first": True},
    )
] + [("RNN", {"nonlinearity": "relu", "bidirectional": True})]


@pytest.mark.parametrize(("kind", "options"), MODULES, ids=str)
def test_modules_give_their_numbers(kind: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = getattr(nn, kind)(FEATURES, UNITS, **options).eval()
    model, x = recurra.from_torch(module), numbers(BATCH, STEPS, FEATURES)
    close(model.predict(x), theirs(module, x))
    layers, both = module.num_layers, module.bidirectional
    suffixes = [f"l{n}{r}" for n in range(layers) for r in ([""] + ["_reverse"] * both)]
    states = ["hidden_state"] + ["cell_state"] * (kind == "LSTM")
    assert [output.name for output in model.outputs] == [
        "output",
        *(f"{state}_{suffix}" for state in states for suffix in suffixes),
    ]
    if both:
        with pytest.raises(StreamingError, match="[Bb]idirectional"):
            model.open()
    else:
        session = model.open()
        sequence = np.stack([session.step(step)[0] for step in x[0]])
        np.testing.assert_array_equal(sequence, model.predict(x[:1])[0][0])


def test_what_is_no_recurrent_module_is_refused() -> None:
    for wrong in (nn.Sequential(nn.LSTM(2, 3)), nn.Linear(2, 3), nn.LSTMCell(2, 3), 3):
        with pytest.raises(TypeError, match=r"expected one torch\.nn\.LSTM.*torch\.onnx\.export"):
            recurra.from_torch(wrong)
    with pytest.raises(ValueError, match="proj_size=2"):
        recurra.from_torch(nn.LSTM(2, 3, proj_size=2))


def test_weights_are_copied_and_torch_is_not_imported() -> None:
    module = nn.GRU(FEATURES, UNITS)
    model, x = recurra.from_torch(module), numbers(1, STEPS, FEATURES)
    before = model.predict(x)[0]
    with torch.no_grad():
        module.weight_ih_l0.zero_()
    np.testing.assert_array_equal(model.predict(x)[0], before)
    code = "import sys, recurra; recurra.from_torch; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- Exported by PyTorch ---


class Model(nn.Module):
    """A recurrent module and what is usually put behind it."""

    def __init__(self, kind: str, head: str = "", **options: Any) -> None:
        super().__init__()
        self.recurrent = getattr(nn, kind)(FEATURES, UNITS, **options).eval()
        width = UNITS * (1 + self.recurrent.bidirectional)
        self.head, self.linear, self.norm = head, nn.Linear(width, 2), nn.LayerNorm(width)

    def forward(self, x: Any) -> Any:
        y, after = self.recurrent(x)
        hidden = after[0] if isinstance(after, tuple) else after
        if self.head == "sequence":
            return torch.softmax(self.linear(self.norm(y)), -1)
        if self.head == "last":
            return self.linear(y[:, -1] if self.recurrent.batch_first else y[-1])
        if self.head == "sequence, then last":
            return torch.relu(self.linear(torch.tanh(y) * 0.5))[:, -1, :]
        if self.head == "state":
            return torch.sigmoid(self.linear(hidden[-1]))
        if self.head == "both states":
            return self.linear(torch.cat([hidden[-2], hidden[-1]], dim=1))
        return (y, *after) if isinstance(after, tuple) else (y, after)


class Stateful(nn.Module):
    """A recurrent module whose states come in and go out."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.recurrent, self.lstm = getattr(nn, kind)(FEATURES, UNITS, **options), kind == "LSTM"

    def forward(self, x: Any, h: Any, c: Any = None) -> Any:
        y, after = self.recurrent(x, (h, c) if self.lstm else h)
        return (y, *after) if self.lstm else (y, after)


CLASSIC = [
    ("LSTM", "last", {"batch_first": True}),
    ("LSTM", "last", {}),
    ("LSTM", "", {"num_layers": 2}),
    ("LSTM", "", {"num_layers": 2, "bidirectional": True}),
    ("GRU", "state", {"num_layers": 2, "batch_first": True}),
    ("GRU", "sequence", {"bidirectional": True, "batch_first": True}),
    ("GRU", "both states", {"bidirectional": True, "batch_first": True, "bias": False}),
    ("LSTM", "sequence, then last", {"batch_first": True}),
    ("RNN", "sequence", {"nonlinearity": "relu", "batch_first": True}),
]
NEWER = [each for each in CLASSIC if each[0] != "RNN"][:4:2]


def save(module: Any, inputs: tuple[Any, ...], path: Path, dynamo: bool, free: Any) -> None:
    """Export a module, quietly."""
    options: dict[str, Any] = {"dynamo": dynamo}
    if dynamo:
        pytest.importorskip("onnxscript")
        options |= {"dynamic_shapes": free, "verbose": False}
    else:
        names = ["x", "h0", "c0"][: len(inputs)]
        axes = {n: {k: f"{n}{k}" for k in f} for n, f in zip(names, free, strict=True)}
        options |= {"input_names": names, "dynamic_axes": axes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), inputs, path, **options)


@pytest.mark.parametrize(
    ("kind", "head", "options", "dynamo"),
    [(*each, False) for each in CLASSIC] + [(*each, True) for each in NEWER],
    ids=str,
)
def test_exported_models_give_their_numbers(
    kind: str, head: str, options: dict[str, Any], dynamo: bool, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    module, path = Model(kind, head, **options), tmp_path / "model.onnx"
    first = module.recurrent.batch_first
    x = numbers(BATCH, STEPS, FEATURES)
    given = torch.tensor(x if first else x.transpose(1, 0, 2))
    batch, steps = torch.export.Dim("batch"), torch.export.Dim("steps")
    free = {0: batch, 1: steps} if first else {0: steps, 1: batch}
    save(module, (given,), path, dynamo, (free,))
    with torch.no_grad():
        made = module(given)
    if head:
        made = made if first or made.ndim == 2 else made.transpose(0, 1)
        wanted = [made.numpy()]
    else:
        wanted = theirs(module.recurrent, x)
    model = recurra.load(path)
    close(model.predict(x), wanted)
    if not module.recurrent.bidirectional:
        session = model.open()
        ends = [session.step(step) for step in x[0]][-1]
        last = ends if isinstance(ends, list) else [ends]
        for one, two in zip(last, wanted, strict=True):
            two = two[0, -1] if two.ndim == 3 else two[0]
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("LSTM", {"num_layers": 2, "batch_first": True}), ("GRU", {"bidirectional": True})],
)
def test_states_come_in_one_by_one(
    kind: str, options: dict[str, Any], dynamo: bool, tmp_path: Path
) -> None:
    module, path = Stateful(kind, **options), tmp_path / "model.onnx"
    x = numbers(BATCH, STEPS, FEATURES)
    kinds = 2 if kind == "LSTM" else 1
    states = [numbers(2, BATCH, UNITS) + index for index in range(kinds)]
    first = module.recurrent.batch_first
    given = torch.tensor(x if first else x.transpose(1, 0, 2))
    batch = torch.export.Dim("batch")
    free = ({0 if first else 1: batch}, *({1: batch} for _ in states))
    if dynamo and kinds == 1:
        free = (*free, None)
    inputs = (given, *(torch.tensor(s) for s in states))
    save(module, inputs if kinds == 2 or not dynamo else (*inputs, None), path, dynamo, free)
    model = recurra.load(path)
    assert len(model.inputs) == 1 + 2 * kinds
    close(
        model.predict([x, *(each for state in states for each in state)]),
        theirs(module.recurrent, x, states),
    )


def test_single_steps_are_not_taken_for_a_sequence(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    module = Model("RNN", "last", batch_first=True)
    save(module, (torch.zeros(1, STEPS, FEATURES),), path, True, None)
    with pytest.raises(UnsupportedLayerError, match="dynamo=False"):
        recurra.load(path)


def test_weights_may_be_computed_from_others() -> None:
    module = torch.nn.GRU(3, 4, batch_first=True)
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    x = torch.randn(2, 5, 3)
    expected = module(x)[0].detach().numpy()
    output, _ = recurra.from_torch(module).predict(x.numpy())
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5)


def test_modules_without_values_are_refused() -> None:
    with pytest.raises(ValueError, match="'meta', where weight_ih_l0 has no values"):
        recurra.from_torch(torch.nn.LSTM(3, 4, device="meta"))
