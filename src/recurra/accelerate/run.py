"""`recurra run`: an unmodified Keras program on Recurra's layers."""

from __future__ import annotations

import atexit
import importlib
import logging
import sys
from typing import Any

from recurra.accelerate import hook
from recurra.accelerate.children import Children
from recurra.accelerate.program import Program, ProgramError, raise_as_program

_log = logging.getLogger("recurra")


class Run:
    """One run of a program.

    Args:
        program: what to run; None to `prepare` only.
        strict: as for `recurra.enable`.
        report: whether to print a table of the recurrent layers when the interpreter ends.
    """

    def __init__(
        self, program: Program | None, *, strict: bool = False, report: bool = False
    ) -> None:
        self._program, self._strict, self._report = program, strict, report
        self._record: Any = None
        self._watching: Any = None
        self._remarks: list[str] = []
        self._children = Children(strict=strict)

    def start(self) -> None:
        """Run the program, and end as Python would have ended.

        Raises:
            ProgramError: if there is nothing to run.
            BaseException: what the program raised; its traceback has been printed by then.
        """
        self.prepare()
        if self._report:
            # Imported before: what Rich runs while it is imported would have Python forget, at its
            # end, that a KeyboardInterrupt was the reason.
            importlib.import_module("recurra.accelerate.report")
            # Registered first, so called last: after the program's own, and after its threads.
            atexit.register(self._show_report)
        try:
            assert self._program is not None
            self._program.run()
        except ProgramError:
            atexit.unregister(self._show_report)
            raise
        except BaseException as error:
            failure = error
        else:
            return
        self._shorten(failure)
        raise_as_program(failure)

    def prepare(self) -> None:
        """Have this process enable Recurra as soon as Keras is imported, and those it starts."""
        if "keras" in sys.modules:
            # Something that Python itself imports at startup has done so.
            self._enable()
        else:
            hook.KerasImported(self._choose_framework, self._enable, self._tell_legacy).install()
        self._children.install()

    def _shorten(self, error: BaseException) -> None:
        """Leave only strict mode's own words, if they are why the program failed.

        Keras buries them in an account of the call's arguments.
        """
        usage = sys.modules.get("recurra.layers.usage")
        refusal = None if usage is None else usage.refusal()
        if refusal is not None and type(error) is ValueError and refusal in str(error):
            error.args = (refusal,)

    def _choose_framework(self) -> None:
        remark = hook.choose_framework()
        if remark:
            _log.warning("%s", remark)

    def _enable(self) -> None:
        from recurra.accelerate import enable

        keras = sys.modules["keras"]
        version = str(getattr(keras, "__version__", "0"))
        if int(version.partition(".")[0] or 0) < 3:
            self._tell(f"This is Keras {version}, which Recurra leaves alone: it needs Keras 3.")
            return
        if self._report and self._record is None:
            from recurra.layers import usage

            # Until the interpreter ends; a context that is let go of would end at once.
            self._watching = usage.watch()
            self._record = self._watching.__enter__()
        enable(self._strict)

    def _tell_legacy(self) -> None:
        self._tell(
            "tf_keras is the legacy Keras 2, whose layers Recurra leaves alone; import keras, or "
            "unset TF_USE_LEGACY_KERAS, to run on Keras 3."
        )

    def _tell(self, remark: str) -> None:
        _log.warning("%s", remark)
        self._remarks.append(remark)

    def _show_report(self) -> None:
        rows = [] if self._record is None else self._record.rows()
        remarks = list(self._remarks)
        if "keras" not in sys.modules:
            remarks.append("The program has not imported Keras, so there was nothing to replace.")
        elif not rows and self._record is not None:
            remarks.append("The program has called no recurrent layer.")
        elif any(row.engine != "keras" for row in rows):
            note = _engine_note()
            if note is not None:
                remarks.insert(0, note)
        if self._children.started:
            remarks.append(
                "Processes that the program started by multiprocessing ran with Recurra too; their "
                "layers are not listed here."
            )
        from recurra.accelerate.report import show

        show(rows, remarks)


def prepare(strict: bool) -> None:
    """In a process that a program under `recurra run` has started."""
    Run(None, strict=strict).prepare()


def _engine_note() -> str | None:
    """How Keras's framework calls the engine, if there is anything to know about that."""
    from recurra import hosts

    framework = sys.modules["keras"].backend.backend()
    host: Any = hosts.get(framework)
    note = None if host is None else host.engine_note()
    return None if note is None else f"How {framework} calls the engine: {note}."
