"""Running a program as `python script.py` or `python -m module` would.

    program = find("train.py", ["--epochs", "3"])
    program.run()

The program sees its own __main__, sys.argv, sys.path[0] and __file__, and its exceptions come
without a frame of Recurra's.
"""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn

_former_mains: list[ModuleType] = []  # alive, since Python empties a module that it throws away


class ProgramError(Exception):
    """There is nothing to run; the message says why."""


@dataclass(frozen=True)
class Program:
    """A program that has been found.

    Attributes:
        arguments: its sys.argv; the first is set by `run` for modules.
        module: the module's name, or None for a path.
        path: of a script, or of a folder or zip file with a __main__.py; None for a module.
    """

    arguments: tuple[str, ...]
    module: str | None = None
    path: str | None = None

    def run(self) -> None:
        """Run the program; whatever it raises, SystemExit too, is raised here."""
        main = ModuleType("__main__")
        vars(main).update(__builtins__=builtins, __annotations__={})
        _former_mains.append(sys.modules["__main__"])
        sys.modules["__main__"] = main
        sys.argv[:] = self.arguments
        try:
            code = self._load(main)
        except SyntaxError as error:
            error.__traceback__ = None  # as Python shows it: the place in the program only
            raise
        exec(code, vars(main))

    def _load(self, main: ModuleType) -> CodeType:
        """The code to run in the module `main`, with that module's attributes set."""
        if self.module is not None:
            _set_first_path(os.getcwd())
            spec: Any = _spec_of_module(self.module)
        else:
            assert self.path is not None
            if not _is_script(self.path):
                _set_first_path(os.path.abspath(self.path))
                spec = _main_in(os.path.abspath(self.path))
            else:
                _set_first_path(os.path.dirname(os.path.realpath(self.path)))
                return _load_script(main, os.path.abspath(self.path))
        loader = spec.loader
        code = loader.get_code(spec.name)
        if code is None:
            raise ProgramError(f"{spec.name} has no Python code that could be run.")
        if self.module is not None:
            sys.argv[0] = spec.origin or self.module
        main.__spec__ = spec
        main.__loader__ = loader
        main.__package__ = spec.parent or ""
        main.__file__ = spec.origin
        vars(main)["__cached__"] = spec.cached
        return code


def find(target: str, arguments: Sequence[str], *, module: bool = False) -> Program:
    """The program that a command line names, without running anything of it.

    Args:
        target: path of a script, of a folder or zip file with a __main__.py; or a module's name.
        arguments: what the program gets as sys.argv[1:].
        module: whether `target` is a module's name.

    Raises:
        ProgramError: if there is no such script, or a folder has no __main__.py. Whether there is
            such a module is seen when it is run, because its packages are imported for that.
    """
    if module:
        return Program((target, *arguments), module=target)
    if not os.path.exists(target):
        hint = ""
        if not target.endswith(".py") and os.path.exists(f"{target}.py"):
            hint = f" Did you mean {target}.py?"
        elif importlib.util.find_spec(target.partition(".")[0]) if _is_name(target) else False:
            hint = f" To run a module: -m {target}"
        raise ProgramError(f"there is no file {target!r}.{hint}")
    if os.path.isdir(target) and _main_in(target) is None:
        raise ProgramError(
            f"{target!r} is a folder without a __main__.py. Name a script in it, or a module by -m."
        )
    return Program((target, *arguments), path=target)


def _is_name(target: str) -> bool:
    return all(part.isidentifier() for part in target.split("."))


def _is_script(path: str) -> bool:
    return os.path.isfile(path) and _main_in(path) is None


def _main_in(path: str) -> ModuleSpec | None:
    """The spec of __main__ in a folder or zip file; None if there is none."""
    importer: Any = pkgutil.get_importer(path)
    spec: ModuleSpec | None = None if importer is None else importer.find_spec("__main__")
    return spec


def _spec_of_module(name: str) -> ModuleSpec:
    """The spec to run for `python -m name`: a package's __main__."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a package imports something else that is missing
        spec = None
    except ValueError:  # a module without a spec
        spec = None
    if spec is None:
        raise ProgramError(f"there is no module named {name}.")
    if spec.submodule_search_locations is not None:
        inner = f"{name}.__main__"
        found = importlib.util.find_spec(inner)
        if found is None:
            raise ProgramError(
                f"{name} is a package without a __main__ module, so it cannot be run."
            )
        return found
    if not hasattr(spec.loader, "get_code"):
        raise ProgramError(f"{name} has no Python code that could be run.")
    return spec


def _load_script(main: ModuleType, path: str) -> CodeType:
    main.__file__ = path
    main.__loader__ = SourceFileLoader("__main__", path)
    vars(main).update(__spec__=None, __package__=None, __cached__=None)
    with io.open_code(path) as file:
        source = file.read()
    # The program's own future imports, not this file's.
    return compile(source, path, "exec", dont_inherit=True)


def _set_first_path(folder: str) -> None:
    if not sys.flags.safe_path:  # with -P or -I Python has put nothing there
        sys.path[0] = folder


def raise_as_program(error: BaseException) -> NoReturn:
    """Let the interpreter end as it does for an exception that a program has not caught.

    The exception is shown here, by the program's own sys.excepthook and without Recurra's frames;
    raised it is too, because only then the interpreter's exit is right (a signal for
    KeyboardInterrupt, 1 else).

    Args:
        error: what the program raised.
    """
    if not isinstance(error, SystemExit):
        cut = _program_frames(error.__traceback__)
        # The hook may look at either.
        error.__traceback__ = cut
        sys.excepthook(type(error), error, cut)
        sys.excepthook = lambda *_: None
    raise error


def _program_frames(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame behind `Program.run`."""
    ours = Program.run.__code__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        traceback = traceback.tb_next
        if code is ours:
            break
    return traceback
