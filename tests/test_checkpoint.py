"""Checkpoints: values and gradients are those of the plain scan to the last bit, and memory is not.

Each host's own tests say that it saves checkpoints only; those of layers on every host are in
test_layers_on_hosts.py.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest

from cases import ARRAYS, MASKS, VARIANTS, Case, make_case, make_cotangents, matrix
from recurra import _engine, layers
from recurra.engine import Config, cpu
from recurra.engine.config import SQUARE_ROOT
from scans import Scan, call_by_address, config_of

pytestmark = pytest.mark.usefixtures("poison")

EVERY = (1, 2, 7, SQUARE_ROOT, 1000)

# Many rows, so that the backward pass takes few steps at once and there are several segments.
LARGE: Case = {"batch": 61, "time_steps": 40, "features": 5, "units": 17}
OPTIONS: list[Case] = [
    *({"mask": mask} for mask in (None, *MASKS)),
    {"mask": "left", "initial_state": False, "zero_output_for_mask": True},
    {"mask": "row", "go_backwards": True, "use_bias": False},
    {"go_backwards": True, "dropout_x": "gates", "dropout_h": "gates"},
    {"mask": "holes", "dropout_x": "shared", "dropout_h": "shared", "initial_state": False},
    {"activation": "gelu", "recurrent_activation": "silu", "time_steps": 19},
    {"batch": 1, "time_steps": 1100, "units": 9},
    {"batch": 600, "time_steps": 7, "units": 33},
    {"time_steps": 1},
    {"time_steps": 1, "initial_state": False},
    {"time_steps": 0},
    {"batch": 0},
]


class Call:
    """One scan with all cotangents, for any configuration of what it saves."""

    def __init__(self, configuration: Case, dtype: str = "float32") -> None:
        case = make_case(**configuration)
        self.config = config_of(case)
        self.arrays = {
            name: array.astype(dtype) if array is not None and array.dtype == float else array
            for name, array in ((name, case[name]) for name in ARRAYS)
        }
        given = make_cotangents(case, trace=False)
        names = {"last_output": "d_last", "sequence": "d_sequence"}
        names |= {name: f"d_{name}" for name in self.config.spec.state_outputs}
        self.cotangents = {name: given[source].astype(dtype) for name, source in names.items()}

    def saved(self, every: int, **wanted: Any) -> tuple[Config, dict[str, Any]]:
        config = dataclasses.replace(self.config, checkpoint_every=every)
        return config, cpu.forward(config, **self.arrays, slots=True, **wanted)

    def results(self, every: int = 0, **wanted: bool) -> dict[str, Any]:
        """Outputs, gradients and what was saved, by name."""
        config, values = self.saved(every, **wanted)
        cotangents = {n: d for n, d in self.cotangents.items() if n in values}
        gradients = cpu.backward(config, self.arrays, values, cotangents)
        return values | {f"gradient of {name}": array for name, array in gradients.items()}


def assert_same_but_for_what_is_saved(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, array in expected.items():
        if name in ("last_output", "state_h", "state_c", "sequence") or "gradient" in name:
            np.testing.assert_array_equal(actual[name], array, err_msg=name)
            assert array.size == 0 or np.isfinite(array).all()


def check(configuration: Case, dtype: str = "float32", every: tuple[int, ...] = EVERY) -> None:
    call = Call(configuration, dtype)
    expected = call.results()
    for k in every:
        results = call.results(k)
        assert_same_but_for_what_is_saved(results, expected)
        assert not any(name in results for name in call.config.slots if "state" not in name)


# --- The same bits ---


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_bits_are_those_of_the_plain_scan(
    variant: tuple[str, dict[str, bool]], options: Case, isa: str
) -> None:
    cell, choice = variant
    check({**LARGE, "cell": cell, **choice, **options})


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_bits_are_those_of_the_plain_scan_in_float64(
    variant: tuple[str, dict[str, bool]], isa: str
) -> None:
    cell, choice = variant
    check({**LARGE, "cell": cell, **choice, "mask": "holes"}, "float64")


@pytest.mark.parametrize(
    "configuration", [c for _, c in matrix(random=16)], ids=[d for d, _ in matrix(random=16)]
)
def test_every_option_gives_the_same_bits(configuration: Case) -> None:
    check({**configuration, "batch": 300}, "float64", every=(2, 3))


def test_few_outputs_give_the_same_bits() -> None:
    call = Call({**LARGE, "cell": "lstm", "mask": "holes"})
    for wanted in ({"sequence": False}, {"last_output": False}):
        assert_same_but_for_what_is_saved(call.results(7, **wanted), call.results(**wanted))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_threads_change_no_bit(variant: tuple[str, dict[str, bool]], threads: Any) -> None:
    cell, choice = variant
    call = Call({**LARGE, "cell": cell, **choice, "units": 70, "mask": "holes"})
    threads(1)
    expected = call.results()
    for n in (1, 2, 3, 7):
        threads(n)
        assert_same_but_for_what_is_saved(call.results(7), expected)


def test_scans_in_one_call_may_save_differently() -> None:
    calls = [
        Call({**LARGE, "cell": "lstm", "mask": "holes"}),
        Call({**LARGE, "cell": "lstm", "go_backwards": True, "seed": 1}),
        Call({**LARGE, "cell": "gru", "units": 40}),
        Call({**LARGE, "cell": "simple_rnn", "time_steps": 9}),
    ]
    every = (5, 0, SQUARE_ROOT, 2)
    configs = [
        dataclasses.replace(call.config, checkpoint_every=k)
        for call, k in zip(calls, every, strict=True)
    ]
    pairs = list(zip(configs, calls, strict=True))
    values = cpu.forward_many([(config, {**c.arrays, "slots": True}) for config, c in pairs])
    gradients = cpu.backward_many(
        [
            (config, call.arrays, saved, call.cotangents, cpu.DIFFERENTIABLE)
            for (config, call), saved in zip(pairs, values, strict=True)
        ]
    )
    for call, saved, found in zip(calls, values, gradients, strict=True):
        results = saved | {f"gradient of {name}": array for name, array in found.items()}
        assert_same_but_for_what_is_saved(results, call.results())


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("every", [3, SQUARE_ROOT])
def test_calls_by_address_give_the_same_bits(every: int, backward: bool) -> None:
    scans = []
    for cell in ("lstm", "gru"):
        scan = Scan({**LARGE, "cell": cell, "mask": "holes"}, "float32")
        scan.config = dataclasses.replace(scan.config, checkpoint_every=every)
        scan.cotangents.pop("hidden_state")
        scan.forward = cpu.forward(scan.config, **scan.arrays, slots=True)
        scan.backward = cpu.backward(*scan.backward_arguments())
        scans.append(scan)
    call_by_address(
        scans,
        backward,
        lambda problems, addresses: _engine.run(backward, False, problems, addresses),
    )


# --- What is saved, and used ---


def test_checkpoints_are_the_states_before_every_kth_step() -> None:
    call = Call({**LARGE, "cell": "lstm", "mask": "holes", "go_backwards": True})
    plain = call.results()
    for every, k, count in ((1, 1, 40), (7, 7, 6), (SQUARE_ROOT, 7, 6), (1000, 1000, 1)):
        config, saved = call.saved(every)
        assert config.slots == ("checkpoint_h", "checkpoint_c")
        assert config.checkpoints(40) == count
        for name, initial, states in (
            ("checkpoint_h", "h0", "hidden_state"),
            ("checkpoint_c", "c0", "cell_state"),
        ):
            before = np.concatenate([call.arrays[initial][:, None], plain[states]], axis=1)
            np.testing.assert_array_equal(saved[name], before[:, :40:k])


def test_a_square_root_is_rounded_up() -> None:
    config = Config("gru", checkpoint_every=SQUARE_ROOT)
    counts = {0: 0, 1: 1, 2: 1, 4: 2, 5: 2, 9: 3, 10: 3, 100: 10, 101: 10, 100_000: 316}
    assert {steps: config.checkpoints(steps) for steps in counts} == counts


def test_segments_are_computed_from_their_checkpoints() -> None:
    call = Call({**LARGE, "cell": "lstm"})
    config, saved = call.saved(10)
    poisoned = {n: array.copy() for n, array in saved.items()}
    poisoned["checkpoint_h"][:, 0] = np.nan
    found = cpu.backward(config, call.arrays, poisoned, call.cotangents)
    spoiled = np.isnan(found["x"]).any(axis=(0, 2))
    assert 10 <= spoiled.sum() < 40
    np.testing.assert_array_equal(spoiled, np.arange(40) < spoiled.sum())


def test_wrong_arrays_are_refused() -> None:
    call = Call({**LARGE, "cell": "lstm"})
    config, saved = call.saved(10)
    arguments = (config, call.arrays)
    with pytest.raises(ValueError, match="backward inputs: checkpoint_c is required"):
        cpu.backward(*arguments, {"checkpoint_h": saved["checkpoint_h"]}, call.cotangents)
    short = {**saved, "checkpoint_h": saved["checkpoint_h"][:, :3]}
    with pytest.raises(ValueError, match=r"checkpoint_h must have shape \(61, 4, 17\), got"):
        cpu.backward(*arguments, short, call.cotangents)
    wrong = {**call.cotangents, "checkpoint_h": saved["checkpoint_h"]}
    with pytest.raises(ValueError, match="checkpoints are not outputs"):
        cpu.backward(*arguments, saved, wrong)
    with pytest.raises(ValueError, match="checkpoint_every=-2 is not a number of steps"):
        Config("lstm", checkpoint_every=-2)


# --- Memory ---

WITHIN_LIMIT = """
import resource, sys
import numpy as np
from recurra import _engine
from recurra.engine import Config, cpu

cell, every, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = Config(cell, checkpoint_every=every)
batch, time_steps, features, units = 8, 20000, 8, 64
_engine.set_num_threads(1)

def train(time_steps):
    rng = np.random.default_rng(0)
    shapes = config.weight_shapes(features, units)
    weights = {name: 0.1 * rng.random(shape, np.float32) for name, shape in shapes.items()}
    x = rng.random((batch, time_steps, features), np.float32)
    saved = cpu.forward(config, x=x, **weights, slots=True, last_output=False)
    gradients = cpu.backward(
        config, {"x": x, **weights}, saved, {"sequence": saved["sequence"]}
    )
    return sum(float(g.sum()) for g in gradients.values())

train(10)
pages = int(open("/proc/self/statm").read().split()[0])
in_and_out = 4 * batch * time_steps * (2 * features + units)
size = pages * resource.getpagesize() + in_and_out + limit * 2**20
resource.setrlimit(resource.RLIMIT_AS, (size, size))
try:
    print(np.isfinite(train(time_steps)))
except MemoryError:
    print("too much")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits what Linux counts")
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_memory_is_bounded(cell: str) -> None:
    # All slots are 41 MB each, six for LSTM and five for GRU; checkpoints and a segment's slots
    # are less than 5 MB together.
    def run(every: int) -> str:
        command = [sys.executable, "-c", WITHIN_LIMIT, cell, str(every), "40"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run(SQUARE_ROOT) == "True"
    assert run(100) == "True"
    assert run(0) == "too much"


# --- Layers ---


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "checkpoint_every=0 is not a number of steps. Expected a positive integer"),
        (-3, "checkpoint_every=-3 is not a number of steps"),
        (True, "checkpoint_every=True is not a number of steps"),
        (2.5, r"checkpoint_every=2\.5 is not a number of steps"),
        ("sqr", r"checkpoint_every='sqr' is not a number of steps. Did you mean 'sqrt'\?"),
        ("all", "checkpoint_every='all' is not a number of steps. Expected"),
    ],
)
def test_wrong_values_are_explained(value: Any, message: str) -> None:
    for build in (layers.LSTM, layers.GRU, layers.SimpleRNN):
        with pytest.raises(ValueError, match=message):
            build(4, checkpoint_every=value)
    with pytest.raises(ValueError, match=message):
        layers.RNN(layers.LSTMCell(4), checkpoint_every=value)


def test_more_steps_than_any_sequence_has_keep_the_initial_state_alone() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    layer = layers.LSTM(4, checkpoint_every=2**63)
    plain = layers.LSTM(4)
    plain.build(x.shape)
    layer.build(x.shape)
    layer.set_weights(plain.get_weights())
    np.testing.assert_array_equal(layer(x), plain(x))


def test_keras_scan_by_name_takes_no_checkpoints() -> None:
    with pytest.raises(ValueError, match="engine='keras' asks for Keras's own scan, which keeps"):
        layers.LSTM(4, checkpoint_every="sqrt", engine="keras")


def test_a_misspelled_name_is_explained() -> None:
    with pytest.raises(ValueError, match="Did you mean 'checkpoint_every'"):
        layers.GRU(4, checkpoints_every=3)


def test_a_fallback_tells_once_that_every_step_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    layer = layers.LSTM(4, activation=lambda v: v, checkpoint_every=5)
    for _ in range(2):
        layer(np.zeros((2, 3, 4), np.float32))
    told = [record.getMessage() for record in caplog.records if record.name == "recurra"]
    assert len(told) == 1
    assert "checkpoint_every=5 has no effect there" in told[0]


def test_configurations_keep_it_only_if_it_is_set(tmp_path: Any) -> None:
    assert "checkpoint_every" not in layers.LSTM(4).get_config()
    assert "checkpoint_every" not in layers.LSTM(4, checkpoint_every=None).get_config()
    for value in ("sqrt", 12, np.int64(12)):
        config = layers.GRU(4, checkpoint_every=value).get_config()
        assert config["checkpoint_every"] == value
        assert type(config["checkpoint_every"]) in (int, str)
        assert layers.GRU.from_config(config).checkpoint_every == value
    wrapped = layers.Bidirectional(layers.LSTM(4, checkpoint_every="sqrt"))
    for layer in (wrapped.forward_layer, wrapped.backward_layer):
        assert layer.checkpoint_every == "sqrt"

    from recurra import models

    model = keras.Sequential([keras.Input((6, 3)), wrapped, keras.layers.Dense(1)])
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = models.load_model(path)
    assert loaded.layers[0].backward_layer.checkpoint_every == "sqrt"
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    np.testing.assert_array_equal(model(x), loaded(x))
