"""Make the pictures of the guides anew: `python tools/make_guide_figures.py [guide ...]`.

Each guide's program, as it stands on the page, writes the page's pictures; here it runs in a folder
of its own, and they are taken over to docs/images/guides. Pictures called *-screen.png are of the
report that the program writes, as Chromium shows it (a Chromium that is installed, driven by
Playwright), and report.html becomes the page that the site shows.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("MPLBACKEND", "agg")

DOCS = Path(__file__).resolve().parent.parent / "docs"
PICTURES = DOCS / "images" / "guides"
DOTS_PER_INCH = 130  # Sharp on dense screens, and files of some 50 kB.
CHROMIUM = ("--no-sandbox", "--disable-gpu")


def main(names: list[str]) -> None:
    """Make the pictures of some guides, or of all."""
    import keras
    import matplotlib

    matplotlib.rcParams["savefig.dpi"] = DOTS_PER_INCH
    PICTURES.mkdir(exist_ok=True)
    for page in sorted(DOCS.glob("guides/*.md")):
        if names and page.stem not in names:
            continue
        keras.utils.set_random_seed(3)
        with tempfile.TemporaryDirectory() as folder:
            make(page, Path(folder))


def make(page: Path, folder: Path) -> None:
    """Run one guide's program in a folder, and take its pictures over."""
    text = page.read_text()
    program = "\n".join(re.findall(r"^```python\n(.*?)^```\n", text, re.DOTALL | re.MULTILINE))
    with contextlib.chdir(folder), contextlib.redirect_stdout(None):
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(program, str(page), "exec"), names)
    for name in re.findall(r"\]\(\.\./images/guides/([\w.-]+)\)", text):
        if name.endswith("-screen.png"):
            photograph(folder / "report.html", folder / name, names["counter"])
            shutil.copy(folder / "report.html", DOCS / "_static" / f"{page.stem}.html")
        shutil.copy(folder / name, PICTURES / name)
        print(f"{page.stem}: {name}, {(PICTURES / name).stat().st_size:,} bytes")


def photograph(report: Path, picture: Path, unit: int) -> None:
    """The first screen of a report, with one unit chosen."""
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
