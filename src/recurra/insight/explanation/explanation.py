"""`Explanation`: what `recurra.explain` gives, to print, to show and to read by programs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recurra.insight.explanation.document import Document
from recurra.insight.explanation.layer_facts import LayerFacts
from recurra.insight.explanation.layer_page import Detail, layer_document
from recurra.insight.explanation.model_facts import ModelFacts
from recurra.insight.explanation.model_page import model_document
from recurra.insight.linting import Finding
from recurra.insight.structure import Structure

_DETAILS = ("brief", "normal", "full")

_DRAWN = 60
"""Calls of a model that is drawn in a notebook without being asked for."""


class Explanation(Mapping[str, "Explanation"]):
    """What a layer or model takes, does and returns.

    It prints as text, is drawn with colours by rich and as a table in notebooks. As a mapping it
    holds the explanations of a model's recurrent layers by their paths; that of a layer is empty,
    that of a wrapper holds the layers inside.

    Attributes:
        facts: everything that it says, as data.
        structure: the model or layer as `recurra.insight.structure_of` sees it.
        findings: what `recurra.insight.lint` found.

    Example:
        >>> print(recurra.explain(model)["lstm"])
    """

    def __init__(
        self,
        facts: LayerFacts | ModelFacts,
        structure: Structure,
        findings: Sequence[Finding] = (),
        detail: Detail = "normal",
    ) -> None:
        self.facts = facts
        self.structure = structure
        self.findings = tuple(findings)
        self._detail = detail
        parts = facts.layers if isinstance(facts, ModelFacts) else facts.parts
        self._parts: dict[str, LayerFacts] = {}
        for part in parts:
            self._parts.update({each.path: each for each in _with_parts(part)})

    # --- As text, in notebooks, for programs ---

    def text(
        self, width: int | None = None, *, detail: Detail | None = None, colour: bool = False
    ) -> str:
        """The explanation as lines of text.

        Args:
            width: columns; None for the terminal's, at most 120.
            detail: "brief", "normal" or "full"; None for what `explain` was asked for.
            colour: whether to put a terminal's codes for colours in it.

        Raises:
            ValueError: for another detail.
        """
        from recurra.insight.explanation.terminal import text_of

        drawn = [text_of(each, width, colour=colour) for each in self._documents(detail)]
        return "\n\n\n".join(drawn)

    def html(self, *, detail: Detail | None = None) -> str:
        """The explanation as one HTML page that needs nothing else.

        Of a model it has a diagram, and its recurrent layers one by one, folded away.

        Args:
            detail: as for `text`; with "brief" the layers are left out.

        Raises:
            ValueError: for another detail.
        """
        from recurra.insight.explanation.html import page

        detail = check_detail(detail or self._detail)
        return page(self._documents(detail, layers=detail != "brief"), self._diagram())

    def to_dict(self) -> dict[str, Any]:
        """Everything that the explanation says, as what JSON can hold."""
        return {
            **self.facts.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from recurra.insight.explanation.html import fragment

        few = len(self.structure.nodes) <= _DRAWN
        return fragment(self._documents(None), self._diagram() if few else "")

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from recurra.insight.explanation.terminal import drawn

        for each in self._documents(None):
            yield drawn(each, options.max_width)

    def _documents(self, detail: Detail | None, *, layers: bool = False) -> list[Document]:
        """One document, or with a model's layers several: for "full", and where it is asked for."""
        detail = check_detail(detail or self._detail)
        if isinstance(self.facts, LayerFacts):
            return [layer_document(self.facts, detail, self.findings)]
        below = (layers or detail == "full") and len(self.facts.layers) > 0
        documents = [model_document(self.facts, detail, self.findings, below=below)]
        if below:
            documents += [layer_document(layer, "full") for layer in self.facts.layers]
        return documents

    def _diagram(self) -> str:
        if isinstance(self.facts, LayerFacts):
            return ""
        from recurra.insight.diagram import diagram_svg

        return diagram_svg(self.structure)

    # --- The layers inside ---

    def __getitem__(self, path: str) -> Explanation:
        path = self._path(path)
        findings = [finding for finding in self.findings if finding.where == path]
        return Explanation(self._parts[path], self.structure, findings, self._detail)

    def _path(self, name: str) -> str:
        """A layer's path, by itself, by its last part or by the layer's own name."""
        if name in self._parts:
            return name
        ending = [path for path in self._parts if path.endswith(f"/{name}")]
        called = [path for path, part in self._parts.items() if part.layer.layer_name == name]
        found = list(dict.fromkeys(ending + called))
        if len(found) == 1:
            return found[0]
        if found:
            raise KeyError(f"{name!r} can be {' or '.join(map(repr, found))}; name one of them.")
        near = difflib.get_close_matches(str(name), self._parts, n=1)
        known = [*near, *(path for path in self._parts if path not in near)]
        there = f"there are {', '.join(known)}" if known else "there are none"
        raise KeyError(f"No recurrent layer {name!r}; {there}.")

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __bool__(self) -> bool:
        return True  # an explanation without parts is still one

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


def check_detail(detail: str) -> Any:
    """The detail, if it is one; ValueError else."""
    if detail not in _DETAILS:
        raise ValueError(f"detail={detail!r}; expected {', '.join(map(repr, _DETAILS))}.")
    return detail


def _with_parts(facts: LayerFacts) -> list[LayerFacts]:
    return [facts, *(each for part in facts.parts for each in _with_parts(part))]
