"""What is still to be sent, in groups that fit one association each (PS3.8 9.3.2.2: 128 presentation contexts).

One idea: a file is opened once, when an association has room for it, and what was read goes out. Before an association
is requested so many of the next files are looked at as can be in a moment, for the contexts that they need; what was
read of those is kept, within a limit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from dicomnet.dataset import EncodedDataset
from dicomnet.errors import InvalidDataset
from dicomnet.files import READ_WHOLE, Found, dataset_in
from dicomnet.part10 import HEAD
from dicomnet.sender.outcome import Outcome, Skipped
from dicomnet.ul.negotiation import MAX_CONTEXTS

if TYPE_CHECKING:
    from dicomnet.dimse.status import Status

Pair = tuple[str, str]  # SOP class, transfer syntax

_KEPT: Final = 4 << 20  # bytes read of files whose turn has not come
_MOST_GROUPS: Final = 16  # that are remembered although they have no files left


@dataclass(slots=True, eq=False)
class File:
    """A file to send. ``dataset`` is None if it is to be read (again) when it goes: thousands wait."""

    found: Found
    pair: Pair
    size: int  # of the data set, in bytes
    dataset: EncodedDataset | None
    sop_instance_uid: str
    attempts: int = 0  # how often it was sent
    failures: int = 0  # attempts that count: for which nothing else was to blame
    suspect: bool = False  # an association died of it, or of one that was sent with it
    due: float = math.inf  # when its time is over: it has been tried, and there is a deadline
    derived_from: str = ""  # the file's own SOP Instance UID, if it goes as another instance

    def goes_as(self, own: str, sent: str) -> None:
        """The file's own SOP Instance UID, and that of what goes out: another one if it is compressed with loss."""
        self.sop_instance_uid, self.derived_from = sent, own if own != sent else ""

    def outcome(
        self, status: Status | None, error: Exception | None = None, comment: str = "", *, associated: bool = True
    ) -> Outcome:
        """How it ended."""
        return Outcome(
            *(self.found.path, status, error, self.attempts, self.size, comment, associated),
            *(self.pair[0], self.sop_instance_uid, self.pair[1], False, self.found.stamp),
            self.derived_from,
        )

    @property
    def kept(self) -> int:
        """Bytes of it in memory."""
        return self.size if self.dataset is not None and self.size <= READ_WHOLE else 0


@dataclass(slots=True, eq=False)
class Group:
    """Pairs that are proposed together, in the order in which they came, and the files that need them."""

    pairs: dict[Pair, None] = field(default_factory=dict)
    files: deque[File] = field(default_factory=deque)
    classes: set[str] = field(default_factory=set)

    def contexts(self, pair: Pair, fallbacks: int) -> int:
        """How many presentation contexts it needs with that one, and with so many more for each SOP class."""
        return len(self.pairs) + 1 + fallbacks * len(self.classes | {pair[0]})


class Stock:
    """Not for several threads at once: its owner has the lock. ``look`` alone touches files and needs none.

    ``fallbacks``: presentation contexts for each SOP class, beside one for each pair.
    """

    def __init__(self, fallbacks: int = 0) -> None:
        self._fallbacks = fallbacks
        self._found: deque[Found] = deque()  # not looked at
        self._again: deque[File] = deque()  # to be tried again, when all others have been tried
        self._groups: list[Group] = []
        self._group_of: dict[Pair, Group] = {}
        self._kept = 0

    # --- filling ----------------------------------------------------------------------------------------------------

    def add(self, found: Iterable[Found]) -> None:
        self._found.extend(found)

    def retry(self, file: File) -> None:
        """It is to be tried again after all others."""
        file.dataset = None
        self._again.append(file)

    def put_back(self, file: File) -> None:
        """It was taken and not sent."""
        self._kept += file.kept
        self.group_for(file.pair).files.appendleft(file)

    def put(self, file: File) -> None:
        """It was looked at."""
        self._kept += file.kept
        self.group_for(file.pair).files.append(file)

    def group_for(self, pair: Pair) -> Group:
        """The group of files with that pair."""
        group = self._group_of.get(pair)
        if group is None:
            if not self._groups or self._groups[-1].contexts(pair, self._fallbacks) > MAX_CONTEXTS:
                self._forget()
                self._groups.append(Group())
            group = self._group_of[pair] = self._groups[-1]
            group.pairs[pair] = None
            group.classes.add(pair[0])
        return group

    def _forget(self) -> None:
        """A folder may hold any number of classes, but not forever in memory."""
        if len(self._groups) >= _MOST_GROUPS:
            self._groups = [group for group in self._groups if group.files]
            self._group_of = {pair: group for group in self._groups for pair in group.pairs}

    # --- taking -----------------------------------------------------------------------------------------------------

    @property
    def unseen(self) -> int:
        """Files that were not looked at."""
        return len(self._found)

    def __len__(self) -> int:
        return len(self._found) + len(self._again) + sum(len(group.files) for group in self._groups)

    @property
    def room(self) -> int:
        """The longest file that may be read whole although it is not yet its turn, in bytes."""
        return min(READ_WHOLE, max(_KEPT - self._kept, HEAD))

    def next_found(self) -> Found | None:
        """One to be looked at."""
        return self._found.popleft() if self._found else None

    def next_of(self, group: Group | None, pairs: Container[Pair] | None = None) -> File | None:
        """The next one of ``group`` that has been looked at, if it needs one of ``pairs``."""
        if group is None or not group.files or (pairs is not None and group.files[0].pair not in pairs):
            return None
        file = group.files.popleft()
        self._kept -= file.kept
        return file

    def next_group(self) -> Group | None:
        """The group of which most files wait, of those that have been looked at."""
        group = max(self._groups, key=lambda group: len(group.files), default=None)
        return group if group is not None and group.files else None

    def likely_group(self) -> Group | None:
        """The group of the next file, most likely. None: nothing is known yet."""
        return self.next_group() or (self._groups[-1] if self._groups else None)

    def overdue(self, now: float) -> list[File]:
        """Those whose time is over; they do not wait any more."""
        late = [file for waiting in self._waiting() for file in waiting if file.due <= now]
        for file in late:
            for waiting in self._waiting():
                if file in waiting:
                    waiting.remove(file)
                    self._kept -= file.kept if waiting is not self._again else 0
        return late

    @property
    def next_due(self) -> float:
        """When the time of the next one is over."""
        return min((file.due for waiting in self._waiting() for file in waiting), default=math.inf)

    def _waiting(self) -> list[deque[File]]:
        return [self._again, *(group.files for group in self._groups)]

    def next_again(self) -> File | None:
        return self._again.popleft() if self._again else None


def look(found: Found, most: int = READ_WHOLE) -> File | Outcome | Skipped:
    """What is to be sent, read if it has up to ``most`` bytes; or its outcome if it cannot be sent."""
    try:
        dataset = dataset_in(found, most)
    except FileNotFoundError as error:
        return Skipped(found.path) if found.fleeting else Outcome(found.path, error=error, stamp=found.stamp)
    except (OSError, InvalidDataset) as error:
        return Outcome(found.path, error=error, stamp=found.stamp)
    if dataset is None:
        return Skipped(found.path)
    later = most < dataset.size <= READ_WHOLE
    pair = dataset.sop_class_uid, dataset.transfer_syntax
    return File(found, pair, dataset.size, None if later else dataset, dataset.sop_instance_uid)


def look_again(file: File) -> File | Outcome | Skipped:
    """As ``look`` for a file whose turn has come; it may have changed."""
    seen = look(file.found)
    if isinstance(seen, Outcome):
        return replace(seen, attempts=file.attempts, size=file.size)
    if isinstance(seen, File):
        seen.attempts, seen.failures, seen.suspect, seen.due = file.attempts, file.failures, file.suspect, file.due
    return seen
