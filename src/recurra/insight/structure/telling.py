"""What of a layer's configuration is worth telling: small, plain, the same for Keras and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_TELLING = frozenset(
    {
        "activation",
        "axes",
        "axis",
        "causal",
        "cropping",
        "data_format",
        "dilation_rate",
        "dims",
        "filters",
        "groups",
        "input_dim",
        "kernel_size",
        "key",
        "key_dim",
        "keepdims",
        "mask_value",
        "mask_zero",
        "n",
        "num_heads",
        "output_dim",
        "padding",
        "pool_size",
        "rate",
        "return_attention_scores",
        "size",
        "strides",
        "target_shape",
        "units",
        "use_bias",
        "use_causal_mask",
    }
)

_AS_ALWAYS = {
    "activation": ("linear", None),
    "data_format": ("channels_last", None),
    "dilation_rate": (1, [1], [1, 1]),
    "groups": (1,),
    "keepdims": (False,),
    "mask_zero": (False,),
    "padding": ("valid",),
    "return_attention_scores": (False, None),
    "strides": (1, [1], [1, 1]),
    "use_bias": (True,),
    "use_causal_mask": (False, None),
    "causal": (False,),
}
"""Values that go without saying."""

_MOST_OF_OWN = 8


def telling(config: Mapping[str, Any], *, own: bool = False) -> dict[str, Any]:
    """The part of a configuration that people want to see.

    Args:
        config: as Keras's `get_config` gives it, or as it stands in a file.
        own: whether it is of a class of the user's, of which every plain value is told.

    Returns:
        Values that JSON can hold.

    Example:
        >>> telling({"name": "dense", "units": 4, "activation": "relu", "use_bias": True})
        {'units': 4, 'activation': 'relu'}
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        if name in ("name", "trainable", "dtype") or (name not in _TELLING and not own):
            continue
        plain = plain_value(value)
        if plain is None or plain in _AS_ALWAYS.get(name, ()):
            continue
        found[name] = plain
        if own and len(found) == _MOST_OF_OWN:
            break
    return found


def plain_value(value: Any, depth: int = 0) -> Any:
    """A number, string, boolean or short list of such; a registered object's name; else None."""
    if isinstance(value, (bool, str, int, float)):
        return value if not isinstance(value, float) or value == value else None
    if isinstance(value, slice):
        return written_slice(value)
    if value is Ellipsis:
        return "..."
    if isinstance(value, (list, tuple)) and len(value) <= 8 and depth < 3:
        listed = [plain_value(each, depth + 1) for each in value]
        return listed if all(each is not None for each in listed) else None
    if isinstance(value, Mapping) and isinstance(value.get("class_name"), str):
        inner = value.get("config")
        if value["class_name"] == "function" and isinstance(inner, str):
            return inner
        return value["class_name"]
    return None


def written_slice(part: slice) -> str:
    """A slice as in an index: ":", "1:", "::2"."""
    ends = ["" if each is None else str(each) for each in (part.start, part.stop)]
    return ":".join(ends) + ("" if part.step is None else f":{part.step}")


def written_key(key: Any) -> str | None:
    """An index as people write it: "[:, -1]"; None for one that is not plain.

    Example:
        >>> written_key((slice(None), -1))
        '[:, -1]'
    """
    parts: Sequence[Any] = key if isinstance(key, (tuple, list)) else (key,)
    written = []
    for part in parts:
        plain = "None" if part is None else plain_value(part)
        if plain is None:
            return None
        written.append(str(plain))
    return f"[{', '.join(written)}]"
