"""Recurra's docstrings as Sphinx reads them.

They are written for people and terminals, in Google's style, with three habits of their own that
reStructuredText would spoil; they are put into its words before napoleon reads the sections:

- indented paragraphs outside of sections, and columns, are tables, code and formulas: they stay as
  they are;
- `name: meaning` lines without a heading, as dataclasses have them, are lists of attributes;
- single backticks mean code, or the place where that name is explained.

Names of pages, such as docs/lint.md, become links.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole

SECTIONS = (
    "Args",
    "Attributes",
    "Call arguments",
    "Example",
    "Raises",
    "Returns",
    "Warns",
    "Yields",
)
_ITEM = re.compile(r"^[a-z_]\w*(, \*{0,2}[a-z_]\w*)*: \S")
_COLUMNS = re.compile(r"^\S+ {2,}\S")
_CODE = re.compile(r"(`[^`]*`)")
_PAGE = re.compile(r"\bdocs/([\w/-]+)\.md")
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+(\(\))?|[A-Z]\w+|[a-z_]+")


def convert(lines: list[str]) -> list[str]:
    """A docstring's lines, dedented, as reStructuredText with Google's sections."""
    converted: list[str] = []
    for block in _blocks(lines):
        head = block[0]
        if head.rstrip(":") in SECTIONS and head.endswith(":"):
            converted += _section(head[:-1], block[1:])
        elif head.startswith(" ") or _COLUMNS.match(head):
            converted += _verbatim(block)
        elif head.startswith(">>>"):
            converted += block
        elif _ITEM.match(head) and _is_list(block):
            converted += _section("Attributes", ["    " + line for line in block])
        else:
            converted += [_escaped(line) for line in block]
        converted.append("")
    return converted


def _blocks(lines: list[str]) -> list[list[str]]:
    """Paragraphs; one that is a heading takes in what is indented below it, so does code."""
    blocks: list[list[str]] = []
    for line in lines:
        last = blocks[-1] if blocks else None
        if not line.strip():
            if last and last[-1] != "":
                last.append("")
        elif last is None or (last[-1] == "" and not _goes_on(last, line)):
            blocks.append([line])
        else:
            last.append(line)
    for block in blocks:
        while block[-1] == "":
            block.pop()
    return blocks


def _goes_on(block: list[str], line: str) -> bool:
    headed = block[0].endswith(":") and block[0][:-1] in SECTIONS
    return line.startswith(" ") and (headed or block[0].startswith(" "))


def _is_list(block: list[str]) -> bool:
    return all(line.startswith(" ") or _ITEM.match(line) for line in block)


def _verbatim(block: list[str]) -> list[str]:
    return [".. code-block:: text", "", *("    " + line for line in block)]


def _section(name: str, body: list[str]) -> list[str]:
    if name == "Example":
        indent = min(
            (len(line) - len(line.lstrip()) for line in body if line), default=0
        )
        code = [line[indent:] for line in body]
        prompt = any(line.startswith(">>>") for line in code)
        language = "pycon" if prompt else "python"
        return [
            ".. rubric:: Example",
            "",
            f".. code-block:: {language}",
            "",
            *("    " + line.replace("  # doctest: +SKIP", "") for line in code),
        ]
    return [f"{name}:", *(_escaped(line) for line in _joined(body))]


def _joined(body: list[str]) -> list[str]:
    """Items whose names alone take more than a line, with the names in one."""
    text = "\n".join(body)
    names = re.compile(
        r"^( +(?:\*{0,2}\w+, )*\*{0,2}\w+,)\n +((?:\*{0,2}\w+, )*\*{0,2}\w+: )",
        re.M,
    )
    while names.search(text):
        text = names.sub(r"\1 \2", text)
    return text.split("\n")


def _escaped(line: str) -> str:
    """What reStructuredText would take for markup, outside of backticks."""
    parts = _CODE.split(line)
    for index in range(0, len(parts), 2):
        text = re.sub(r"([|*\\])", r"\\\1", parts[index])
        text = re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
        parts[index] = _PAGE.sub(r":doc:`/\1`", text)
    return "".join(
        part.replace("\\", "\\\\") if i % 2 else part
        for i, part in enumerate(parts)
    )


class CodeRole(PyXRefRole):
    """What stands in single backticks: code, and a link if it is a name that the site explains."""

    def create_xref_node(self) -> Any:
        # `~` and `<...>` mean something in Sphinx's references, and in code something else.
        if _NAME.fullmatch(self.text):
            self.target = self.text.removesuffix("()")
            self.title = self.text
            return super().create_xref_node()
        node = nodes.literal(
            self.rawtext, self.text.replace("\x00", "\\"), classes=["code"]
        )
        return [node], []


def _process(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    lines: list[str],
) -> None:
    lines[:] = convert(lines)


def _signature(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: object,
    signature: str,
    returns: str,
) -> tuple[str, str] | None:
    """Layers' own arguments: Keras's classes answer with those of `__new__`, which takes all."""
    if what != "class" or not hasattr(obj, "compute_output_spec"):
        return None
    parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
    return str(inspect.Signature(bare)), ""


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_role_to_domain("py", "code", CodeRole(warn_dangling=False))
    # Before napoleon, which connects at 500.
    app.connect("autodoc-process-docstring", _process, priority=100)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
