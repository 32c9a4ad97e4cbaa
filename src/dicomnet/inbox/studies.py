"""When a study is complete: its associations have ended, and nothing of it has come for a while.

DICOM has no message that says so (PS3.4 B): an association that is released, then quiet, is as near as one gets. What
comes later makes the study complete once more.

One idea: in each process a ``Reporter`` notes what its associations store and tells about it now and then, on a channel
that all processes share; one ``Studies`` reads it, and knows by deadlines, without a clock of its own, what is due.
"""

from __future__ import annotations

import json
import math
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dicomnet.inbox.folder import Kept
from dicomnet.inbox.layout import Layout
from dicomnet.scan import PATIENT_ID, STUDY_INSTANCE_UID

MOST: Final = 100_000  # studies that are known at once: 50 MB, and more than a day brings
_TELL: Final = 1.0  # seconds between two reports on a study that is coming in
_LOOK: Final = 5.0  # seconds until it is looked again whether the process of an association still runs
_LONGEST: Final = 256  # characters of a value; the standard has 64
_WAITING: Final = 1000  # reports that may wait
_BUFFER: Final = 1 << 16  # bytes of a report at most, and of those that wait, in sockets


@dataclass(frozen=True, slots=True)
class Study:
    """A study as it came in. ``folder``: below the inbox. ``count``, ``size``: since it was complete the last time.

    ``patient_id`` and ``uid`` are what the peer sent, read as Latin-1; ``calling_ae`` is who sent the last of it.
    """

    uid: str
    folder: str
    patient_id: str
    calling_ae: str
    count: int
    size: int  # bytes

    @property
    def key(self) -> tuple[str, str]:
        return self.uid, self.folder

    def with_more(self, more: Study) -> Study:
        """The same study with what has come since."""
        return replace(more, count=self.count + more.count, size=self.size + more.size)


# --- telling --------------------------------------------------------------------------------------------------------


class Channel:
    """Reports from any thread and process to one reader. Made before the processes are forked.

    ``processes``: more than one needs ``os.fork``; raises ValueError where there is none.
    """

    def __init__(self, processes: int = 1) -> None:
        self._queue: queue.Queue[bytes] | None = None
        if processes == 1:
            self._queue = queue.Queue(_WAITING)
            return
        if not hasattr(os, "fork"):
            raise ValueError("on this system a study that several workers receive cannot be followed; use one worker")
        # Datagrams: what several processes write at once does not mix, and a full buffer makes them wait.
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)

    def send(self, report: list[Any]) -> None:
        """Wait while there are too many unread ones."""
        data = json.dumps(report).encode()
        if self._queue is not None:
            self._queue.put(data)
        else:
            self._writer.send(data)

    def receive(self, seconds: float) -> list[Any] | None:
        """The next report, or None if there is none within this time."""
        limit = None if seconds == math.inf else max(seconds, 0.001)
        try:
            if self._queue is not None:
                return list(json.loads(self._queue.get(timeout=limit)))
            self._reader.settimeout(limit)
            return list(json.loads(self._reader.recv(_BUFFER)))
        except (queue.Empty, TimeoutError):
            return None

    def close(self) -> None:
        """Nobody sends any more. Safe to call twice."""
        if self._queue is None:
            self._reader.close()
            self._writer.close()


@dataclass(slots=True)
class _Note:
    """What has been stored of a study and not been told yet. ``told``: when something was."""

    told: float
    count: int = 0
    size: int = 0


class Reporter:
    """Tells of each association what it has stored. ``stored`` costs a look into a dictionary, mostly."""

    def __init__(self, channel: Channel, layout: Layout) -> None:
        self._channel = channel
        self._layout = layout
        self._notes: dict[int, dict[tuple[str, str, str], _Note]] = {}  # by association, of which each has one thread

    def stored(self, association: Any, kept: Kept, size: int) -> None:
        """Something new of a study, of ``size`` bytes, has come on ``association``."""
        notes = self._notes.get(id(association))
        if notes is None:
            notes = self._notes[id(association)] = {}
        get = kept.values.get
        key = get(STUDY_INSTANCE_UID, ""), kept.folder, get(PATIENT_ID, "")
        now = time.monotonic()
        note = notes.get(key)
        if note is None:
            note = notes[key] = _Note(now - _TELL)
        note.count += 1
        note.size += size
        if now - note.told >= _TELL:
            self._tell(association, key, note)
            note.told = now

    def ended(self, association: Any) -> None:
        """The association is over."""
        notes = self._notes.pop(id(association), None)
        if notes is None:
            return
        for key, note in notes.items():
            if note.count:
                self._tell(association, key, note)
        self._channel.send(["ended", os.getpid(), id(association)])

    def _tell(self, association: Any, key: tuple[str, str, str], note: _Note) -> None:
        uid, folder, patient_id = key
        study = (uid[:_LONGEST], self._layout.study_folder(folder), patient_id[:_LONGEST], association.calling_ae)
        self._channel.send(["stored", os.getpid(), id(association), *study, note.count, note.size])
        note.count = note.size = 0


class Census:
    """Tells that a study has come, for no more than counting: by its folder, where each study has one of its own.

    To ask whether ``folder in folders`` is all that it costs for an instance.
    """

    def __init__(self, channel: Channel, layout: Layout) -> None:
        self.folders: set[str] = set()  # that were told
        self._channel = channel
        self._layout = layout

    def came(self, kept: Kept) -> None:
        """The first instance, or one of the first, went to this folder."""
        if len(self.folders) >= MOST:
            self.folders.clear()
        self.folders.add(kept.folder)
        uid = kept.values.get(STUDY_INSTANCE_UID, "")[:_LONGEST]
        self._channel.send(["came", uid, self._layout.study_folder(kept.folder)])

    def ended(self) -> None:
        """An association is over that has brought something."""
        self._channel.send(["came"])


# --- knowing --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A study that is coming in. ``last``: when something of it did; ``associations``: that may bring more."""

    study: Study
    last: float
    associations: set[tuple[int, int]] = field(default_factory=set)


class Studies:
    """Which studies are complete. Time is an argument. ``quiet``: seconds without an instance.

    ``seen``: how many different ones there were, up to MOST. ``seconds``: from the first instance to the last, about.
    """

    def __init__(self, quiet: float) -> None:
        self._quiet = quiet
        self._open: dict[tuple[str, str], _Open] = {}
        self._by_association: dict[tuple[int, int], set[tuple[str, str]]] = {}
        self._known: set[int] = set()  # hashes of what was seen
        self._first = self._last = 0.0
        self._due = math.inf

    @property
    def seen(self) -> int:
        return len(self._known)

    @property
    def seconds(self) -> float:
        return self._last - self._first

    @property
    def deadline(self) -> float:
        """When ``complete`` is to be called at the latest."""
        return self._due

    def stored(self, association: tuple[int, int], study: Study, now: float) -> bool:
        """More of ``study`` came; False if there are so many that this one cannot be followed."""
        self._first, self._last = self._first or now, now
        if len(self._known) < MOST:
            self._known.add(hash(study.uid))
        held = self._open.get(study.key)
        if held is not None:
            held.study = held.study.with_more(study)
        elif len(self._open) < MOST:
            held = self._open[study.key] = _Open(study, now)
        else:
            return False
        held.last = now
        held.associations.add(association)
        self._by_association.setdefault(association, set()).add(study.key)
        return True

    def came(self, study: tuple[str, str] | None, now: float) -> None:
        """Something came, of this study if that is known: for ``seen`` and ``seconds`` alone."""
        self._first, self._last = self._first or now, now
        if study is not None and len(self._known) < MOST:
            self._known.add(hash(study))

    def ended(self, association: tuple[int, int], now: float) -> None:
        """The association brings nothing more."""
        for key in self._by_association.pop(association, ()):
            held = self._open[key]
            held.associations.discard(association)
            if not held.associations:
                self._due = min(self._due, max(held.last + self._quiet, now))

    def complete(self, now: float) -> list[Study]:
        """Those that are complete by now, and are forgotten."""
        if now < self._due:
            return []
        waiting = {key: held.last + self._quiet for key, held in self._open.items() if not held.associations}
        done = [key for key, due in waiting.items() if due <= now]
        self._due = min((due for due in waiting.values() if due > now), default=math.inf)
        return [self._open.pop(key).study for key in done]

    def end_those_of(self, is_gone: Callable[[int], bool], now: float) -> None:
        """Associations whose process ended without a word are over."""
        gone = {pid for pid in {pid for pid, _ in self._by_association} if is_gone(pid)}
        for association in [one for one in self._by_association if one[0] in gone]:
            self.ended(association, now)

    @property
    def has_open_associations(self) -> bool:
        return bool(self._by_association)

    def rest(self) -> list[Study]:
        """All that are left: nothing more will come."""
        left = [held.study for held in self._open.values()]
        self._open.clear()
        self._by_association.clear()
        self._due = math.inf
        return left


class Collector:
    """Reads the channel on a thread of its own, and calls ``complete(study)`` there for each study that is."""

    def __init__(
        self, channel: Channel, quiet: float, complete: Callable[[Study], None], lost: Callable[[Study], None]
    ) -> None:
        self.studies = Studies(quiet)
        self._channel = channel
        self._complete = complete
        self._lost = lost
        self._thread = threading.Thread(target=self._run, name="dicomnet studies", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """All associations are over: what has come is complete. Safe to call twice."""
        if self._thread.is_alive():
            self._channel.send(["over"])
            self._thread.join()
        self._channel.close()

    def _run(self) -> None:
        studies, look = self.studies, math.inf
        while True:
            report = self._channel.receive(min(studies.deadline, look) - time.monotonic())
            now = time.monotonic()
            match report:
                case ["over"]:
                    break
                case ["stored", int(pid), int(number), *about]:
                    study = Study(*about)
                    if not studies.stored((pid, number), study, now):
                        self._lost(study)
                case ["came", *about]:
                    studies.came((about[0], about[1]) if about else None, now)
                case ["ended", int(pid), int(number)]:
                    studies.ended((pid, number), now)
            if now >= look:
                studies.end_those_of(_is_gone, now)
                look = math.inf
            if look == math.inf and studies.has_open_associations:
                look = now + _LOOK
            for study in studies.complete(now):
                self._complete(study)
        for study in studies.rest():
            self._complete(study)


def _is_gone(pid: int) -> bool:
    if pid == os.getpid() or os.name != "posix":  # elsewhere there is one process, this one
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
