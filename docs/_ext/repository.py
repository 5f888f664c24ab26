"""Pages that are read on the site and in the repository alike: links that lead out of docs/."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
PAGES = {"CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog"}
_LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")
_log = logging.getLogger(__name__)


def _relink(app: Sphinx, name: str, source: list[str]) -> None:
    """Links to the repository's other files: to their pages here, or else only their names."""
    page = Path(app.srcdir, name)

    def target(match: re.Match[str]) -> str:
        text, path, anchor = match[1], match[2], match[3] or ""
        found = (page.parent / path).resolve()
        if not found.exists():
            _log.warning("link to %s, which there is not", path, location=name)
        if found.is_relative_to(app.srcdir):
            return match[0]
        inside = found.relative_to(ROOT)
        if inside.parts[0] == "examples":
            if inside.suffix:
                return f"[{text}](#{_label(inside)})"
            there = "/examples.md"
        elif str(inside) in PAGES:
            there = f"/{PAGES[str(inside)]}.md{anchor}"
        else:
            return text if "`" in text or "/" in text else f"{text} (`{inside}`)"
        return (
            f"[{text}]({os.path.relpath('/' + there, '/' + os.path.dirname(name))})"
        )

    source[0] = _LINK.sub(target, source[0])


def _label(path: Path) -> str:
    return f"example-{path.stem.replace('_', '-')}"


class Examples(SphinxDirective):
    """Every program in examples/: its name, what it says about itself, its code."""

    def run(self) -> list[nodes.Node]:
        sections: list[nodes.Node] = []
        for path in sorted((ROOT / "examples").glob("*.py")):
            self.env.note_dependency(str(path))
            sections.append(self._section(path))
        return sections

    def _section(self, path: Path) -> nodes.section:
        text = path.read_text()
        said = re.match(r'"""(.*?)"""', text, re.DOTALL)
        first = said[1].strip().split("\n\n")[0].replace("\n", " ") if said else ""
        label = _label(path)
        section = nodes.section(ids=[label], names=[label])
        std = self.env.domains.standard_domain
        std.labels[label] = self.env.docname, label, path.name
        std.anonlabels[label] = self.env.docname, label
        section += nodes.title("", "", nodes.literal("", path.name))
        section += nodes.paragraph("", first)
        code = nodes.literal_block(
            text, text, language="python", classes=["example"]
        )
        section += code
        return section


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", _relink)
    app.add_directive("examples", Examples)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
