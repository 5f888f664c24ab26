"""Keras's own tests of its recurrent layers, run with Recurra enabled.

    KERAS_BACKEND=torch python tests/run_keras_suite.py [pytest arguments]

The tests ship inside the keras wheel. `recurra.enable()` puts Recurra's classes where Keras's are
looked up. The run fails if the engine was never called for one of its cells, so a pass cannot come
from stock classes throughout; that every single test ran on the engine is not checked, and those of
cells that the engine does not have cannot. Tests that cannot hold are excused one by one, each with
its reason; an excused test that passes, or that does not exist, fails the run.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

PACKAGE = "keras.src.layers.rnn"
SUITES = tuple(
    f"{PACKAGE}.{name}_test"
    for name in (
        "lstm",
        "gru",
        "simple_rnn",
        "rnn",
        "bidirectional",
        "time_distributed",
        "stacked_rnn_cells",
        "conv_lstm1d",
        "conv_lstm2d",
        "conv_lstm3d",
        "conv_lstm",
        "dropout_rnn_cell",
    )
)

# By host, the tests that are excused: "<file>::<class>::<test>" and why. On stock Keras 3.15.1 all
# of these tests pass or skip on all three hosts.
EXCUSED: dict[str, dict[str, str]] = {"jax": {}, "torch": {}, "tensorflow": {}}


class OnRecurra:
    """Pytest plugin: enables Recurra and counts the engine's calls by cell."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.excused = EXCUSED.get(host, {})
        self.calls: Counter[str] = Counter()
        self.unknown: list[str] = []

    def pytest_configure(self, config: pytest.Config) -> None:
        """Before Keras's tests are imported."""
        import recurra
        from recurra import hosts

        enabled = recurra.enable()
        config.add_cleanup(lambda: enabled.__exit__(None, None, None))

        host = hosts.get(self.host)
        if host is None:
            raise pytest.UsageError(f"Recurra has no host for KERAS_BACKEND={self.host}")
        scan, scan_many = host.scan, host.scan_many

        def counted(configuration: Any, *args: Any, **kwargs: Any) -> Any:
            self.calls[configuration.cell] += 1
            return scan(configuration, *args, **kwargs)

        def counted_many(scans: Any) -> Any:
            self.calls.update(configuration.cell for configuration, _ in scans)
            return scan_many(scans)

        host.scan, host.scan_many = counted, counted_many  # type: ignore[attr-defined]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Expect excused tests to fail."""
        by_name = {_name(item): item for item in items}
        # Of the files that are run, so that a single one can be.
        files = {name.partition("::")[0] for name in by_name}
        for name, reason in self.excused.items():
            if name in by_name:
                by_name[name].add_marker(pytest.mark.xfail(reason=reason, strict=True))
            elif name.partition("::")[0] in files:
                self.unknown.append(name)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say how often the engine was called, and what was excused."""
        calls = ", ".join(f"{cell} {count}" for cell, count in sorted(self.calls.items()))
        terminalreporter.write_line(
            f"On {self.host} Recurra's engine was called by cell: {calls or 'never'}"
        )
        for name, reason in self.excused.items():
            terminalreporter.write_line(f"Excused: {name}: {reason}")
        for name in self.unknown:
            terminalreporter.write_line(f"There is no such test to excuse: {name}")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail a run that did not test Recurra."""
        from recurra.cells import CELLS

        option = session.config.option
        chosen = option.keyword or len(option.file_or_dir) < len(SUITES)
        complete = exitstatus == 0 and not chosen
        if self.unknown or (complete and set(self.calls) != set(CELLS)):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _name(item: Any) -> str:
    # Not the node's id: its file part depends on where pytest takes the root to be.
    return "::".join([item.module.__name__.rpartition(".")[2], item.cls.__name__, item.name])


def main(arguments: list[str]) -> int:
    """Run the suites; the exit code is pytest's."""
    # Without this project's configuration, whose strictness is not meant for Keras's tests.
    options = ["-c", os.devnull, "--rootdir", os.getcwd(), "-p", "no:cacheprovider", "--pyargs"]
    suites = () if any(each.startswith(PACKAGE) for each in arguments) else SUITES
    plugin = OnRecurra(os.environ["KERAS_BACKEND"])
    return int(pytest.main([*options, *suites, *arguments], plugins=[plugin]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
