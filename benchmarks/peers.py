"""The peers that are timed side by side: one class each, one process each.

Run as `python peers.py NAME CPUS`, this file is a worker bound to the CPUs (as "0,1"): it reads one
JSON command per line and answers with one JSON line. A process of its own keeps a peer's threads
and allocator out of the others' measurements; only one of the processes works at a time.

Every peer computes the same thing from the same arrays: the whole output sequence of one layer
(batch, time_steps, units) from x and the weights in Keras's layout; for training also the gradients
with respect to x and every weight, for a given gradient of the output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Work:
    """One thing to time. mode: "forward" or "train"."""

    cell: str
    batch: int
    time_steps: int
    features: int
    units: int
    mode: str
    threads: int

    def arrays(self) -> Arrays:
        """The inputs, the same in every process."""
        rng = np.random.default_rng(0)

        def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
            return (scale * rng.standard_normal(shape)).astype(np.float32)

        columns = {"lstm": 4, "gru": 3}[self.cell] * self.units
        return {
            "x": normal(self.batch, self.time_steps, self.features),
            "kernel": normal(self.features, columns, scale=self.features**-0.5),
            "recurrent_kernel": normal(self.units, columns, scale=0.7 * self.units**-0.5),
            "bias": normal(*((2,) if self.cell == "gru" else ()), columns, scale=0.3),
            "cotangent": normal(self.batch, self.time_steps, self.units),
        }


def keras_weights(arrays: Arrays) -> Arrays:
    """The layer's weights out of `Work.arrays`."""
    return {name: arrays[name] for name in ("kernel", "recurrent_kernel", "bias")}


class Peer(ABC):
    """A framework's way to do a piece of work."""

    modes: tuple[str, ...] = ("forward", "train")

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Names and versions of what runs."""

    @abstractmethod
    def prepare(self, work: Work, arrays: Arrays) -> Callable[[], Any]:
        """A function without arguments that does the work once and returns when it is done."""

    @abstractmethod
    def results(self, work: Work, returned: Any) -> Arrays:
        """What the function returned, as NumPy arrays: output, and for training dx, dkernel, ..."""


class KerasOnJax(Peer):
    """Keras's layer on JAX, jitted as Keras's own training and prediction loops do it."""

    module = "keras.layers"

    def versions(self) -> dict[str, str]:
        import jax
        import keras

        return {"keras": keras.__version__, "jax": jax.__version__}

    def prepare(self, work: Work, arrays: Arrays) -> Callable[[], Any]:
        import importlib

        import jax

        layers = importlib.import_module(self.module)
        layer_class = {"lstm": layers.LSTM, "gru": layers.GRU}[work.cell]
        layer = layer_class(work.units, return_sequences=True, bias_initializer="zeros")
        layer.build(arrays["x"].shape)
        variables = [jax.numpy.asarray(arrays[v.name]) for v in layer.trainable_variables]
        fixed = [v.value for v in layer.non_trainable_variables]
        x, cotangent = jax.numpy.asarray(arrays["x"]), jax.numpy.asarray(arrays["cotangent"])
        self.names = [v.name for v in layer.trainable_variables]

        def output(variables: Any, x: Any, training: bool) -> Any:
            return layer.stateless_call(variables, fixed, x, training=training)[0]

        def train(variables: Any, x: Any) -> Any:
            result, backward = jax.vjp(lambda v, x: output(v, x, True), variables, x)
            return result, backward(cotangent)

        def forward(variables: Any, x: Any) -> Any:
            return output(variables, x, False)

        run = jax.jit(forward if work.mode == "forward" else train)
        return lambda: jax.block_until_ready(run(variables, x))

    def results(self, work: Work, returned: Any) -> Arrays:
        if work.mode == "forward":
            return {"output": np.asarray(returned)}
        output, (dvariables, dx) = returned
        gradients = zip(self.names, dvariables, strict=True)
        found = {f"d{name}": np.asarray(gradient) for name, gradient in gradients}
        return {"output": np.asarray(output), "dx": np.asarray(dx), **found}


class Recurra(KerasOnJax):
    """Recurra's layer on JAX: the same program, another import."""

    module = "recurra.layers"

    def versions(self) -> dict[str, str]:
        import recurra
        from recurra import _engine

        return {"recurra": recurra.__version__, "instruction set": _engine.isa()}


class PyTorch(Peer):
    """torch.nn.LSTM and torch.nn.GRU, inference in inference_mode."""

    def versions(self) -> dict[str, str]:
        import torch

        return {"torch": torch.__version__}

    def prepare(self, work: Work, arrays: Arrays) -> Callable[[], Any]:
        import torch

        from recurra import weights

        torch.set_num_threads(work.threads)
        module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[work.cell](
            work.features, work.units, batch_first=True
        )
        values = weights.to_torch(work.cell, keras_weights(arrays))
        module.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
        x, cotangent = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["cotangent"])
        self.module = module

        def forward() -> Any:
            with torch.inference_mode():
                return module(x)[0]

        def train() -> Any:
            module.zero_grad()
            leaf = x.requires_grad_(True)
            leaf.grad = None
            output = module(leaf)[0]
            output.backward(cotangent)
            return output.detach(), leaf.grad

        return forward if work.mode == "forward" else train

    def results(self, work: Work, returned: Any) -> Arrays:
        from recurra import weights

        if work.mode == "forward":
            return {"output": returned.numpy()}
        output, dx = returned
        gradients = {name: p.grad.numpy() for name, p in self.module.named_parameters()}
        back = weights.from_torch(work.cell, gradients)
        if work.cell == "lstm":  # PyTorch's two biases are added up: each has the whole gradient
            back["bias"] = back["bias"] / 2
        found = {f"d{name}": np.asarray(gradient) for name, gradient in back.items()}
        return {"output": output.numpy(), "dx": dx.numpy(), **found}


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

        values = weights.to_onnx(work.cell, keras_weights(arrays))
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
        options.intra_op_num_threads = work.threads
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feed = {"x": np.ascontiguousarray(arrays["x"].swapaxes(0, 1))}
        return lambda: session.run(None, feed)[0]

    def results(self, work: Work, returned: Any) -> Arrays:
        return {"output": np.ascontiguousarray(returned[:, 0].swapaxes(0, 1))}


PEERS: dict[str, type[Peer]] = {
    "recurra": Recurra,
    "keras-jax": KerasOnJax,
    "torch": PyTorch,
    "onnxruntime": OnnxRuntime,
}


class Worker:
    """Answers commands: prepare (does the work once), save (its results), time."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def prepare(self, work: dict[str, Any]) -> dict[str, Any]:
        self.work = Work(**work)
        self.run = self.peer.prepare(self.work, self.work.arrays())
        self.returned = self.run()
        begin = time.perf_counter()
        self.run()
        return {"seconds": time.perf_counter() - begin}

    def save(self, path: str) -> dict[str, Any]:
        np.savez(path, **self.peer.results(self.work, self.returned))
        return {}

    def time(self, calls: int) -> dict[str, Any]:
        begin = time.perf_counter()
        for _ in range(calls):
            self.run()
        return {"seconds": (time.perf_counter() - begin) / calls}

    def versions(self) -> dict[str, Any]:
        return {"versions": self.peer.versions()}

    def cpus(self) -> dict[str, Any]:
        """The CPUs that this process is bound to; None where the system cannot bind it."""
        if not hasattr(os, "sched_getaffinity"):
            return {"cpus": None}
        return {"cpus": sorted(os.sched_getaffinity(0))}


def bind(cpus: list[int]) -> None:
    """Have this thread, and the threads it starts from now on, run on `cpus` only.

    A framework sizes its pool by the CPUs it finds when it is imported, and not every one has a
    setting for that: so this comes first.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)


def serve(name: str, cpus: list[int]) -> None:
    """Answer commands from standard input until it ends."""
    bind(cpus)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints must not come between the answers
    worker = Worker(PEERS[name]())
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(worker, command.pop("do"))(**command)
        print(json.dumps(answer), file=answers, flush=True)


def as_command(work: Work) -> dict[str, Any]:
    return {"do": "prepare", "work": asdict(work)}


if __name__ == "__main__":
    serve(sys.argv[1], [int(cpu) for cpu in sys.argv[2].split(",")])
