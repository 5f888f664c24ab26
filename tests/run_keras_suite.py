"""Keras's own tests of its recurrent layers, run on Recurra's classes.

    python tests/run_keras_suite.py [pytest arguments]

The tests ship inside the keras wheel. Here Recurra's classes stand where Keras's are looked up, and
the run fails if the engine was not called for every cell, so a pass cannot come from the stock
classes by mistake.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")

SUITES = (
    "keras.src.layers.rnn.lstm_test",
    "keras.src.layers.rnn.gru_test",
    "keras.src.layers.rnn.simple_rnn_test",
)


class OnRecurra:
    """Pytest plugin: puts Recurra's classes in place and counts the engine's calls by cell."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def pytest_configure(self, config: pytest.Config) -> None:
        """Before Keras's tests are imported."""
        import keras
        from keras.src import layers as keras_layers

        from recurra import layers
        from recurra.hosts import jax as host

        for name in ("LSTM", "GRU", "SimpleRNN"):
            for module in (keras.layers, keras_layers):
                setattr(module, name, getattr(layers, name))
        # The tests read layers back from configurations; those are to be Recurra's as well.
        reading = layers.recurra_classes()
        reading.__enter__()
        config.add_cleanup(lambda: reading.__exit__(None, None, None))

        engine = host.scan

        def counted(configuration: Any, *args: Any, **kwargs: Any) -> Any:
            self.calls[configuration.cell] += 1
            return engine(configuration, *args, **kwargs)

        host.scan = counted

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say how often the engine was called."""
        calls = ", ".join(f"{cell} {count}" for cell, count in sorted(self.calls.items()))
        terminalreporter.write_line(f"Recurra's engine was called by cell: {calls or 'never'}")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail a run that did not test Recurra."""
        from recurra.cells import CELLS

        complete = not session.config.option.keyword and exitstatus == 0
        if complete and set(self.calls) != set(CELLS):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def main(arguments: list[str]) -> int:
    """Run the suites; the exit code is pytest's."""
    # Without this project's configuration, whose strictness is not meant for Keras's tests.
    options = ["-c", os.devnull, "--rootdir", os.getcwd(), "-p", "no:cacheprovider", "--pyargs"]
    return int(pytest.main([*options, *SUITES, *arguments], plugins=[OnRecurra()]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
