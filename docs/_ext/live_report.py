"""The report that a reader of the guide can open: made by the guide's own program with the site.

A page of it in the repository would be a copy of the page's code, and older than that.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

GUIDE = "reading-a-report"
_BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def add_report(app: Any, exception: Exception | None) -> None:
    """Run the guide's program and put its report beside the site's files."""
    if exception is not None or app.builder.format != "html":
        return
    import keras

    keras.utils.set_random_seed(3)
    names: dict[str, Any] = {"__name__": "__main__"}
    guide = Path(app.srcdir, "guides", f"{GUIDE}.md")
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        for program in _BLOCK.findall(guide.read_text(encoding="utf-8")):
            exec(compile(program, str(guide), "exec"), names)
        shutil.copy("report.html", Path(app.outdir, "_static", f"{GUIDE}.html"))


def setup(app: Any) -> dict[str, Any]:
    """Run behind all that Sphinx writes."""
    app.connect("build-finished", add_report)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
