"""The demo: its data keep their promise, and the command does the whole job."""

import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from recurra import demo
from recurra.cli import app
from recurra.demo import data


@pytest.fixture(scope="module")
def weather():
    return data.load()


def test_weather_is_a_year_of_plausible_hours(weather):
    assert weather.values.shape == (8760, 10)
    assert weather.values.dtype == np.float32
    assert np.isfinite(weather.values).all()
    assert -20 < weather.temperature.min() < -10
    assert 30 < weather.temperature.max() < 40
    for month in range(1, 13):
        hours = weather.time[weather.month == month].astype("int64")
        assert (np.diff(hours) == 1).all()


@pytest.mark.parametrize("held_out", [False, True])
def test_windows_stay_within_a_month_and_are_in_order(weather, held_out):
    windows = data.windows(weather, held_out=held_out)
    for offset in (-data.HISTORY, data.HORIZON - 1):
        month = weather.month[windows.first + offset]
        assert (month == weather.month[windows.first]).all()
    assert np.array_equal(windows.future[:, 0], weather.temperature[windows.first])
    assert np.array_equal(windows.history[:, -1], weather.values[windows.first - 1])
    assert np.array_equal(data.as_now(windows)[:, 5], weather.temperature[windows.first - 1])
    assert np.array_equal(data.as_yesterday(windows)[:, 5], weather.temperature[windows.first - 19])


def test_no_hour_is_forecast_in_training_and_held_out(weather):
    ahead = np.arange(data.HORIZON)
    trained = (data.windows(weather, held_out=False).first[:, None] + ahead).ravel()
    tested = (data.windows(weather, held_out=True).first[:, None] + ahead).ravel()
    assert not set(trained.tolist()) & set(tested.tolist())
    assert len(set(trained.tolist()) | set(tested.tolist())) > 0.85 * len(weather.time)


def test_quick_demo_does_the_whole_job(tmp_path):
    import keras
    from matplotlib.image import imread

    out = tmp_path / "a [red] folder"
    result = CliRunner().invoke(app, ["demo", "--quick", "--out", str(out)])
    assert result.exit_code == 0, result.output
    for words in (
        "Both agree",
        "naive: as yesterday",
        "stock Keras",
        "forget_gate",
        "forecast.png",
    ):
        assert words in result.output
    # Nothing half-written is left beside the two files.
    assert sorted(path.name for path in out.iterdir()) == ["forecast.png", "forecaster.keras"]
    picture = imread(out / "forecast.png")
    assert picture.shape[0] > 600
    assert picture.std() > 0.05
    model = keras.saving.load_model(out / "forecaster.keras")
    held_out = data.windows(data.load(), held_out=True, every=500)
    forecast = model.predict(held_out.history, verbose=0)
    assert forecast.shape == (len(held_out.first), data.HORIZON)
    assert np.abs(forecast - held_out.future).mean() < 6


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        (
            "numpy",
            ("The demo compares Recurra's engine with Keras's own scan", "KERAS_BACKEND=jax"),
        ),
        ("jaxx", ("KERAS_BACKEND=jaxx",)),
    ],
)
def test_an_engine_that_cannot_run_is_told_before_training(tmp_path, backend, words):
    """Else stock Keras would be compared with itself, and agree."""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-m", "recurra", "demo", "--out", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("Error: ")
    assert all(word in done.stderr for word in words), done.stderr
    assert "Training" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"epochs": None, "quick": False, "seed": 0}),
        (["--quick", "--epochs", "5"], {"epochs": 5, "quick": True, "seed": 0}),
        (["--seed", "4294967295"], {"epochs": None, "quick": False, "seed": 2**32 - 1}),
    ],
)
def test_options_reach_the_demo_as_given(monkeypatch, arguments, expected):
    received = {}
    monkeypatch.setattr(demo, "run", lambda out, **options: received.update(options) or True)
    result = CliRunner().invoke(app, ["demo", *arguments])
    assert result.exit_code == 0, result.output
    assert received == expected


@pytest.mark.parametrize(
    ("options", "epochs"),
    [({}, 8), ({"quick": True}, 2), ({"quick": True, "epochs": 5}, 5), ({"epochs": 1}, 1)],
)
def test_epochs_are_those_asked_for(monkeypatch, tmp_path, options, epochs):
    from recurra.demo import forecaster

    class EnoughError(Exception):
        pass

    def train(*arguments, epochs, seed):
        raise EnoughError(epochs)

    monkeypatch.setattr(forecaster, "train", train)
    with pytest.raises(EnoughError) as caught:
        demo.run(tmp_path, seed=2**32 - 1, **options)
    assert caught.value.args == (epochs,)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "forecast.png"
    path.write_text("old")

    def fail(partial):
        partial.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        demo._write(path, fail)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("forecast.png", "old")]


def test_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(demo.NEEDS, "a_package_that_is_not_there", "demo")
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert 'pip install "recurra[demo]"' in result.output


def test_unwritable_folder_is_told_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "file" / "inside")])
    assert result.exit_code == 1
    assert "cannot be written" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "--epoch", "3"], "--epochs"),
        (["dmeo"], "demo"),
        (["demo", "--epochs", "0"], "--epochs"),
        (["demo", "--seed", "4294967296"], "--seed"),
    ],
)
def test_typing_errors_get_a_hint(arguments, words):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_version():
    import recurra

    assert CliRunner().invoke(app, ["--version"]).output == f"recurra {recurra.__version__}\n"
