"""The package as a whole: what importing it loads, and its public names."""

import subprocess
import sys

import pytest

import recurra

FRAMEWORKS = ("keras", "jax", "torch", "tensorflow")


@pytest.mark.parametrize(
    "statement",
    [
        "import recurra",
        "import recurra.cells",
        "import recurra.reference",
        "import recurra.engine",
        "import recurra.weights",
        "import recurra.cli",
        "import recurra; recurra.set_num_threads(1)",
    ],
)
def test_no_framework_is_imported(statement):
    """A deployed program pays for no framework; each is loaded by its own host file only."""
    code = f"{statement}\nimport sys\nprint([m for m in {FRAMEWORKS} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_public_names_are_there():
    for name in recurra.__all__:
        assert getattr(recurra, name) is not None
    assert set(recurra.__all__) <= set(dir(recurra))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="set_num_threads"):
        recurra.set_threads  # noqa: B018


def test_set_num_threads_checks_its_argument():
    from recurra import _engine

    recurra.set_num_threads(1)
    assert _engine.num_threads() == 1
    recurra.set_num_threads(0)
    assert _engine.num_threads() >= 1
    with pytest.raises(ValueError, match="n=-1"):
        recurra.set_num_threads(-1)
    with pytest.raises(ValueError, match="1 to 1024"):
        recurra.set_num_threads(2**40)
    with pytest.raises(TypeError, match="float"):
        recurra.set_num_threads(2.0)
