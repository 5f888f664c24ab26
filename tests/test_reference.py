"""The reference in float64 against stock Keras on JAX and against equations written out in jnp.

Values and every gradient, over the cases of `cases`. Where stock Keras means something else
than Recurra, a test below says so by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cases import Case, make_case, make_cotangents, matrix
from recurra import reference
from recurra._tape import Var, gradients, where
from recurra.cells import ACTIVATIONS, CELLS

jax = pytest.importorskip("jax")
keras = pytest.importorskip("keras")
if keras.backend.backend() != "jax":
    pytest.skip("compares with Keras on JAX", allow_module_level=True)
jnp = jax.numpy

WEIGHTS = ("kernel", "recurrent_kernel", "bias")


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    # A context, not the global flag: other test modules run in JAX's default precision.
    with jax.enable_x64(True):
        yield


def quickly_compiled(function: Any) -> Any:
    """jax.jit, not optimised: every case has shapes of its own and runs once."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def close(actual: Any, expected: Any, name: str) -> None:
    """Equal within 1e-12 of the largest value: large terms may cancel in single elements."""
    expected = np.asarray(expected)
    scale = float(np.max(np.abs(expected), initial=1.0))
    np.testing.assert_allclose(
        np.asarray(actual) / scale, expected / scale, rtol=1e-12, atol=1e-12, err_msg=name
    )


# Stock Keras.


def kept_before(case: Case) -> np.ndarray:
    """(batch, time_steps) in processing order: whether a step was kept at or before each step."""
    batch, time_steps, _ = case["x"].shape
    mask = np.ones((batch, time_steps), bool) if case["mask"] is None else case["mask"]
    mask = mask[:, ::-1] if case["go_backwards"] else mask
    return np.logical_or.accumulate(mask, axis=1)


def stock_activation(name: str) -> Any:
    # Keras's tanh turns float64 into float32 on JAX (`keras.ops.tanh`); the others do not.
    return jnp.tanh if name == "tanh" else name


def stock_layer(case: Case) -> Any:
    spec = CELLS[case["cell"]]
    arguments = {
        "units": case["recurrent_kernel"].shape[0],
        "activation": stock_activation(case["activation"]),
        "use_bias": case["bias"] is not None,
        "return_sequences": True,
        "return_state": True,
        "go_backwards": case["go_backwards"],
        "zero_output_for_mask": case["zero_output_for_mask"],
        "dtype": "float64",
        # Never used; an orthogonal matrix would take longer to make than the test to run.
        "recurrent_initializer": "zeros",
        **spec.choose(case["reset_after"]),
    }
    if spec.uses_recurrent_activation:
        arguments["recurrent_activation"] = stock_activation(case["recurrent_activation"])
    layer = getattr(keras.layers, spec.layer)(**arguments)
    layer.build(case["x"].shape)
    return layer


def comparable_with_stock(configuration: Case) -> bool:
    """Whether stock Keras can run it and it tells more than its neighbours; each compiles."""
    keys = set(configuration) - {"cell", "reset_after"}
    if configuration.get("time_steps") == 0 or keys & {"dropout_x", "dropout_h"}:
        return False
    # `test_activations_match_keras` compares the functions themselves, at no compile.
    if keys in ({"activation"}, {"recurrent_activation"}):
        return configuration["cell"] == "gru" and bool(configuration["reset_after"])
    if "zero_output_for_mask" in keys and "batch" not in keys:
        return configuration["mask"] in ("left", "holes")
    return True


def without_dropout(configuration: Case) -> Case:
    return {**configuration, "dropout_x": None, "dropout_h": None}


STOCK = [
    *(pair for pair in matrix(random=0) if comparable_with_stock(pair[1])),
    *((name, without_dropout(c)) for name, c in matrix(random=2) if "batch" in c and "seed" in c),
]


@pytest.mark.parametrize("configuration", [c for _, c in STOCK], ids=[n for n, _ in STOCK])
def test_matches_stock_keras(configuration: Case) -> None:
    case = make_case(**configuration)
    spec = CELLS[case["cell"]]
    layer = stock_layer(case)
    names = [name for name in WEIGHTS if case[name] is not None]
    initial = [name for name in ("h0", "c0") if case[name] is not None]

    def call(x: Any, weights: list[Any], state: list[Any]) -> Any:
        (sequence, *states), _ = layer.stateless_call(
            weights, layer.non_trainable_variables, x, initial_state=state or None, mask=mask
        )
        return sequence, states

    mask = None if case["mask"] is None else jnp.asarray(case["mask"])
    ours = reference.forward(**case)
    cotangents = make_cotangents(case, trace=False)
    # Before its first kept step stock Keras on JAX repeats h0, Recurra gives zeros.
    comparable = kept_before(case)[..., np.newaxis]
    if case["h0"] is None or case["zero_output_for_mask"]:
        comparable = np.ones_like(comparable)
    cotangents["d_sequence"] = cotangents["d_sequence"] * comparable
    del cotangents["d_last"]

    @quickly_compiled
    def run(arguments: Any, seeds: Any) -> Any:
        results, pullback = jax.vjp(call, *arguments)
        return results, pullback(seeds)

    arguments = (case["x"], [case[n] for n in names], [case[n] for n in initial])
    dstates = [cotangents[f"d_{name}"] for name in spec.state_outputs]
    (sequence, states), (dx, dweights, dinitial) = run(
        arguments, (cotangents["d_sequence"], dstates)
    )
    close(ours.sequence * comparable, sequence * comparable, "sequence")
    for name, state in zip(spec.states, states, strict=True):
        close(ours.states[name], state, name)
    theirs = {"dx": dx}
    theirs |= {f"d{name}": d for name, d in zip(names, dweights, strict=True)}
    theirs |= {f"d{name}": d for name, d in zip(initial, dinitial, strict=True)}
    gradient = reference.backward(**case, **cotangents)
    for name, expected in theirs.items():
        close(getattr(gradient, name), expected, name)


def test_known_difference_output_before_the_first_kept_step() -> None:
    case = make_case("gru", batch=1, time_steps=3, reset_after=True)
    case["mask"] = np.array([[False, True, True]])
    weights = [case[name] for name in WEIGHTS]
    layer = stock_layer(case)
    (stock, _), _ = layer.stateless_call(
        weights,
        layer.non_trainable_variables,
        case["x"],
        initial_state=[case["h0"]],
        mask=case["mask"],
    )
    ours = reference.forward(**case).sequence
    np.testing.assert_array_equal(stock[:, 0], case["h0"])
    np.testing.assert_array_equal(ours[:, 0], np.zeros_like(case["h0"]))
    close(ours[:, 1:], stock[:, 1:], "after the first kept step")


def test_known_difference_last_output_with_zero_output_for_mask() -> None:
    """Stock Keras's single output is then that of the last step, kept or not."""
    case = make_case("lstm", batch=1, time_steps=3, zero_output_for_mask=True)
    case["mask"] = np.array([[True, True, False]])
    layer = stock_layer(case)
    layer.return_sequences = False
    (last, state_h, _), _ = layer.stateless_call(
        [case[name] for name in WEIGHTS],
        layer.non_trainable_variables,
        case["x"],
        initial_state=[case["h0"], case["c0"]],
        mask=case["mask"],
    )
    ours = reference.forward(**case)
    np.testing.assert_array_equal(last, np.zeros_like(case["h0"]))
    close(ours.last_output, state_h, "last kept output")
    np.testing.assert_array_equal(ours.sequence[:, -1], np.zeros_like(case["h0"]))


# Activations.


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_match_keras(name: str) -> None:
    function, slope = reference.ACTIVATION_FUNCTIONS[name]
    # No point of the grid lies on a kink: there the derivative is a convention, tested below.
    v = np.linspace(-8.01, 8.0, 1001)
    keras_function = jnp.tanh if name == "tanh" else keras.activations.get(name)
    close(function(v), keras_function(jnp.asarray(v)), name)
    close(slope(v), jax.vmap(jax.grad(keras_function))(jnp.asarray(v)), f"slope of {name}")


def test_derivatives_at_kinks_follow_from_the_output_alone() -> None:
    at = {name: slope for name, (_, slope) in reference.ACTIVATION_FUNCTIONS.items()}
    assert at["relu"](np.zeros(1)) == 0
    assert at["elu"](np.zeros(1)) == 1
    assert at["selu"](np.zeros(1)) == pytest.approx(1.0507009873554805 * 1.6732632423543772)
    assert (at["hard_sigmoid"](np.array([-3.0, 3.0])) == 0).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.filterwarnings("error")
def test_activations_do_not_overflow_where_their_value_is_finite(name: str) -> None:
    function, slope = reference.ACTIVATION_FUNCTIONS[name]
    limit = 700.0 if name == "exponential" else 1e4
    v = np.array([-limit, limit])
    assert np.isfinite(function(v)).all()
    assert np.isfinite(slope(v)).all()


# Equations written out in jnp, independently of the cells' definitions: what stock Keras cannot
# be asked for (slots, given dropout factors, no steps at all).


def explicit(case: Case, arrays: dict[str, Any]) -> tuple[Any, ...]:
    """(last_output, states, sequence, {slot: array}) from `arrays`, differentiable by JAX."""
    cell, after = case["cell"], case["reset_after"]
    x, kernel, recurrent_kernel = arrays["x"], arrays["kernel"], arrays["recurrent_kernel"]
    batch, time_steps, _ = x.shape
    units = recurrent_kernel.shape[0]
    count = kernel.shape[1] // units
    bias = arrays.get("bias", jnp.zeros((2, count * units)))
    b, d = bias if bias.ndim == 2 else (bias, jnp.zeros_like(bias))
    h = h_start = arrays.get("h0", jnp.zeros((batch, units)))
    c = arrays.get("c0", jnp.zeros((batch, units)))
    act, rec = (
        jnp.tanh if name == "tanh" else keras.activations.get(name)
        for name in (case["activation"], case["recurrent_activation"])
    )
    mask = np.ones((batch, time_steps), bool) if case["mask"] is None else case["mask"]

    def product(value: Any, dropout: Any, weights: Any, k: int) -> Any:
        if dropout is not None:
            value = value * dropout[k % len(dropout)]
        return value @ weights[:, k * units : (k + 1) * units]

    def at_x(t: int, k: int) -> Any:
        return product(x[:, t], case["dropout_x"], kernel, k) + b[k * units : (k + 1) * units]

    def at_h(value: Any, k: int) -> Any:
        return (
            product(value, case["dropout_h"], recurrent_kernel, k) + d[k * units : (k + 1) * units]
        )

    sequence, slots = [], {}
    last = h_start if time_steps == 0 else jnp.zeros((batch, units))
    for t in range(time_steps)[:: -1 if case["go_backwards"] else 1]:
        keep = mask[:, t, None]
        if cell == "lstm":
            pre = [at_x(t, k) + at_h(h, k) for k in range(4)]
            i, f, g, o = rec(pre[0]), rec(pre[1]), act(pre[2]), rec(pre[3])
            c_new = f * c + i * g
            h_new = o * act(c_new)
            values = {"input_gate": i, "forget_gate": f, "candidate": g, "output_gate": o}
            names = ("input_gate", "forget_gate", "candidate", "output_gate")
        elif cell == "gru":
            pre = [at_x(t, 0) + at_h(h, 0), at_x(t, 1) + at_h(h, 1)]
            z, r = rec(pre[0]), rec(pre[1])
            values = {"update_gate": z, "reset_gate": r}
            if after:
                values["recurrent_candidate"] = at_h(h, 2)
                pre.append(at_x(t, 2) + r * values["recurrent_candidate"])
            else:
                pre.append(at_x(t, 2) + at_h(r * h, 2))
            values["candidate"] = act(pre[2])
            c_new, h_new = c, z * h + (1 - z) * values["candidate"]
            names = ("update_gate", "reset_gate", "candidate")
        else:
            pre = [at_x(t, 0) + at_h(h, 0)]
            c_new, h_new, values, names = c, act(pre[0]), {}, ("candidate",)
        values |= {f"pre_{name}": value for name, value in zip(names, pre, strict=True)}
        h, c = jnp.where(keep, h_new, h), jnp.where(keep, c_new, c)
        last = jnp.where(keep, h_new, last)
        sequence.append(jnp.where(keep, h_new, 0.0) if case["zero_output_for_mask"] else last)
        values = {name: jnp.where(keep, value, 0.0) for name, value in values.items()}
        for name, value in {**values, "hidden_state": h, "cell_state": c}.items():
            slots.setdefault(name, []).append(value)

    def stack(steps: list[Any]) -> Any:
        return jnp.stack(steps, 1) if steps else jnp.zeros((batch, 0, units))

    states = [h, c] if cell == "lstm" else [h]
    wanted = CELLS[cell].slots(case["activation"], case["recurrent_activation"], after)
    return last, states, stack(sequence), {name: stack(slots.get(name, [])) for name in wanted}


def worth_writing_out(configuration: Case) -> bool:
    keys = set(configuration) - {"cell", "reset_after"}
    if keys in ({"activation"}, {"recurrent_activation"}):
        return configuration.get("activation", configuration.get("recurrent_activation")) == "gelu"
    return bool(
        keys & {"dropout_x", "dropout_h", "seed"}
        or keys in (set(), {"time_steps"}, {"mask"})
        or keys == {"activation", "recurrent_activation", "mask"}
    )


EXPLICIT = [pair for pair in matrix(random=2, seed=1) if worth_writing_out(pair[1])]


@pytest.mark.parametrize("configuration", [c for _, c in EXPLICIT], ids=[n for n, _ in EXPLICIT])
def test_matches_written_out_equations(configuration: Case) -> None:
    case = make_case(**configuration)
    spec = CELLS[case["cell"]]
    leaves = ("x", *WEIGHTS, "h0", "c0")
    arrays = {name: jnp.asarray(case[name]) for name in leaves if case[name] is not None}
    ours = reference.forward(**case)
    cotangents = make_cotangents(case)
    rng = np.random.default_rng(3)
    for name in set(ours.slots) - set(spec.trace_names):
        cotangents["d_slots"][name] = rng.standard_normal(ours.sequence.shape)

    @quickly_compiled
    def run(arrays: dict[str, Any], seeds: Any) -> Any:
        results, pullback = jax.vjp(lambda a: explicit(case, a), arrays)
        return results, pullback(seeds)[0]

    (last, states, sequence, slots), theirs = run(
        arrays,
        (
            cotangents["d_last"],
            [cotangents[f"d_{name}"] for name in spec.state_outputs],
            cotangents["d_sequence"],
            cotangents["d_slots"],
        ),
    )
    close(ours.last_output, last, "last_output")
    close(ours.sequence, sequence, "sequence")
    for name, state in zip(spec.states, states, strict=True):
        close(ours.states[name], state, name)
    assert tuple(ours.slots) == spec.slots(
        case["activation"], case["recurrent_activation"], case["reset_after"]
    )
    for name, values in slots.items():
        close(ours.slots[name], values, name)
    gradient = reference.backward(**case, **cotangents)
    for name, expected in theirs.items():
        close(getattr(gradient, f"d{name}"), expected, f"d{name}")


# What follows from the semantics, without anyone to compare with.


@pytest.mark.parametrize("cell", CELLS)
def test_last_output_is_the_last_kept_output(cell: str) -> None:
    case = make_case(cell, batch=4, mask="row", time_steps=6)
    ours = reference.forward(**case)
    for row in range(4):
        kept = np.flatnonzero(case["mask"][row])
        expected = ours.sequence[row, kept[-1]] if len(kept) else np.zeros(4)
        np.testing.assert_array_equal(ours.last_output[row], expected)


@pytest.mark.parametrize("cell", CELLS)
def test_each_cotangent_contributes_on_its_own(cell: str) -> None:
    """Gradients are linear in the cotangents, and no cotangent is ignored."""
    case = make_case(cell, mask="holes", go_backwards=True)
    cotangents = make_cotangents(case)
    slots = cotangents.pop("d_slots")
    parts = [{name: value} for name, value in cotangents.items()]
    parts += [{"d_slots": {name: value}} for name, value in slots.items()]
    whole = reference.backward(**case, **cotangents, d_slots=slots)
    single = [reference.backward(**case, **part) for part in parts]
    assert all(np.any(gradient.dx) for gradient in single)
    for name in ("dx", "dkernel", "drecurrent_kernel", "dbias", "dh0"):
        close(sum(getattr(gradient, name) for gradient in single), getattr(whole, name), name)


def test_no_cotangents_give_zeros() -> None:
    gradient = reference.backward(**make_case("lstm"))
    assert not any(np.any(value) for value in vars(gradient).values())


def test_no_steps_pass_the_state_through() -> None:
    case = make_case("lstm", time_steps=0)
    ours = reference.forward(**case)
    np.testing.assert_array_equal(ours.last_output, case["h0"])
    np.testing.assert_array_equal(ours.states["cell_state"], case["c0"])
    assert ours.sequence.shape == (3, 0, 4)
    seeds = np.ones((3, 4))
    gradient = reference.backward(**case, d_last=seeds, d_state_c=2 * seeds)
    np.testing.assert_array_equal(gradient.dh0, seeds)
    assert gradient.dc0 is not None
    np.testing.assert_array_equal(gradient.dc0, 2 * seeds)


def test_a_masked_step_ignores_what_stands_there() -> None:
    case = make_case("gru", mask="holes", reset_after=False)
    before = reference.forward(**case)
    case["x"][~case["mask"]] = np.nan
    after = reference.forward(**case)
    np.testing.assert_array_equal(before.sequence, after.sequence)
    assert all(np.array_equal(before.slots[n], after.slots[n]) for n in before.slots)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((3, 5))}, r"x has shape \(3, 5\); expected \(batch, time_steps, features"),
        ({"kernel": np.zeros((3, 12))}, r"kernel has shape \(3, 12\); expected \(3, 16\)"),
        ({"bias": np.zeros((2, 16))}, r"bias has shape \(2, 16\); expected \(16,\)"),
        ({"h0": np.zeros((3, 5))}, r"h0 has shape \(3, 5\); expected \(3, 4\)"),
        ({"mask": np.zeros((3, 4), bool)}, r"mask has shape \(3, 4\); expected \(3, 5\)"),
        ({"dropout_x": np.ones((2, 3, 3))}, r"dropout_x has shape \(2, 3, 3\); expected \(1, "),
        ({"activation": "tnah"}, "activation='tnah' is not an activation"),
    ],
)
def test_wrong_arguments_are_named(change: Case, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reference.forward(**{**make_case("lstm"), **change})


def test_wrong_cotangents_are_named() -> None:
    case = make_case("gru")
    with pytest.raises(ValueError, match=r"d_last has shape \(3, 5\); expected \(3, 4\)"):
        reference.backward(**case, d_last=np.zeros((3, 5)))
    with pytest.raises(ValueError, match="GRU has no cell state"):
        reference.backward(**case, d_state_c=np.zeros((3, 4)))
    with pytest.raises(ValueError, match="d_slots names 'forget_gate'; the slots are update_gate"):
        reference.backward(**case, d_slots={"forget_gate": np.zeros((3, 5, 4))})
    with pytest.raises(ValueError, match="c0 was given, but GRU has no such state"):
        reference.forward(**{**case, "c0": np.zeros((3, 4))})


# The tape itself.


def test_tape_operations_against_jax() -> None:
    rng = np.random.default_rng(0)
    a, b, w = (
        rng.standard_normal((3, 4)),
        rng.standard_normal((1, 4)),
        rng.standard_normal((4, 2)),
    )
    choice = rng.random((3, 4)) < 0.5

    def chain(a: Any, b: Any, w: Any, where: Any) -> Any:
        mixed = where(choice, (1 - a) * b + a, a * a - b)
        return (-mixed + 2.0 * b) @ w[:, :1]

    theirs = jax.grad(lambda *args: chain(*args, jnp.where).sum(), (0, 1, 2))(a, b, w)
    leaves = [Var(a), Var(b), Var(w)]
    unused = Var(np.ones(5))
    output = chain(*leaves, where)
    *ours, zero = gradients([(output, np.ones((3, 1)))], [*leaves, unused])
    for mine, other in zip(ours, theirs, strict=True):
        close(mine, other, "tape")
    np.testing.assert_array_equal(zero, np.zeros(5))


def test_tape_refuses_nothing_silently_from_numpy_operands() -> None:
    """An array on the left must defer to the Var, not broadcast over it element by element."""
    result = np.ones(3) * Var(np.ones(3)) + np.ones(3)
    assert isinstance(result, Var)
    assert isinstance(np.ones(3) - Var(np.ones(3)), Var)
