"""The report's page: one HTML file with its data, styles and program inside.

The files beside this one are the page's parts. They are written as parts of one program, in the
order of `SCRIPTS`, and need no build step: a browser gets them as they stand here.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

STYLES = ("base.css", "layout.css", "views.css", "panels.css", "print.css")
SCRIPTS = (
    "base.js",
    "data.js",
    "palette.js",
    "state.js",
    "view.js",
    "heat.js",
    "lines.js",
    "timeline.js",
    "tokens.js",
    "order.js",
    "ranges.js",
    "table.js",
    "layer.js",
    "series.js",
    "inspector.js",
    "rangecard.js",
    "model.js",
    "help.js",
    "main.js",
)


def html_page(data: Mapping[str, Any]) -> str:
    """The whole page, as text that opens without a network.

    Args:
        data: what `recurra.insight.report.data` describes.

    Returns:
        An HTML document. Its content security policy lets nothing run but the page's own program,
        and nothing be fetched.

    Raises:
        ValueError: if a number in `data` is NaN or infinite, which JSON cannot hold.
        TypeError: if something in it is no JSON at all.

    Example:
        >>> Path("report.html").write_text(html_page(report_data(trace)), encoding="utf-8")
    """
    # The JSON stands inside of a script element, which a "<" in a token or a name could end. U+2028
    # and U+2029 are line ends to some readers of such elements.
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for sign in "<\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    skeleton, styles, script = _parts()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; "
        f"script-src 'sha256-{digest}'; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    values = {
        "policy": html.escape(policy, quote=True),
        "title": html.escape(str(data.get("title") or "Recurra")),
        "styles": styles,
        "data": text,
        "script": script,
    }
    pieces = []
    for piece in skeleton.split("{{"):
        name, brace, rest = piece.partition("}}")
        pieces += [values[name], rest] if brace else [piece]
    return "".join(pieces)


@cache
def _parts() -> tuple[str, str, str]:
    """The skeleton, all styles and the whole program."""
    here = files(__name__)

    def text(name: str) -> str:
        return here.joinpath(name).read_text(encoding="utf-8")

    styles = "\n".join(text(name) for name in STYLES)
    body = "\n".join(text(name) for name in SCRIPTS)
    return text("page.html"), styles, f'(() => {{\n"use strict";\n{body}\n}})();\n'
