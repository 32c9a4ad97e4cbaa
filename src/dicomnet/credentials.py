"""A certificate and its key, as files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

PathLike = str | os.PathLike[str]
Password = str | bytes | Callable[[], str | bytes] | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate and its key, in PEM files. Certificates that lead to the authority follow it in its file.

    ``key``: None if it is in the same file. ``password``: for an encrypted key; a function is called when it is needed.
    """

    certificate: PathLike
    key: PathLike | None = None
    password: Password = None

    def __repr__(self) -> str:  # passwords stay out of logs
        return f"Credentials({os.fspath(self.certificate)!r})"
