"""The compiled module; ``recurra/engine/cpu.py`` describes the order of the array lists."""

from collections.abc import Sequence

from numpy.typing import NDArray

def forward(
    cell: int,
    reset_after: bool,
    activation: int,
    recurrent_activation: int,
    go_backwards: bool,
    zero_output_for_mask: bool,
    inputs: Sequence[NDArray | None],
    outputs: Sequence[NDArray | None],
) -> None: ...
def backward(
    cell: int,
    reset_after: bool,
    activation: int,
    recurrent_activation: int,
    go_backwards: bool,
    zero_output_for_mask: bool,
    inputs: Sequence[NDArray | None],
    outputs: Sequence[NDArray | None],
) -> None: ...
def isas() -> list[str]: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def cell_names() -> list[str]: ...
def activation_names() -> list[str]: ...
def xla_targets() -> dict[str, object]: ...
