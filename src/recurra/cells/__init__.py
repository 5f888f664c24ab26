"""The cells, each defined once: data plus one pure step function (see `recurra.cells.spec`).

The order of `CELLS` is the compiled engine's numbering of the cells.
"""

from recurra.cells.gru import GRU
from recurra.cells.lstm import LSTM
from recurra.cells.simple_rnn import SIMPLE_RNN
from recurra.cells.spec import ACTIVATIONS, NEEDS_PRE_ACTIVATION, CellSpec

CELLS: dict[str, CellSpec] = {
    "lstm": LSTM,
    "gru": GRU,
    "simple_rnn": SIMPLE_RNN,
}

__all__ = ["ACTIVATIONS", "CELLS", "NEEDS_PRE_ACTIVATION", "CellSpec"]
