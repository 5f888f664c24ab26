"""A model as a drawing: `diagram_svg(structure_of(model))`."""

from __future__ import annotations

from recurra.insight.diagram.drawing import svg
from recurra.insight.diagram.layout import lay_out
from recurra.insight.diagram.picture import picture_of
from recurra.insight.structure import Structure

__all__ = ["diagram_svg"]


def diagram_svg(structure: Structure, *, ids: bool = False) -> str:
    """A model as an SVG: its layers as boxes, from the inputs at the top to the outputs.

    Recurrent layers are coloured, nested models and layers with layers inside are framed. Beside
    every arrow stands the tensor's shape, B for samples and T for time steps; dashed arrows have a
    mask with them, and states that a layer starts from come along thick ones.

    The file stands for itself, light or dark as its reader prefers; inside a page it takes over the
    page's CSS variables --ink, --muted, --paper, --accent and --warn. It holds no scripts and no
    references, and all names are escaped. Boxes of recurrent layers carry data-path, the path as in
    `recurra.trace`.

    Args:
        structure: what `recurra.insight.structure_of` gave.
        ids: whether the boxes of layers get ids, "layer-1" and so on in the model's order; they
            must be unique in a page.

    Example:
        >>> Path("model.svg").write_text(diagram_svg(structure_of(model)))
    """
    picture = picture_of(structure)
    return svg(picture, lay_out(picture), ids=ids)
