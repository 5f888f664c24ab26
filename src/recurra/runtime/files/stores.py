"""The two ways in which Keras stores weights.

`.keras` files have a group per layer, found by its place in the model. In older `.h5` files
each of the outermost layers has a list of weights, those of nested models joined to one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from recurra.runtime.errors import ModelFileError
from recurra.runtime.files.hdf5 import Dataset, File, Group
from recurra.runtime.files.names import (
    class_of,
    container_names,
    give_names,
    is_model,
    is_operation,
    name_of,
)
from recurra.runtime.files.saved import Place, Request
from recurra.runtime.files.source import Source
from recurra.runtime.layer import Array, Variable

VARIABLES = "vars"
OLD_LAYERS = "_layer_checkpoint_dependencies"
# Of training, and of random numbers: the runtime has no use for them.
NOT_WEIGHTS = {"optimizer", "seed_generator", "_random_generator", "metrics", "compile_metrics"}


class Entry(NamedTuple):
    """A layer in the configuration.

    Args:
        class_name: Keras's.
        trainable: the layer and all that it is in.
    """

    class_name: str
    trainable: bool


def list_layers(source: Source, config: dict[str, Any]) -> dict[Place, Entry]:
    """All layers of a model, those of nested models too, in the order of the configuration.

    Those without a name are given one, in the configuration.
    """
    found: dict[Place, Entry] = {}

    def visit(config: dict[str, Any], place: Place, on: bool) -> None:
        entries = config.get("layers")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise source.fail(f"the model '{'/'.join(place)}' has no list of layers")
        give_names(entry for entry in entries if not is_operation(entry))
        for entry in entries:
            if is_operation(entry):
                continue
            inside = (*place, name_of(entry))
            if inside in found:
                raise source.fail(f"it has two layers '{'/'.join(inside)}'")
            own = entry.get("config")
            trainable = on and not (isinstance(own, dict) and own.get("trainable") is False)
            found[inside] = Entry(class_of(entry), trainable)
            if is_model(entry):
                visit(entry["config"], inside, trainable)

    visit(config, (), config.get("trainable") is not False)
    return found


def group_paths(layers: dict[Place, Entry], weighted: set[Place] | None) -> dict[Place, str]:
    """The groups of layers in `.keras` files: "layers/encoder/layers/lstm_1".

    Args:
        layers: from `list_layers`.
        weighted: for files of Keras 2.12, the layers that have weights: these it counted twice.
    """
    models: dict[Place, list[Place]] = {}
    for place in layers:
        models.setdefault(place[:-1], []).append(place)
    container = "layers" if weighted is None else OLD_LAYERS
    paths: dict[Place, str] = {}
    for model, places in models.items():  # outer models come first
        twice = [n for n, place in enumerate(places) if place in (weighted or ())]
        names = container_names((layers[place].class_name for place in places), twice)
        above = f"{paths[model]}/" if model else ""
        for place, name in zip(places, names, strict=True):
            paths[place] = f"{above}{container}/{name}"
    return paths


class _Store:
    """What both ways have in common.

    Args:
        file: the HDF5 file that weights are in.
        root: the group in it that they are in.
        source: for messages.
        layers: of the model, from `list_layers`.
    """

    def __init__(self, file: File, root: Group, source: Source, layers: dict[Place, Entry]) -> None:
        self.file, self.root, self.source, self.layers = file, root, source, layers

    def weight(self, dataset: Dataset) -> Array:
        """A variable's value. Those of whole numbers are counts of training, single ones."""
        if dataset.shape and not dataset.kind.is_float:
            raise self.source.fail(
                f"'{dataset.name}' holds {dataset.kind.dtype}, where floats were expected"
            )
        return self.file.values(dataset)

    def missing(self, place: Place, what: str) -> ModelFileError:
        """An error of weights that are not there."""
        return self.source.fail(
            f"the layer '{'/'.join(place)}' has no weights {what} in it: it was saved before "
            "the model was built, by another model, or it is damaged"
        )

    def surplus(self, names: Iterable[str]) -> ModelFileError:
        """An error of weights that nobody asked for."""
        listed = sorted(names)
        more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
        return self.source.fail(
            f"it has weights that no layer asks for ({', '.join(listed[:5])}{more}): "
            "the architecture in it is not that of its weights"
        )


class KerasStore(_Store):
    """Weights in groups, as in `.keras` files."""

    def read_all(self, requests: Sequence[Request]) -> list[dict[str, Array]]:
        """See `SavedModel.read_all`."""
        self.used: set[str] = set()
        weighted = None
        self.old = OLD_LAYERS in self.root.names()
        if self.old:
            owners = [
                request.place
                for request in requests
                if request.variables is None or len(request.variables)
            ]
            weighted = {place[:depth] for place in owners for depth in range(1, len(place) + 1)}
        self.paths = group_paths(self.layers, weighted)
        values = [self._read(request) for request in requests]
        surplus = {dataset.name for dataset in self._stored(self.root) if not is_counter(dataset)}
        if surplus - self.used:
            raise self.surplus(surplus - self.used)
        return values

    def _read(self, request: Request) -> dict[str, Array]:
        group = self.root.group(self.paths[request.place])
        values: dict[str, Array] = {}
        if request.variables is None:
            if group is not None:
                for dataset in self._stored(group):
                    inside = dataset.name.removeprefix(f"{group.name}/")
                    self.used.add(dataset.name)
                    values[inside.replace(f"{VARIABLES}/", "")] = self.file.values(dataset)
            return values
        for variable in request.variables:
            owner = self._owner(group, variable.path)
            found = owner.dataset(f"{VARIABLES}/{variable.index}") if owner else None
            if found is not None:
                self.used.add(found.name)
                values[variable.name] = self.weight(found)
            elif not variable.optional:
                raise self.missing(request.place, f"'{variable.name}'")
        return values

    def _owner(self, group: Group | None, path: tuple[str, ...]) -> Group | None:
        """The group of a part of a layer; some parts' names lost or won a stroke."""
        parts = "/".join(path).split("/") if path else []
        for above, part in zip(["", *parts], parts, strict=False):
            if group is None:
                break
            if self.old and part == "layers":
                part = OLD_LAYERS
            elif self.old and above == "layers":
                part = nth_name(part, group.names())
            names = (part, f"_{part}", part.removeprefix("_"))
            group = next((found for name in names if (found := group.group(name))), None)
        return group

    def _stored(self, group: Group) -> Iterator[Dataset]:
        """All variables in a group and those within it."""
        for name in group.names():
            if name in NOT_WEIGHTS:
                continue
            child = group.child(name)
            if isinstance(child, Group):
                yield from self._stored(child)
            elif group.name.rpartition("/")[2] == VARIABLES and child is not None:
                yield child


class LegacyStore(_Store):
    """Weights in a list for each of the outermost layers, as in `.h5` files.

    A list has all trainable weights first. Names in it are Keras's, and depend on where a layer
    was called first, so that only their ends say something.
    """

    def read_all(self, requests: Sequence[Request]) -> list[dict[str, Array]]:
        """See `SavedModel.read_all`."""
        self.used: set[str] = set()
        names = set(self._names(self.root, "layer_names"))
        values: list[dict[str, Array]] = [{} for _ in requests]
        by_layer: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            by_layer.setdefault(request.place[0], []).append(number)
        for name, numbers in by_layer.items():
            group = self.root.group(name) if name in names else None
            stored = self._stored(group) if group else []
            self._assign(stored, [(requests[n], values[n]) for n in numbers])
        for name in names - set(by_layer):
            group = self.root.group(name)
            if group and self._stored(group):
                raise self.surplus([name])
        return values

    def _stored(self, group: Group) -> list[tuple[str, Dataset]]:
        """A layer's weights and their names, in order."""
        found = []
        for name in self._names(group, "weight_names"):
            dataset = group.dataset(name)
            if dataset is None:
                raise self.source.fail(f"the weight '{name}' is listed and not there")
            if not NOT_WEIGHTS.intersection(name.split("/")) and not is_state(name):
                found.append((name, dataset))
        return found

    def _names(self, group: Group, name: str) -> list[str]:
        """A list of names, which Keras splits in several where it is long."""
        attributes = group.attributes(name)
        found: list[str] = []
        for key in [name] if name in attributes else [f"{name}{n}" for n in range(len(attributes))]:
            value = attributes.get(key)
            if isinstance(value, list):
                found.extend(value)
            elif isinstance(value, str) or (value is not None and value.size):
                raise self.source.fail(f"'{key}' of '{group.name}' is no list of names")
        if len(set(found)) != len(found):
            raise self.source.fail(f"'{name}' of '{group.name}' has a name twice")
        return found

    def _assign(
        self, stored: list[tuple[str, Dataset]], wanted: list[tuple[Request, dict[str, Array]]]
    ) -> None:
        """Give each layer that one of the outermost is made of what is its own."""
        for request, values in wanted:
            if request.variables is None:
                own = stored
                if len(wanted) > 1:
                    own = [item for item in stored if request.place[-1] in item[0].split("/")]
                stored = [item for item in stored if item not in own]
                values.update(self._named(own))
        slots = [
            (request.place, variable, self.layers[request.place].trainable, values)
            for request, values in wanted
            for variable in request.variables or ()
        ]
        if len(stored) > len(slots):
            # A layer of this model and of a nested one stands in both lists.
            stored = [(name, dataset) for name, dataset in stored if name not in self.used]
        order = self._order(stored, slots, wanted[0][0].place[0])
        for (name, dataset), (_, variable, _, values) in zip(stored, order, strict=True):
            self.used.add(name)
            values[variable.name] = self.weight(dataset)

    def _named(self, stored: list[tuple[str, Dataset]]) -> dict[str, Array]:
        ends = [end_of(name) for name, _ in stored]
        return {
            end if ends.count(end) == 1 else name.removesuffix(":0"): self.file.values(dataset)
            for end, (name, dataset) in zip(ends, stored, strict=True)
        }

    def _order(
        self, stored: list[tuple[str, Dataset]], slots: list[Slot], layer: str
    ) -> list[Slot]:
        """The variables in the order of the list that was stored.

        Which are trainable depends on more than the configuration says, so the names' ends
        decide among the orders that are possible; if they say nothing, the usual one is it.
        """
        ends = [end_of(name) for name, _ in stored]
        present = set(ends)
        needed = [slot for slot in slots if not slot[1].optional or end_of(slot[1].name) in present]
        orders = [
            sorted(some, key=key)
            for some in (slots, needed, [slot for slot in slots if not slot[1].optional])
            if len(some) == len(stored)
            for key in (
                lambda slot: not (slot[2] and slot[1].trainable),
                lambda slot: not slot[1].trainable,
                lambda slot: 0,
            )
        ]
        for order in orders:
            if [end_of(variable.name) for _, variable, _, _ in order] == ends:
                return order
        if orders:
            return orders[0]
        if len(stored) > len(slots):
            raise self.surplus(name for name, _ in stored[len(slots) :])
        names = ", ".join(f"{'/'.join(place)}/{variable.name}" for place, variable, *_ in slots)
        raise self.missing((layer,), f"but {ends or 'none'}, where it takes {names}")


def nth_name(name: str, names: list[str]) -> str:
    """Which of `names` is "lstm_1", the second LSTM, where numbers leave some out."""
    kind, stroke, number = name.rpartition("_")
    if not (stroke and number.isdigit()):
        kind, number = name, "0"
    alike = sorted(
        (int(other.removeprefix(kind)[1:] or 0), other)
        for other in names
        if re.fullmatch(rf"{re.escape(kind)}(_[0-9]{{1,9}})?", other)
    )
    return alike[int(number)][1] if int(number) < len(alike) else name


Slot = tuple[Place, Variable, bool, dict[str, Array]]


def end_of(name: str) -> str:
    """What a variable is called in its layer: "kernel" of "lstm/lstm_cell/kernel_1:0"."""
    end = name.rpartition("/")[2].partition(":")[0]
    start, stroke, number = end.rpartition("_")
    return start if stroke and number.isdigit() else end


def is_counter(dataset: Dataset) -> bool:
    """Whether this is a count of what was seen in training, which nothing depends on."""
    return dataset.shape == () and dataset.kind.dtype.kind in "iu"


def is_state(name: str) -> bool:
    """Whether a name is that of the carried state of a stateful layer, or of random numbers."""
    return end_of(name) in ("rnn_state", "seed_generator_state", "Variable", "StateVar")
