"""Put what the guides' programs print and draw into them: `tools/refresh_guides.py [page ...]`.

Each page's program runs as it stands, in a folder of its own. What a block prints becomes the text
below it where it says something else than before, numbers aside; the pictures that it saves go to
docs/images/guides. Pictures called *-screen.png are of the report that the program writes, as
Chromium shows it (a Chromium that is installed, driven by Playwright).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["COLUMNS"] = "80"

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = [
    *sorted(DOCS.glob("guides/*.md")),
    *(DOCS / f"{n}.md" for n in ("explain", "index", "trace")),
]
PICTURES = DOCS / "images" / "guides"
DOTS_PER_INCH = 130  # Sharp on dense screens, and files of some 30 kB.
WIDTH = 84  # of the site's column
CHROMIUM = ("--no-sandbox", "--disable-gpu")

# As in tests/test_docs_guides.py.
BLOCK = re.compile(
    r"^```python\n(.*?)^```\n(?:\n*^```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")


def main(names: list[str]) -> None:
    """Refresh some pages, or all."""
    import keras
    import matplotlib

    matplotlib.rcParams["savefig.dpi"] = DOTS_PER_INCH
    PICTURES.mkdir(exist_ok=True)
    for page in PAGES:
        if names and page.stem not in names:
            continue
        keras.utils.set_random_seed(3)
        keras.utils.clear_session()
        with tempfile.TemporaryDirectory() as folder:
            refresh(page, Path(folder))


def refresh(page: Path, folder: Path) -> None:
    """Run one page's program in a folder; take over what it prints, and its pictures."""
    names: dict[str, Any] = {"__name__": "__main__"}

    def ran(block: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
            exec(compile(block[1], str(page), "exec"), names)
        if words(printed.getvalue()) == words(block[2] or ""):
            return block[0]
        print(f"{page.stem}: other output")
        program = f"```python\n{block[1]}```\n"
        text = wrapped(printed.getvalue())
        return f"{program}\n```text\n{text}\n```\n" if text else program

    text = BLOCK.sub(ran, page.read_text())
    page.write_text(text)
    for name in re.findall(r"\]\(\.\./images/guides/([\w.-]+)\)", text):
        if name.endswith("-screen.png"):
            photograph(folder / "report.html", folder / name, names["counter"])
        shutil.copy(folder / name, PICTURES / name)
        print(f"{page.stem}: {name}, {(PICTURES / name).stat().st_size:,} bytes")


def words(text: str) -> list[str]:
    """Without numbers and line breaks."""
    return NUMBER.sub("#", text).split()


def wrapped(text: str) -> str:
    """Long lines in several, set in as far as the first, and a little more."""
    lines = []
    for line in text.rstrip().splitlines():
        inset = len(line) - len(line.lstrip())
        further = " " * (inset + 8 if inset else 0)
        short = len(line) <= WIDTH
        lines += [line.rstrip()] if short else textwrap.wrap(line, WIDTH, subsequent_indent=further)
    return "\n".join(lines)


def photograph(report: Path, picture: Path, unit: int) -> None:
    """The first screen of a report, with one unit and one step chosen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("chromium-browser"),
            args=list(CHROMIUM),
        )
        page = browser.new_page(viewport={"width": 1200, "height": 1500})
        page.goto(report.as_uri())
        page.fill("#unit-choice", str(unit))
        page.press("#unit-choice", "Enter")
        page.locator(".tokens .chunk > *").nth(24).click()
        page.wait_for_timeout(1000)
        page.screenshot(path=str(picture))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
