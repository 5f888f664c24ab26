"""A document as HTML: a fragment for notebooks, or a page of its own."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from recurra.insight.explanation.document import (
    Code,
    Content,
    Document,
    Gap,
    Part,
    Section,
    Table,
    Text,
    pieces,
)

# Everything is drawn in the surroundings' own colour and background, so that it can be read in
# light and dark notebooks, whichever way they are made dark; the few hues have contrast on both.
STYLE = """
.recurra-explain{font:14px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;max-width:72em;
 text-align:left;color:inherit}
.recurra-explain h2{font-size:1.25em;margin:.2em 0 .1em;font-weight:650}
.recurra-explain h3{font-size:1em;margin:1.3em 0 .3em;font-weight:650;
 border-bottom:1px solid rgba(128,128,128,.35);padding-bottom:.15em}
.recurra-explain h3 small,.recurra-explain h2 small{font-weight:400;font-size:.95em;
 margin-left:.9em;opacity:.85}
.recurra-explain p{margin:.35em 0}
.recurra-explain code,.recurra-explain pre{font:.93em/1.45 ui-monospace,SFMono-Regular,Menlo,
 Consolas,"DejaVu Sans Mono",monospace;background:rgba(128,128,128,.13);border-radius:3px;
 padding:.05em .3em;color:inherit}
.recurra-explain pre{padding:.4em .7em;margin:.4em 0;overflow-x:auto;border:0}
.recurra-explain .scroll{overflow-x:auto;margin:.3em 0}
.recurra-explain table{border-collapse:collapse;margin:0;font-size:1em;border:0;color:inherit}
.recurra-explain tr,.recurra-explain tbody tr:nth-child(odd){background:none}
.recurra-explain td,.recurra-explain th{text-align:left;vertical-align:top;border:0;
 padding:.14em 1.3em .14em 0;background:none;white-space:nowrap;color:inherit}
.recurra-explain td:last-child{white-space:normal;padding-right:0}
.recurra-explain th{font-weight:400;opacity:.75}
.recurra-explain .k-name{font-weight:650}
.recurra-explain .k-name,.recurra-explain .k-plain,
.recurra-explain .k-shape,.recurra-explain .k-code,
.recurra-explain .k-rail{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,
 "DejaVu Sans Mono",monospace;font-size:.93em}
.recurra-explain .k-rail{white-space:pre}
.recurra-explain .k-number{text-align:right;font-variant-numeric:tabular-nums}
.recurra-explain .k-dim{opacity:.75}
.recurra-explain .k-good::before{content:"\\25CF\\A0";color:#2e9e5b}
.recurra-explain .k-bad::before{content:"\\25B2\\A0";color:#c98500}
.recurra-explain .k-error::before{content:"\\25A0\\A0";color:#d64545}
.recurra-explain .k-error,.recurra-explain .k-bad,.recurra-explain .k-good{font-weight:600}
.recurra-diagram{overflow-x:auto;margin:.8em 0}
.recurra-folded{font:14px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;max-width:72em;
 margin-top:.8em;border-top:1px solid rgba(128,128,128,.35);padding-top:.6em}
.recurra-folded summary{cursor:pointer;font-weight:650}
.recurra-folded summary small{font-weight:400;font-size:.95em;margin-left:.9em;opacity:.85}
.recurra-folded .recurra-explain{margin-left:1.1em}
@media (max-width:640px){.recurra-explain table.bare tr{display:block;margin-bottom:.25em}
 .recurra-explain table.bare td{display:inline-block;padding-right:.9em}
 .recurra-explain table.bare td:last-child{display:block;padding-left:.9em}
 .recurra-explain table.bare td:empty{display:none}
 .recurra-explain h3 small,.recurra-explain h2 small{display:block;margin-left:0}}
@media print{.recurra-explain .scroll,.recurra-explain pre{overflow:visible}}
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{margin:1.5em auto;padding:0 1.2em;max-width:74em}}
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def fragment(documents: Sequence[Document], diagram: str = "") -> str:
    """Documents for a notebook's cell, with the style that they need; as for `page`."""
    return f"<style>{STYLE}</style>{_bodies(documents, diagram)}"


def page(documents: Sequence[Document], diagram: str = "") -> str:
    """Documents as one page that needs nothing else.

    Args:
        documents: one after the other.
        diagram: an SVG to put under the first one's title.
    """
    title = escape(documents[0].title)
    return _PAGE.format(title=title, style=STYLE, body=_bodies(documents, diagram))


def _bodies(documents: Sequence[Document], diagram: str) -> str:
    drawn = f'<div class="recurra-diagram">{diagram}</div>' if diagram else ""
    bodies = [_body(documents[0], drawn)]
    bodies += [_folded(each) for each in documents[1:]]
    return "\n".join(bodies)


def _folded(document: Document) -> str:
    head = f"<summary>{_head(document.title, document.aside)}</summary>"
    return f'<details class="recurra-folded">{head}{_body(document, headed=False)}</details>'


def _body(document: Document, diagram: str = "", *, headed: bool = True) -> str:
    head = f"<h2>{_head(document.title, document.aside)}</h2>" if headed else ""
    parts = [f'<div class="recurra-explain">{head}', diagram]
    parts += map(_section, document.sections)
    if document.foot:
        parts.append(f'<p class="k-dim">{_inline(document.foot)}</p>')
    return "".join([*parts, "</div>"])


def _section(section: Section) -> str:
    head = f"<h3>{_head(section.title, section.aside)}</h3>" if section.title else ""
    return head + "".join(map(_content, section.content))


def _head(title: str, aside: str) -> str:
    return escape(title) + (f"<small>{_inline(aside)}</small>" if aside else "")


def _content(content: Content) -> str:
    match content:
        case Text():
            return f'<p class="k-{content.kind}">{_inline(content.text)}</p>'
        case Code():
            return f"<pre>{escape(content.text)}</pre>"
        case Gap():
            return ""
        case Table():
            return _table(content)


def _table(table: Table) -> str:
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in table.head)
    rows = "".join(
        "<tr>"
        + "".join(_cell(cell, kind) for cell, kind in zip(row, table.kinds, strict=True))
        + "</tr>"
        for row in table.rows
    )
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    kind = "" if head else ' class="bare"'
    return f'<div class="scroll"><table{kind}>{head}<tbody>{rows}</tbody></table></div>'


def _cell(cell: Any, kind: str) -> str:
    text, kind = (cell.text, cell.kind) if isinstance(cell, Part) else (cell, kind)
    return f'<td class="k-{kind}">{_inline(text)}</td>'


def _inline(text: str) -> str:
    return "".join(
        f"<code>{escape(piece)}</code>" if is_code else escape(piece)
        for piece, is_code in pieces(text)
    )
