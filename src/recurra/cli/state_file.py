"""The file in which a stream's state waits for the next run."""

from __future__ import annotations

import os
from typing import Any

from recurra.cli.failures import CommandError
from recurra.cli.files import replacing


class StateFile:
    """A snapshot in a file, which is replaced as a whole or not at all.

    Args:
        path: where; need not be there yet.

    Raises:
        CommandError: if it could not be written later.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        folder = os.path.dirname(os.path.realpath(path))
        if os.path.isdir(path):
            raise CommandError(f"{path}: is a folder; --resume needs a file's name.")
        if not os.path.isdir(folder):
            raise CommandError(f"{path}: there is no folder {folder} to save the state in.")
        if not os.access(folder, os.W_OK):
            raise CommandError(f"{path}: the folder cannot be written, so no state can be saved.")

    def restore(self, session: Any) -> bool:
        """Put the saved state into a session; False if there is none yet.

        Raises:
            CommandError: if the file is damaged or of another model; it is left as it is.
        """
        from recurra.runtime.errors import SnapshotError

        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return False
        try:
            session.restore(data)
        except SnapshotError as error:
            raise CommandError(
                f"{self.path}: {error} The file is left as it is; name another one to begin anew."
            ) from None
        return True

    def save(self, snapshot: bytes) -> None:
        """Replace the file's contents."""
        with replacing(self.path) as file:
            file.write(snapshot)
