"""The peers that are timed side by side: one class each.

Every peer computes the same thing from the same arrays (`Work.arrays`): the whole output sequence
of one layer (batch, time_steps, units) from x and the weights in Keras's layout; for training also
the gradients with respect to x and every weight, for a given gradient of the output. At padded
steps, outputs are not compared: the libraries put different things there.
"""

from __future__ import annotations

import dataclasses
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from work import OPTIONS, Arrays, Work


def time_first(array: np.ndarray) -> np.ndarray:
    """(batch, time_steps, ..) as (time_steps, batch, ..), or back."""
    return np.ascontiguousarray(array.swapaxes(0, 1))


class Peer(ABC):
    """A framework's way to do a piece of work.

    threads: how many the framework is to use.
    limited: whether that is fewer than the CPUs that the process may use.
    """

    modes: tuple[str, ...] = ("forward", "train")
    options: tuple[str, ...] = ("plain",)
    paddings: tuple[str, ...] = ("none",)
    backend = "jax"
    """The framework that Keras runs on in the peer's process."""
    flops: int | None = None
    """Of one call, where that is no layer's."""

    def __init__(self, threads: int, limited: bool = False) -> None:
        self.threads, self.limited = threads, limited

    @classmethod
    def can(cls, work: Work) -> bool:
        return (
            work.mode in cls.modes and work.option in cls.options and work.padding in cls.paddings
        )

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Names and versions of what runs."""

    @abstractmethod
    def prepare(self, work: Work, arrays: Arrays) -> Callable[[], Any]:
        """A function without arguments that does the work once and returns when it is done."""

    @abstractmethod
    def results(self, work: Work, returned: Any) -> Arrays:
        """What the function returned, as NumPy arrays: output, and for training dx, dkernel, ..."""

    def forget(self) -> None:  # noqa: B027 - most have nothing to do
        """Let go of what was prepared."""


class KerasOnJax(Peer):
    """Keras's layer on JAX, jitted as Keras's own training and prediction loops do it."""

    module = "keras.layers"
    options = tuple(OPTIONS)
    paddings = ("none", "right", "left", "holes")

    def __init__(self, threads: int, limited: bool = False) -> None:
        super().__init__(threads, limited)
        self.programs: dict[Work, tuple[Any, list[str]]] = {}

    def versions(self) -> dict[str, str]:
        import jax
        import keras

        return {"keras": keras.__version__, "jax": jax.__version__}

    def forget(self) -> None:
        self.programs.clear()

    def arguments(self, work: Work) -> dict[str, Any]:
        """The layer's, beside its units."""
        return dict(OPTIONS[work.option].arguments)

    def build(self, work: Work) -> Any:
        layers = importlib.import_module(self.module)
        layer_class = {"lstm": layers.LSTM, "gru": layers.GRU}[work.cell]
        layer = layer_class(
            work.units, return_sequences=True, bias_initializer="zeros", **self.arguments(work)
        )
        if OPTIONS[work.option].bidirectional:
            layer = layers.Bidirectional(layer)
        layer.build((work.batch, work.time_steps, work.features))
        return layer

    def program(self, work: Work) -> tuple[Any, list[str]]:
        """The jitted function and its weights' names.

        One for all kinds of padding: the mask is an argument.
        """
        key = dataclasses.replace(work, padding="none" if work.padding == "none" else "right")
        if key not in self.programs:
            self.programs[key] = self.new_program(work)
        return self.programs[key]

    def new_program(self, work: Work) -> tuple[Any, list[str]]:
        import jax

        layer = self.build(work)
        fixed = [v.value for v in layer.non_trainable_variables]
        names: list[str] = []
        for variable in layer.trainable_variables:
            names.append(f"backward_{variable.name}" if variable.name in names else variable.name)

        def call(variables: Any, x: Any, state: Any, mask: Any, training: bool) -> Any:
            """The output, and what else the layer gives: a trace, new states."""
            given = {"initial_state": state} if state else {}
            result, changed = layer.stateless_call(
                variables, fixed, x, mask=mask, training=training, **given
            )
            stateful = OPTIONS[work.option].arguments.get("stateful")
            rest = changed if stateful else ()
            return (result[0], (result[1:], rest)) if isinstance(result, tuple) else (result, rest)

        def forward(variables: Any, x: Any, state: Any, mask: Any, cotangent: Any) -> Any:
            return call(variables, x, state, mask, False)

        def train(variables: Any, x: Any, state: Any, mask: Any, cotangent: Any) -> Any:
            output, backward, rest = jax.vjp(
                lambda v, x, s: call(v, x, s, mask, True), variables, x, state, has_aux=True
            )
            return output, rest, backward(cotangent)

        return jax.jit(forward if work.mode == "forward" else train), names

    def prepare(self, work: Work, arrays: Arrays) -> Callable[[], Any]:
        import jax

        run, names = self.program(work)
        values = {name: jax.numpy.asarray(array) for name, array in arrays.items()}
        variables = [values[name] for name in names]
        state = [values[name] for name in ("h0", "c0") if name in values]
        given = (variables, values["x"], state, values.get("mask"), values["cotangent"])
        return lambda: jax.block_until_ready(run(*given))

    def results(self, work: Work, returned: Any) -> Arrays:
        if work.mode == "forward":
            return {"output": np.asarray(returned[0])}
        output, _, (dvariables, dx, dstate) = returned
        names = self.program(work)[1]
        gradients = zip(names, dvariables, strict=True)
        found = {f"d{name}": np.asarray(gradient) for name, gradient in gradients}
        found |= {f"dstate{i}": np.asarray(gradient) for i, gradient in enumerate(dstate)}
        return {"output": np.asarray(output), "dx": np.asarray(dx), **found}


class Recurra(KerasOnJax):
    """Recurra's layer on JAX: the same program, another import."""

    module = "recurra.layers"

    def __init__(self, threads: int, limited: bool = False) -> None:
        super().__init__(threads, limited)
        if limited:  # else as it comes
            import recurra

            recurra.set_num_threads(threads)

    def versions(self) -> dict[str, str]:
        import recurra
        from recurra import _engine

        isa = _engine.isa()
        return {"recurra": recurra.__version__, "instruction set": isa, **super().versions()}

    def arguments(self, work: Work) -> dict[str, Any]:
        return {**super().arguments(work), **OPTIONS[work.option].own}


class RecurraOnTorch(Recurra):
    """Recurra's layer on PyTorch, inference in inference_mode."""

    backend = "torch"
    options = ("plain",)
    paddings = ("none",)

    def __init__(self, threads: int, limited: bool = False) -> None:
        import torch

        torch.set_num_threads(threads)
        super().__init__(threads)

    def versions(self) -> dict[str, str]:
        import torch

        found = super().versions()
        del found["jax"]
        return {**found, "torch": torch.__version__}

    def prepare(self, work: Work, arrays: Arrays) -> Callable[[], Any]:
        import torch

        layer = self.build(work)
        layer.set_weights([arrays[v.name] for v in layer.weights])
        self.layer = layer
        x, cotangent = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["cotangent"])

        def forward() -> Any:
            with torch.inference_mode():
                return layer(x, training=False)

        def train() -> Any:
            layer.zero_grad()
            leaf = x.requires_grad_(True)
            leaf.grad = None
            output = layer(leaf, training=True)
            output.backward(cotangent)
            return output.detach(), leaf.grad

        return forward if work.mode == "forward" else train

    def results(self, work: Work, returned: Any) -> Arrays:
        if work.mode == "forward":
            return {"output": returned.numpy()}
        output, dx = returned
        found = {f"d{v.name}": v.value.grad.numpy() for v in self.layer.weights}
        return {"output": output.numpy(), "dx": dx.numpy(), **found}


class PyTorch(Peer):
    """torch.nn.LSTM and torch.nn.GRU, inference in inference_mode; padding as packed sequences.

    Time comes first, which is PyTorch's default and up to a tenth faster than batch_first.
    """

    paddings = ("none", "right")

    def __init__(self, threads: int, limited: bool = False) -> None:
        super().__init__(threads, limited)
        self.modules: dict[Work, Any] = {}

    def forget(self) -> None:
        self.modules.clear()

    def versions(self) -> dict[str, str]:
        import torch

        return {
            "torch": torch.__version__,
            "torch's CPU kernels": torch.backends.cpu.get_cpu_capability(),
        }

    def prepare(self, work: Work, arrays: Arrays) -> Callable[[], Any]:
        import torch

        from recurra import weights

        torch.set_num_threads(self.threads)
        module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[work.cell](work.features, work.units)
        keras_weights = {name: arrays[name] for name in ("kernel", "recurrent_kernel", "bias")}
        values = weights.to_torch(work.cell, keras_weights)
        module.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
        x, cotangent = (torch.from_numpy(time_first(arrays[n])) for n in ("x", "cotangent"))
        lengths = torch.from_numpy(arrays["mask"].sum(1)) if "mask" in arrays else None
        self.modules[work] = module

        def call(x: Any) -> Any:
            if lengths is None:
                return module(x)[0]
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            return torch.nn.utils.rnn.pad_packed_sequence(
                module(packed)[0], total_length=work.time_steps
            )[0]

        def forward() -> Any:
            with torch.inference_mode():
                return call(x)

        def train() -> Any:
            module.zero_grad()
            leaf = x.requires_grad_(True)
            leaf.grad = None
            output = call(leaf)
            output.backward(cotangent)
            return output.detach(), leaf.grad

        return forward if work.mode == "forward" else train

    def results(self, work: Work, returned: Any) -> Arrays:
        from recurra import weights

        if work.mode == "forward":
            return {"output": time_first(returned.numpy())}
        output, dx = (time_first(each.numpy()) for each in returned)
        gradients = {name: p.grad.numpy() for name, p in self.modules[work].named_parameters()}
        back = weights.from_torch(work.cell, gradients)
        if work.cell == "lstm":  # PyTorch's two biases are added up: each has the whole gradient
            back["bias"] = back["bias"] / 2
        found = {f"d{name}": np.asarray(gradient) for name, gradient in back.items()}
        return {"output": output, "dx": dx, **found}


class OnnxRuntime(Peer):
    """ONNX Runtime's LSTM and GRU operators; inference only. Time comes first, as it wants it."""

    modes = ("forward",)

    def versions(self) -> dict[str, str]:
        import onnxruntime

        return {"onnxruntime": onnxruntime.__version__}

    def prepare(self, work: Work, arrays: Arrays) -> Callable[[], Any]:
        import onnx
        import onnxruntime

        from recurra import weights

        keras_weights = {name: arrays[name] for name in ("kernel", "recurrent_kernel", "bias")}
        values = weights.to_onnx(work.cell, keras_weights)
        extra = {"linear_before_reset": 1} if work.cell == "gru" else {}
        node = onnx.helper.make_node(
            work.cell.upper(), ["x", *values], ["y"], hidden_size=work.units, **extra
        )
        shapes = {"x": (work.time_steps, work.batch, work.features)}
        shapes["y"] = (work.time_steps, 1, work.batch, work.units)
        x, y = (
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        )
        initializers = [onnx.numpy_helper.from_array(v, name) for name, v in values.items()]
        graph = onnx.helper.make_graph([node], "layer", [x], [y], initializers)
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feed = {"x": time_first(arrays["x"])}
        return lambda: session.run(None, feed)[0]

    def results(self, work: Work, returned: Any) -> Arrays:
        return {"output": time_first(returned[:, 0])}


class Peak(Peer):
    """No layer: the most that the cores can multiply and add (see peak.py)."""

    def versions(self) -> dict[str, str]:
        return {}

    def prepare(self, work: Work, arrays: Arrays) -> Callable[[], Any]:
        import peak

        call, self.flops = peak.prepare(self.threads)
        return call

    def results(self, work: Work, returned: Any) -> Arrays:
        return {}


PEERS: dict[str, type[Peer]] = {
    "recurra": Recurra,
    "keras-jax": KerasOnJax,
    "torch": PyTorch,
    "onnxruntime": OnnxRuntime,
}
"""Those that compute a layer, by their names on the command line."""

TITLES = {
    "recurra": "Recurra",
    "keras-jax": "Keras-JAX",
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
}

WORKERS = {**PEERS, "recurra-torch": RecurraOnTorch, "peak": Peak}
"""All that can have a process."""
