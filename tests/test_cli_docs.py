"""The examples of docs/command-line.md do what the page shows, but for the numbers themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import make_models

PAGE = Path(__file__).parent.parent / "docs" / "command-line.md"

DATA = """time,open,high,low
09:00,1.2,1.5,1.1
09:01,1.3,1.6,1.2
09:02,1.1,1.4,1.0
09:03,1.2,1.3,1.1
09:04,1.4,1.6,1.2
09:05,1.5,1.8,1.4
09:06,1.6,1.7,1.5
09:07,1.4,1.6,1.3
"""


def examples() -> list[tuple[str, str]]:
    """Commands of the page, and what they print."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def alike(text: str) -> str:
    """What is the same whatever the weights and versions are."""
    text = re.sub(r"-?\d+\.\d+(e-\d+)?", "#", text)
    return re.sub(r"\(\d+,\d+ bytes\)|digest: \w+|Keras 3#?[.\d]*|yes, \d+ bytes", "#", text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    models = make_models(tmp_path_factory)
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(models / "last.keras", folder / "price.keras")
    shutil.copy(models / "steps.keras", folder / "level.keras")
    (folder / "data.csv").write_text(DATA)
    lines = DATA.splitlines()[:5]
    lines[2] = lines[2].replace("1.6", "n/a")
    (folder / "holes.csv").write_text("\n".join(lines))
    rows = [line.split(",", 1)[1] for line in DATA.splitlines()]
    shops = ["shop", *["north", "south"] * 4]
    table = [f"{shop},{row}" for shop, row in zip(shops, rows, strict=True)]
    (folder / "shops.csv").write_text("\n".join(table))
    program = folder / "bin" / "recurra"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m recurra "$@"\n')
    program.chmod(0o755)
    return folder


def test_the_pages_examples_do_what_it_shows(folder):
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    pairs = examples()
    assert len(pairs) > 12
    for command, shown in pairs:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert alike(done.stdout + done.stderr) == alike(shown), command
