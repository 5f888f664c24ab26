"""How `recurra run` leaves Typer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recurra.accelerate.run import Run


class Start(BaseException):
    """Carries what to run out of Typer, which handles exceptions that are derived from others."""

    def __init__(self, run: Run) -> None:
        self.run = run
