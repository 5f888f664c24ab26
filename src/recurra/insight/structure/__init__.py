"""Any model as plain data: `structure_of(model)`."""

from __future__ import annotations

from recurra.insight.structure.model import Cell, Node, Recurrent, Structure, Tensor

__all__ = ["Cell", "Node", "Recurrent", "Structure", "Tensor"]
