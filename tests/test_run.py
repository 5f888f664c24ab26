"""`recurra run`: real programs give the numbers of stock Keras, and notice nothing else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

HOST = os.environ.get("KERAS_BACKEND", "jax")
PROGRAMS = Path(__file__).parent / "programs"
# Those that name a framework themselves run on that; all others on every host.
ON_ONE_HOST = {
    "loop_jax": "jax",
    "loop_torch": "torch",
    "loop_tensorflow": "tensorflow",
    "tensorflow_keras": "tensorflow",
}
# load_model needs files, and has a test of its own.
COMPARED = sorted(
    path.stem
    for path in PROGRAMS.glob("*.py")
    if path.stem != "load_model" and ON_ONE_HOST.get(path.stem, HOST) == HOST
)
NUMBER = re.compile(r"-?\d+\.\d*(?:e[-+]?\d+)?|-?\d+e[-+]?\d+|-?\d+")


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    return {**inherited, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2", **more}


def start(*command: str, cwd: Path | None = None, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment(**more),
        # Ignored where the tests run in the background of a shell, and then in their children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=280)
    finally:
        process.kill()
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
    return out, err


def recurra(*arguments: str, code: int = 0, **keywords: object) -> tuple[str, str]:
    return finish(start("-m", "recurra", *arguments, **keywords), code)  # type: ignore[arg-type]


def assert_same_numbers(ours: str, stock: str) -> None:
    """The same text, with numbers that agree as float32 results do after some training."""
    assert NUMBER.sub("#", ours) == NUMBER.sub("#", stock)
    numbers = [np.array(NUMBER.findall(text), dtype=float) for text in (ours, stock)]
    assert len(numbers[1]) >= 5
    np.testing.assert_allclose(*numbers, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", COMPARED)
def test_programs_give_the_numbers_of_stock_keras(name: str) -> None:
    """All in strict mode: every recurrent layer of every program runs on the engine."""
    program = str(PROGRAMS / f"{name}.py")
    # A program that names its framework does so before it imports Keras, and not by a variable.
    chosen = {} if name in ON_ONE_HOST else {"KERAS_BACKEND": HOST}
    both = [
        start(program, **chosen),
        start("-m", "recurra", "run", "--strict", "--report", program, **chosen),
    ]
    (stock, _), (ours, report) = [finish(process) for process in both]
    assert_same_numbers(ours, stock)
    assert report.count("Recurra is enabled") == 1
    assert "engine (cpu)" in report
    assert "Keras's scan" not in report


def test_there_are_programs_of_every_style() -> None:
    assert len(COMPARED) + 1 >= 8


def test_a_file_that_stock_keras_has_saved(tmp_path: Path) -> None:
    program = str(PROGRAMS / "load_model.py")
    finish(start(program, "make", str(tmp_path), KERAS_BACKEND=HOST))
    both = [
        start(program, "use", str(tmp_path), KERAS_BACKEND=HOST),
        start(
            *("-m", "recurra", "run", "--strict", "--report", program, "use", str(tmp_path)),
            KERAS_BACKEND=HOST,
        ),
    ]
    (stock, _), (ours, report) = [finish(process) for process in both]
    assert_same_numbers(ours, stock)
    assert "engine (cpu)" in report
    assert "Keras's scan" not in report
    # What Recurra has saved is for stock Keras as well.
    finish(start(program, "use", str(tmp_path), KERAS_BACKEND=HOST))


WHO_AM_I = """
from __future__ import annotations
import sys, os
main = sys.modules["__main__"]
print(__name__, __file__, sys.argv, sys.path[0], __package__, __doc__, main.__dict__ is globals())
print(type(__spec__), getattr(__spec__, "name", None), type(__loader__), sorted(globals()))
print(sys.excepthook is sys.__excepthook__, "keras" in sys.modules, __annotations__)
def fail():
    return 1 / 0
if sys.argv[1:2] == ["raise"]:
    fail()
elif sys.argv[1:2] == ["chained"]:
    try:
        fail()
    except ZeroDivisionError as error:
        raise OSError("at last") from error
elif sys.argv[1:2] == ["end of file"]:
    raise EOFError
elif sys.argv[1:2] == ["code"]:
    sys.exit(7)
elif sys.argv[1:2] == ["text"]:
    sys.exit("That is all.")
elif sys.argv[1:2] == ["interrupt"]:
    os.kill(os.getpid(), 2)
elif sys.argv[1:2] == ["hook"]:
    def hook(kind, error, traceback):
        while traceback.tb_next:
            traceback = traceback.tb_next
        print("hooked", kind, error, traceback.tb_frame.f_code.co_name, flush=True)
    sys.excepthook = hook
    fail()
"""


def outcome(*command: str, cwd: Path) -> tuple[int, str, str]:
    process = start(*command, cwd=cwd)
    out, err = process.communicate(timeout=60)
    return process.returncode, re.sub(r"0x\w+", "0x", out), err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--report", "-m", "--", "--help"),
        ("raise",),
        ("chained",),
        ("end of file",),
        ("code",),
        ("text",),
        ("interrupt",),
        ("hook",),
    ],
    ids=lambda arguments: arguments[0] if arguments else "plain",
)
@pytest.mark.parametrize("how", ["script", "module"])
def test_a_program_sees_what_it_sees_under_python(
    how: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "who.py").write_text(WHO_AM_I)
    (tmp_path / "folder" / "__init__.py").touch()
    what = [os.path.join("folder", "who.py")] if how == "script" else ["-m", "folder.who"]
    plain = outcome(*what, *arguments, cwd=tmp_path)
    ours = outcome("-m", "recurra", "run", *what, *arguments, cwd=tmp_path)
    assert ours[:2] == plain[:2]
    # Under -m, plain Python shows its own frames first.
    frozen = re.compile(r'  File "<frozen runpy>".*\n')
    assert ours[2] == frozen.sub("", plain[2])
    if arguments == ("interrupt",):
        assert ours[0] == -signal.SIGINT or ours[0] == 130
    # A report changes nothing of that.
    assert (
        outcome("-m", "recurra", "run", "--report", *what, *arguments, cwd=tmp_path)[:2]
        == (plain[:2])
    )


def test_folders_archives_and_packages_run_as_under_python(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text(WHO_AM_I)
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.write(tmp_path / "app" / "__main__.py", "__main__.py")
    for what in (["app"], ["app.zip"], ["-m", "app"]):
        plain = outcome(*what, "code", cwd=tmp_path)
        assert outcome("-m", "recurra", "run", *what, "code", cwd=tmp_path) == plain
        assert plain[0] == 7


def test_a_syntax_error_is_shown_as_python_shows_it(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f(:\n")
    plain = outcome("bad.py", cwd=tmp_path)
    assert outcome("-m", "recurra", "run", "bad.py", cwd=tmp_path) == plain
    assert "SyntaxError" in plain[2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "name what to run"),
        (["absent.py"], "there is no file 'absent.py'"),
        (["prog"], "Did you mean prog.py?"),
        (["json.tool"], "To run a module: -m json.tool"),
        (["empty"], "'empty' is a folder without a __main__.py"),
        (["-m"], "-m needs the name of a module"),
        (["--report", "-m"], "-m needs the name of a module"),
        (["-m", "nowhere.at_all"], "there is no module named nowhere.at_all"),
        (["-m", "package"], "package is a package without a __main__ module"),
        (["--reprot", "prog.py"], "--report"),
    ],
)
def test_mistakes_are_told(arguments: list[str], expected: str, tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text("print('ran')")
    (tmp_path / "empty").mkdir()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    out, err = recurra("run", *arguments, code=2, cwd=tmp_path)
    assert expected in err
    assert "Traceback" not in err
    assert "ran" not in out


def test_report_of_a_program_without_keras(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text("print('ran')")
    out, err = recurra("run", "--report", "prog.py", cwd=tmp_path)
    assert out == "ran\n"
    assert "has not imported Keras" in err


FALLBACK = """
import os, sys
os.environ["KERAS_BACKEND"] = {host!r}
from keras.src.layers.rnn.gru import GRU
import keras
import numpy as np
x = np.zeros((2, 3, 4), "float32")
GRU(3, name="odd", activation=lambda x: keras.ops.cos(x))(x)
layer = GRU(3, name="even")
for _ in range(3):
    layer(x)
keras.layers.LSTM(2, name="asked", engine="keras")(x)
raise SystemExit(3)
"""


def test_report_says_what_ran_why_and_what_to_change(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(FALLBACK.format(host=HOST))
    _, err = recurra("run", "--report", "prog.py", code=3, cwd=tmp_path, COLUMNS="250")
    rows = {line.split()[1]: line for line in err.splitlines() if line.startswith("│")}
    assert "Keras's scan" in rows["odd"]
    assert "activation=<lambda> is not compiled into the engine" in rows["odd"]
    assert "choose one of" in rows["odd"]
    assert "engine (cpu)" in rows["even"]
    assert " 3 │" in rows["even"]
    assert "engine='keras' asks" in rows["asked"]


def test_strict_refuses_a_fallback(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(FALLBACK.format(host=HOST))
    _, err = recurra("run", "--strict", "prog.py", code=1, cwd=tmp_path)
    last = err.strip().splitlines()[-1]  # without Keras's account of the call
    assert err.count("which strict mode forbids") == 1
    assert last.startswith("ValueError: Layer 'odd' (GRU) would run on Keras's own scan")
    assert "choose one of" in last


def test_a_keras_that_fails_to_import_can_be_imported_later(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(
        "import os\n"
        "os.environ['KERAS_BACKEND'] = 'nonsense'\n"
        "try:\n    import keras\n"
        "except ValueError as error:\n    print('failed')\n"
        f"os.environ['KERAS_BACKEND'] = {HOST!r}\n"
        "import sys\n"
        "for name in [n for n in sys.modules if n.partition('.')[0] == 'keras']:\n"
        "    del sys.modules[name]\n"
        "import keras, inspect\n"
        "print(keras.layers.LSTM.__module__, type(keras.__loader__).__name__)\n"
    )
    out, _ = recurra("run", "prog.py", cwd=tmp_path)
    assert out == "failed\nrecurra.layers.lstm SourceFileLoader\n"


def test_the_legacy_tf_keras_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tf_keras.py").write_text("LSTM = 'its own'\n")
    (tmp_path / "prog.py").write_text("import tf_keras\nprint(tf_keras.LSTM)\n")
    out, err = recurra("run", "--report", "prog.py", cwd=tmp_path)
    assert out == "its own\n"
    assert err.count("tf_keras is the legacy Keras 2") == 2


def test_spawned_processes_run_so_too(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(
        "import multiprocessing\n"
        "from keras.layers import LSTM\n"
        "def tell():\n"
        "    print(__name__, LSTM.__module__, flush=True)\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('spawn').Process(target=tell)\n"
        "    process.start()\n"
        "    process.join()\n"
        "    tell()\n"
    )
    out, err = recurra("run", "--report", "prog.py", cwd=tmp_path, KERAS_BACKEND=HOST)
    assert out == "__mp_main__ recurra.layers.lstm\n__main__ recurra.layers.lstm\n"
    assert err.count("their layers are not listed here") == 1
