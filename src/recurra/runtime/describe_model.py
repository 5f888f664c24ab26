"""A model's configuration, of Keras 2 or 3, as layers and the calls between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from recurra.runtime.calls import (
    DEEPEST,
    MOST_LAYERS,
    Invocation,
    Reference,
    read_calls,
    read_reference,
    references,
)
from recurra.runtime.create import MODELS, Description, describe, make_layer
from recurra.runtime.errors import ModelFileError, UnsupportedLayerError
from recurra.runtime.files.names import container_names
from recurra.runtime.layer import Layer, Shape
from recurra.runtime.layers.config import shown


class Input(NamedTuple):
    """A place where a tensor comes into a model."""

    shape: Shape
    dtype: str


class Entry:
    """A layer of a model, by the name that it has there, and its calls in order.

    Attributes:
        from_one: whether references count the calls from 1, as old files do for nested models.
    """

    def __init__(
        self, name: str, part: Layer | Model | Input, calls: Sequence[Invocation] = ()
    ) -> None:
        self.name, self.part, self.calls = name, part, calls
        self.from_one = False


class Model(NamedTuple):
    """A model: entries by name, and where its inputs and outputs are.

    `inputs` and `outputs` are nested as in Keras: References alone, or in lists, tuples and dicts.
    A Sequential without a known input has `inputs` None; its entries are called one after another.
    """

    where: str
    entries: dict[str, Entry]
    inputs: Any
    outputs: Any
    sequential: bool


class Reader:
    """Reads the configurations of one file.

    Args:
        prefix: the place of the model in a larger one, for messages; empty for a file's own.

    Attributes:
        layers: every layer that has its own place in the file, in the order of the configuration,
            with that place: names from the root model to the layer.
        groups: for each of them, what Keras 3 calls it in a file of weights: ("layers", "lstm_1").
    """

    def __init__(self, prefix: str = "") -> None:
        self.layers: list[tuple[tuple[str, ...], Layer]] = []
        self.groups: list[tuple[str, ...]] = []
        self._prefix = (prefix,) if prefix else ()
        self._shared: dict[tuple[int, str], Layer | Model] = {}
        self._named: dict[tuple[str, str], tuple[Any, Layer | Model]] = {}
        self._count = 0

    def model(
        self, found: Description, place: tuple[str, ...] = (), group: tuple[str, ...] = ()
    ) -> Model:
        """The model that a description stands for.

        Args:
            found: of a Sequential or functional model.
            place, group: of this model; empty for the root.

        Raises:
            ModelFileError: if the configuration contradicts itself.
            UnsupportedLayerError: for a layer that the runtime has no code for.
        """
        where = "/".join((*self._prefix, *place)) or found.name
        if len(place) > DEEPEST:
            raise ModelFileError(f"'{where}': models are nested more than {DEEPEST} deep.")
        listed = found.config.get("layers")
        if not isinstance(listed, (list, tuple)) or not listed:
            raise ModelFileError(
                f"The model '{where}' has layers {shown(listed)}; expected a list of layers."
            )
        entries: dict[str, Entry] = {}
        sequential = found.class_name == "Sequential"
        names = _group_names([describe(item, where) for item in listed], sequential)
        for position, (item, name) in enumerate(zip(listed, names, strict=True)):
            at = (place, (*group, "layers", name))
            entry = self._entry(item, position, at, where, sequential)
            if entry.name in entries:
                raise ModelFileError(f"The model '{where}' has two layers named '{entry.name}'.")
            entries[entry.name] = entry
        if sequential:
            return self._sequential(found, where, entries, listed)
        inputs = _structure(found.config.get("input_layers"), where, "input_layers")
        outputs = _structure(found.config.get("output_layers"), where, "output_layers")
        model = Model(where, entries, inputs, outputs, sequential)
        _count_from(model)
        return model

    def _entry(
        self,
        item: Any,
        position: int,
        at: tuple[tuple[str, ...], tuple[str, ...]],
        where: str,
        sequential: bool,
    ) -> Entry:
        self._count += 1
        if self._count > MOST_LAYERS:
            raise ModelFileError(f"The model has more than {MOST_LAYERS} layers.")
        found = describe(item, where)
        calls = [] if sequential else read_calls(item.get("inbound_nodes"), found, where)
        place, group = (*at[0], found.name), at[1]
        try:
            return Entry(found.name, self._part(found, item, place, group), calls)
        except UnsupportedLayerError as error:
            text = str(error)
            if ", the " in text.partition(":")[0]:
                raise
            of = f"the {_ordinal(position + 1)} layer of '{where}'"
            before = next((r.layer for call in calls for r in references(call)), None)
            on = f", called on '{before}'" if before else ""
            head, _, rest = text.partition(": ")
            raise type(error)(f"{head}, {of}{on}: {rest}") from None

    def _part(
        self, found: Description, item: Any, place: tuple[str, ...], group: tuple[str, ...]
    ) -> Layer | Model | Input:
        where = "/".join((*self._prefix, *place))
        if found.kind != "custom" and found.class_name == "InputLayer":
            return read_input(found.config, where)
        same = self._same(found)
        if same is not None:
            return same
        part: Layer | Model
        if found.kind == "keras" and found.class_name in MODELS:
            part = self.model(found, place, group)
        elif _is_operation(found, item):
            from recurra.runtime.layers.operations import make_operation

            part = make_operation(found, where)
        else:
            part = make_layer(item, where)
            self.layers.append((place, part))
            self.groups.append(group)
        if found.shared is not None:
            self._shared[found.shared, found.class_name] = part
        self._named.setdefault((found.class_name, found.name), (found.config, part))
        return part

    def _same(self, found: Description) -> Layer | Model | None:
        """The layer that a description is another mention of.

        Keras 3 gives an object that two models hold a number, but not where it comes first; and it
        writes the weights there. What comes first has the same class, name and configuration.
        """
        if found.shared is None:
            return None
        key = found.shared, found.class_name
        first = self._named.get((found.class_name, found.name))
        if key in self._shared or first is None:
            return self._shared.get(key)
        if _without_numbers(first[0]) == _without_numbers(found.config):
            self._shared[key] = first[1]
        return self._shared.get(key)

    def _sequential(
        self, found: Description, where: str, entries: dict[str, Entry], listed: Sequence[Any]
    ) -> Model:
        first = next(iter(entries.values()))
        if isinstance(first.part, Input):
            inputs: Any = Reference(first.name, 0, 0)
        else:
            shape = _sequential_input(found, describe(listed[0], where), first.part)
            inputs = None
            if shape is not None:
                name = f"{first.name}_input"
                entries = {name: Entry(name, Input(shape, "float32")), **entries}
                inputs = Reference(name, 0, 0)
        for entry in list(entries.values())[1:]:
            if isinstance(entry.part, Input):
                raise ModelFileError(f"The model '{where}' has a second input, '{entry.name}'.")
        return Model(where, entries, inputs, None, True)


def _group_names(found: Sequence[Description], sequential: bool) -> list[str]:
    """What Keras 3 calls the items of `model.layers`; "" for what is not among them."""
    counted = [
        each.kind != "operation" and not (sequential and each.class_name == "InputLayer")
        for each in found
    ]
    names = iter(
        container_names([e.class_name for e, counts in zip(found, counted, strict=True) if counts])
    )
    return [next(names) if counts else "" for counts in counted]


def _without_numbers(value: Any) -> Any:
    """A configuration without the numbers of shared objects in it."""
    if isinstance(value, Mapping):
        return {k: _without_numbers(v) for k, v in value.items() if k != "shared_object_id"}
    if isinstance(value, (list, tuple)):
        return [_without_numbers(each) for each in value]
    return value


def read_input(config: Mapping[str, Any], where: str) -> Input:
    """What an InputLayer's configuration says; the batch is left free."""
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    if shape is None and "shape" in config:
        shape = [None, *read_shape(config["shape"], where)]
    if shape is None and "input_shape" in config:
        shape = [None, *read_shape(config["input_shape"], where)]
    if config.get("ragged"):
        raise UnsupportedLayerError(
            f"Layer '{where}' (InputLayer): it takes ragged tensors, which Keras 3 does not have "
            "either. Save the model with padded inputs and masks."
        )
    found = read_shape(shape, where)
    if not found:
        raise ModelFileError(f"The input '{where}' has shape {found}; expected a batch axis.")
    return Input((None, *found[1:]), _dtype(config.get("dtype"), where))


def read_shape(value: Any, where: str) -> Shape:
    """A shape as configurations have it: whole numbers, None where free."""
    good = isinstance(value, (list, tuple)) and len(value) <= 32
    if not good or not all(
        n is None or (isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**31)
        for n in value
    ):
        raise ModelFileError(f"'{where}': the shape is {shown(value)}; expected sizes or null.")
    return tuple(value)


def _dtype(value: Any, where: str) -> str:
    if isinstance(value, Mapping):
        inner = value.get("config")
        value = inner.get("name") if isinstance(inner, Mapping) else None
    if value is None:
        return "float32"
    if not isinstance(value, str):
        raise ModelFileError(f"The input '{where}' has dtype {shown(value)}; expected a name.")
    if value.startswith(("float", "bfloat", "mixed")):
        return "float32"
    if value in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        return "int64" if value in ("int64", "uint32", "uint64") else "int32"
    if value == "bool":
        return "bool"
    raise UnsupportedLayerError(
        f"Layer '{where}' (InputLayer): it takes {shown(value)}, and the runtime takes numbers and "
        "booleans. Do what the model does with them before you call it."
    )


def _sequential_input(found: Description, first: Description, part: Layer | Model) -> Shape | None:
    """The input's shape of a Sequential without an InputLayer, if the file has it."""
    if isinstance(part, Model):
        inner = list(references(part.inputs))
        if len(inner) == 1:
            entry = part.entries.get(inner[0].layer)
            if entry is not None and isinstance(entry.part, Input):
                return entry.part.shape
        return None
    for key in ("batch_input_shape", "batch_shape"):
        if first.config.get(key) is not None:
            return (None, *read_shape(first.config[key], first.name)[1:])
    if first.config.get("input_shape") is not None:
        return (None, *read_shape(first.config["input_shape"], first.name))
    built = found.config.get("build_input_shape")
    if built is not None:
        return (None, *read_shape(built, found.name)[1:])
    return None


def _structure(value: Any, where: str, key: str, depth: int = 0) -> Any:
    """Inputs or outputs of a model, nested as Keras has them."""
    if depth > DEEPEST:
        raise ModelFileError(f"The model '{where}' has {key} nested too deep.")
    if isinstance(value, (list, tuple)) and len(value) == 3 and isinstance(value[0], str):
        return read_reference(value, f"{where}.{key}")
    if isinstance(value, Mapping) and value:
        return {str(k): _structure(each, where, key, depth + 1) for k, each in value.items()}
    if isinstance(value, (list, tuple)) and value:
        return [_structure(each, where, key, depth + 1) for each in value]
    raise ModelFileError(
        f"The model '{where}' has {key} {shown(value)}; expected names of layers with numbers."
    )


def _count_from(model: Model) -> None:
    """See which nested models' calls are counted from 1.

    Keras 2 counted the call that a nested model is made of; Keras 3 does so in `outputs` alone, and
    for functional models only, which `build` knows.
    """
    highest: dict[str, int] = {}
    for entry in model.entries.values():
        for reference in references([[*c.arguments, dict(c.keywords)] for c in entry.calls]):
            highest[reference.layer] = max(highest.get(reference.layer, 0), reference.call)
    for name, entry in model.entries.items():
        if isinstance(entry.part, Model):
            entry.from_one = highest.get(name, 0) >= len(entry.calls) > 0


def _is_operation(found: Description, item: Any) -> bool:
    """Whether a description is of a function of keras.ops that was called on tensors."""
    if found.kind == "operation":
        return True
    if "module" in item or "trainable" in found.config:
        return False
    from recurra.runtime.layers.operations import OPERATIONS

    return found.class_name in OPERATIONS and (
        found.kind == "unknown" or "dtype" not in found.config
    )


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 <= number % 100 <= 20 else ending}"
