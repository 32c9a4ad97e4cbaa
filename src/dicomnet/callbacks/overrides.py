"""Callbacks are checked when their class is made: a wrong signature would show only when the message comes."""

from __future__ import annotations

import inspect
from typing import Any


def check_overrides(cls: type, base: type) -> None:
    """Raises TypeError for a callback of ``base`` that ``cls`` overrides by what cannot be called as it is."""
    for name in dir(base):
        if name.startswith("on_"):
            override = inspect.getattr_static(cls, name)
            if override is not inspect.getattr_static(base, name):
                _check(f"{cls.__name__}.{name}", override, getattr(base, name))


def _check(name: str, override: Any, expected: Any) -> None:
    parameters = list(inspect.signature(expected).parameters)
    wanted = f"{name} must be a method ({', '.join(parameters)})"
    if inspect.iscoroutinefunction(override):
        raise TypeError(f"{wanted}, not a coroutine function")
    if not inspect.isfunction(override):
        raise TypeError(f"{wanted}, not a {type(override).__name__}")
    try:
        inspect.signature(override).bind(*parameters)
    except TypeError:
        raise TypeError(f"{wanted}; this one takes {inspect.signature(override)}") from None
