"""The guides' programs run as they stand, and print what the pages show.

A page's ```python blocks are one program, in order; a ```text block right behind one is what it
prints. Numbers with a decimal point are compared as numbers: frameworks and processors differ in
their last digits.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from pathlib import Path

import keras
import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("guides/*.md")) + [
    DOCS / f"{name}.md" for name in ("explain", "index", "trace")
]

BLOCK = re.compile(
    r"^```python\n(.*?)^```\n(?:\n*^```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")


def blocks(page: Path) -> list[tuple[int, str, str | None]]:
    """Line number, program and output (None if the page shows none) of each block."""
    text = page.read_text()
    return [(text.count("\n", 0, m.start()) + 2, m[1], m[2]) for m in BLOCK.finditer(text)]


def same(shown: str, printed: str) -> bool:
    """Whether both are the same text, with numbers that agree to about the digits shown."""
    if _words(shown) != _words(printed):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(
        math.isclose(float(a), float(b), rel_tol=0.02, abs_tol=1.5 * 10.0 ** -len(a.split(".")[1]))
        for a, b in pairs
    )


def _words(text: str) -> str:
    """Without numbers, line breaks and what differs between processors."""
    text = re.sub(r"\((avx512_bf16|avx512|avx2|generic)\)", "(isa)", NUMBER.sub("#", text))
    return " ".join(text.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_pages_programs_print_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(3)
    keras.utils.clear_session()  # layers without a name are numbered from the start
    names: dict[str, object] = {"__name__": "__main__"}
    for line, program, shown in blocks(page):
        printed = io.StringIO()
        code = compile("\n" * (line - 1) + program, str(page), "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        if shown is not None or printed.getvalue():
            assert same(shown or "", printed.getvalue()), (
                f"{page.name}, line {line}, prints:\n{printed.getvalue()}"
            )
    # The page's pictures are those that its program makes.
    pictures = re.findall(r"\]\(\.\./images/guides/([\w.-]+)\)", page.read_text())
    assert [name for name in pictures if not (DOCS / "images" / "guides" / name).exists()] == []
    if page.parent.name == "guides":
        made = {path.name for path in tmp_path.iterdir()}
        assert pictures
        assert [name for name in pictures if name not in made and "screen" not in name] == []


@pytest.mark.parametrize(
    ("shown", "printed", "alike"),
    [
        ("a 1.00\n", "a 1.01", True),
        ("a 1.00", "a 1.20", False),
        ("a 1.00", "b 1.00", False),
        ("3 of 4", "2 of 4", False),
        ("[0.10 0.20]", "[ 0.1  0.2 ]", False),
    ],
)
def test_numbers_are_compared_as_numbers(shown, printed, alike):
    assert same(shown, printed) is alike
