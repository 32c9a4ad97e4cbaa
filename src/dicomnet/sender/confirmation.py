"""Is it there? What was sent is confirmed by storage commitment (PS3.4 J) or by a query (PS3.4 C): what both share.

One idea: each instance has exactly one answer, and to have none in time is an answer, too. Instances come from an
iterator and answers go out of one, so that any number of them takes bounded memory.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

from dicomnet import scan
from dicomnet.dataset import EncodedDataset, Path
from dicomnet.errors import DicomNetworkError, InvalidDataset

if TYPE_CHECKING:
    from dicomnet.sender.outcome import Stop

State = Literal["committed", "verified", "failed", "unanswered"]
Item = TypeVar("Item")

# PS3.3 C.14.1.1
_FAILURES: Final = {
    0x0110: "processing failure",
    0x0112: "the peer does not have this instance",
    0x0119: "the peer has it under another SOP class",
    0x0122: "the peer does not support this SOP class",
    0x0131: "the transaction UID is in use already",
    0x0213: "the peer lacks the resources",
}
_KEYS: Final = (0x00100020, 0x0020000D, 0x0020000E)  # Patient ID, Study and Series Instance UID
_LONGEST_PAUSE: Final = 15.0  # seconds
_SLICE: Final = 0.25  # seconds of a pause before looking whether the user stops


class Subject(NamedTuple):
    """An instance that was sent. The UIDs of its study and series, and its patient ID, are needed for a query."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    patient_id: str = ""

    def in_file(self, path: Path) -> Subject:
        """With what a query needs besides the UIDs, from the file that was sent; without if it is gone, or another."""
        try:
            dataset = EncodedDataset.from_file(path)
            found = scan.text_values(dataset.head(scan.HEAD), dataset.transfer_syntax, _KEYS)
            if found is None:
                decoded = dataset.decode(specific_tags=list(_KEYS), stop_before_pixels=True)
                found = {tag: str(decoded[tag].value or "") for tag in _KEYS if tag in decoded}
        except (OSError, InvalidDataset):
            return self
        patient_id, study, series = (found.get(tag, "") for tag in _KEYS)
        return self._replace(study_instance_uid=study, series_instance_uid=series, patient_id=patient_id)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the peer says of an instance. ``reason``: why it failed, or why there is no answer, in words."""

    subject: Subject
    state: State
    reason: str = ""

    @property
    def ok(self) -> bool:
        return self.state in ("committed", "verified")


@dataclass(frozen=True, slots=True)
class Patience:
    """``seconds``: until there must be an answer; ``attempts``: for what fails at once, such as to connect.

    ``pause``: seconds before the second attempt, doubled for each further one. ``stop``: ends it all early.
    """

    seconds: float = 60.0
    attempts: int = 3
    pause: float = 1.0
    stop: Stop | None = None

    def __post_init__(self) -> None:
        if self.seconds < 0 or self.pause < 0 or self.attempts < 1:
            raise ValueError("patience is seconds and a pause of 0 or more, and 1 attempt or more")

    @property
    def stopped(self) -> bool:
        return self.stop is not None and self.stop.is_set()

    def rest(self, attempt: int, deadline: float | None = None) -> None:
        """The pause before attempt ``attempt`` (1: the second one), but not past ``deadline``."""
        end = time.monotonic() + min(self.pause * 2.0 ** (attempt - 1), _LONGEST_PAUSE)
        end = end if deadline is None else min(end, deadline)
        while not self.stopped and (left := end - time.monotonic()) > 0:
            threading.Event().wait(min(left, _SLICE))


def failure_text(reason: int) -> str:
    """A Failure Reason (0008,1197) in words (PS3.3 C.14.1.1)."""
    return f"{_FAILURES.get(reason, 'a reason of its own')} (0x{reason:04X})"


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


class Link:
    """An association that is made when it is needed, and again when it was lost.

    ``connect``: makes it. ``error``: why there is none, or why the last one ended.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._association: Any = None
        self.error: Exception | None = None

    def get(self) -> Any:
        """Raises what ``connect`` raises."""
        if self._association is None:
            self._association = self._connect()
        return self._association

    @property
    def up(self) -> Any:
        """The association, or None."""
        return self._association

    def lost(self, error: Exception | None) -> None:
        """It is of no use any more."""
        self.error = error
        association, self._association = self._association, None
        if association is not None:
            association.abort()

    def close(self) -> None:
        """Release it. That this fails is of no interest: all answers are there."""
        association, self._association = self._association, None
        if association is not None:
            try:
                association.release()
            except DicomNetworkError:
                association.abort()
