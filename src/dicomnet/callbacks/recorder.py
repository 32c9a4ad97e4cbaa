"""Who called what and who was told what: ``DicomNet`` classes that write down each call and each callback, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dicomnet.callbacks.net import DicomNet

_CALLS: Final = ("listen", "connect", "accept", "close", "close_forced")
_CLASS_CALLS: Final = ("startup", "shutdown")


@dataclass(frozen=True, slots=True)
class Entry:
    """One call or callback. ``who``: as given to ``Recorder.watch``; ``is_call``: the program called the library,
    which otherwise told the program; ``depth``: 1 for a call out of a callback of the same thread, else 0.

    ``when``: seconds since the recorder was made; ``thread``: identifier of the thread.
    """

    who: str
    is_call: bool
    name: str
    arguments: tuple[Any, ...]
    depth: int
    when: float
    thread: int


class Recorder:
    """Makes classes that are watched. ``entries``: what has been written down; ``changed``: notified after each."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.changed = threading.Condition()
        self._started = time.perf_counter()
        self._inside = threading.local()

    def watch(self, cls: type[DicomNet], who: str) -> type[Any]:
        """A class like ``cls`` whose calls and callbacks are written down as those of ``who``."""
        watched: dict[str, Any] = {}
        for name in dir(cls):
            if name.startswith("on_") and name != "on_private_key_password":
                watched[name] = self._callback(cls, who, name)
            elif name.startswith("send_") or name in _CALLS:
                watched[name] = self._call(cls, who, name)
            elif name in _CLASS_CALLS:
                watched[name] = self._class_call(cls, who, name)
        return type(cls.__name__, (cls,), watched)

    def write(self, who: str, name: str, *arguments: Any, is_call: bool = True) -> None:
        """Write down something of the program's own."""
        depth = getattr(self._inside, "depth", 0)
        with self.changed:
            when = time.perf_counter() - self._started
            self.entries.append(Entry(who, is_call, name, arguments, depth, when, threading.get_ident()))
            self.changed.notify_all()

    def _callback(self, cls: type[DicomNet], who: str, name: str) -> Callable[..., Any]:
        base = getattr(cls, name)

        def told(self: DicomNet, *arguments: Any) -> Any:
            recorder.write(who, name, *arguments, is_call=False)
            before = getattr(recorder._inside, "depth", 0)
            recorder._inside.depth = before + 1
            try:
                return base(self, *arguments)
            finally:
                recorder._inside.depth = before

        recorder = self
        told.__name__ = name
        return told

    def _call(self, cls: type[DicomNet], who: str, name: str) -> Callable[..., Any]:
        base = getattr(cls, name)

        def called(net: DicomNet, *arguments: Any, **named: Any) -> Any:
            self.write(who, name, *arguments, *named.values())
            return base(net, *arguments, **named)

        called.__name__ = name
        return called

    def _class_call(self, cls: type[DicomNet], who: str, name: str) -> Any:
        base = getattr(cls, name)

        def called(_cls: type[DicomNet]) -> Any:
            self.write(who, name)
            return base()

        called.__name__ = name
        return classmethod(called)
