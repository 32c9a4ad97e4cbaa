"""``send``: many files to one peer, whatever they are; each file ends in exactly one outcome (PS3.4 Annex B, as SCU).

One idea: files are looked at in windows of bounded length. The presentation contexts that a window needs are proposed
together, and its files go in rounds: what was refused for lack of resources, or was under way when the association
died, is tried again in the next round, up to a number of attempts.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, Protocol

from dicomnet.blocking import Association, associate
from dicomnet.config import DEFAULT_CALLING_AE, MAX_PDU_LENGTH, Identity, Limits, Peer, Timeouts, check_ae_title
from dicomnet.dataset import UNCOMPRESSED, EncodedDataset, Path, load_file
from dicomnet.errors import (
    AssociationAborted,
    AssociationRejected,
    DeadlineExceeded,
    DicomNetworkError,
    InvalidDataset,
    LocalProtocolError,
    NoAcceptedContext,
    RemoteProtocolError,
    TransportError,
)
from dicomnet.files import Found, check_instance, dataset_in, find_files
from dicomnet.ul.negotiation import DEFAULT_TRANSFER_SYNTAXES, MAX_CONTEXTS, AcceptedContext

if TYPE_CHECKING:
    from dicomnet.dimse.messages import Response
    from dicomnet.dimse.status import Status

log = logging.getLogger("dicomnet")

Transcode = Literal["never", "lossless", "any"]
Pair = tuple[str, str]  # SOP class, transfer syntax

_WINDOW: Final = 2048  # files looked at before the first of them goes: 1 MB of memory, 0.1 s from a warm disk
_LONGEST_WAIT: Final = 30.0  # seconds between two attempts
_OVER: Final = (AssociationAborted, DeadlineExceeded, RemoteProtocolError, TransportError)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended for one file: a ``status`` that the peer answered, or an ``error``; the other one is None.

    ``path``: as it was given, or as it was found in a folder that was given. ``attempts``: how often it was sent or
    tried to be; ``size``: of its data set, in bytes. ``comment``: the Error Comment (0000,0902) that came with the
    status, or empty. ``associated``: an association stood at the last attempt.
    """

    path: Path
    status: Status | None = None
    error: Exception | None = None
    attempts: int = 0
    size: int = 0
    comment: str = ""
    associated: bool = False

    @property
    def ok(self) -> bool:
        """True if the peer has it: success, or a warning."""
        return self.status is not None and not self.status.is_failure


class Stop(Protocol):
    """Tells a sender to end early; a ``threading.Event`` is one."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float | None = None, /) -> bool: ...


def send(
    paths: Path | Iterable[Path],
    peer: Peer | str,
    *,
    calling_ae: str = DEFAULT_CALLING_AE,
    tls: ssl.SSLContext | None = None,
    identity: Identity | None = None,
    transcode: Transcode = "lossless",
    attempts: int = 3,
    backoff: float = 0.5,
    max_pdu_length: int = MAX_PDU_LENGTH,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    on_skipped: Callable[[Path], None] | None = None,
    stop: Stop | None = None,
) -> Generator[Outcome, None, None]:
    """Store files and the DICOM files in folders; yields an ``Outcome`` for each, in the order in which they end.

    ``paths``: files and folders, or one. Folders are walked; in them DICOM files are recognised by content and others
    are skipped (``on_skipped(path)``); a path given itself that is no DICOM file has an outcome with an error.
    ``transcode``: what may be done for a peer that does not accept a file's transfer syntax: ``"never"`` anything,
    ``"lossless"``, ``"any"``; now both write uncompressed data sets in another uncompressed transfer syntax and do not
    decompress. ``attempts``: for a file, 1 or more; refused (A7xx), aborted and unreachable are tried again, after
    ``backoff`` seconds, doubled each time, give or take half. ``stop``: once it is set, the association is released
    after the file under way, and files that were not tried have no outcome. The others: see ``dicomnet.associate``.

    Raises ValueError for a peer or AE title that the standard does not allow. What concerns files is in their outcomes.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    if attempts < 1:
        raise ValueError(f"attempts is {attempts!r}; a file is tried once or more")
    peer = Peer.parse(peer) if isinstance(peer, str) else peer
    check_ae_title(calling_ae)

    def connect(contexts: list[tuple[str, tuple[str, ...]]]) -> Association:
        return associate(
            peer,
            calling_ae=calling_ae,
            contexts=contexts,
            tls=tls,
            identity=identity,
            max_pdu_length=max_pdu_length,
            timeouts=timeouts,
            limits=limits,
        )

    return _Sender(connect, str(peer), transcode, attempts, backoff, stop).run(find_files(paths), on_skipped)


@dataclass(slots=True, eq=False)
class _File:
    """A file to send. Its data set is not kept: thousands wait."""

    path: Path
    size: int
    pair: Pair
    attempts: int = 0


_Contexts = list[tuple[str, tuple[str, ...]]]


class _Sender:
    """One association after the other."""

    def __init__(
        self,
        connect: Callable[[_Contexts], Association],
        name: str,
        transcode: Transcode,
        attempts: int,
        backoff: float,
        stop: Stop | None,
    ) -> None:
        self._connect = connect
        self._name = name  # of the peer, for log lines
        self._transcode = transcode
        self._attempts = attempts
        self._backoff = backoff
        self._stop = stop
        self._association: Association | None = None
        self._pairs: dict[Pair, None] = {}  # what the association proposes, or the next one will
        self._unreached = 0  # associations that did not come about, since the last one that did
        self._due = 0.0  # not before then anything is tried again
        self._hopeless: DicomNetworkError | None = None  # why no further association is tried

    @property
    def _stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    def run(self, found: Iterable[Found], on_skipped: Callable[[Path], None] | None) -> Generator[Outcome, None, None]:
        found = iter(found)
        try:
            while not self._stopped and (window := list(islice(found, _WINDOW))):
                files: list[_File] = []
                for entry in window:
                    yield from _look(files, entry, on_skipped)
                for pairs in _groups(files):
                    yield from self._send_group([file for file in files if file.pair in pairs], pairs)
        except GeneratorExit:  # the caller wants no more; nothing is under way
            self._release()
            raise
        except BaseException:
            self._abort()
            raise
        self._release()

    def _send_group(self, files: list[_File], pairs: dict[Pair, None]) -> Iterator[Outcome]:
        """Send files that fit one association, in rounds: what may succeed later goes into the next one."""
        self._want(pairs)
        while files:
            again: list[_File] = []
            for file in files:
                if not self._ready():
                    return
                outcome = self._attempt(file)
                if outcome is None:
                    again.append(file)
                else:
                    yield outcome
            files = again

    def _attempt(self, file: _File) -> Outcome | None:
        """One attempt to store one file. None: it is to be tried again."""
        association = self._association
        if association is None:
            attempts = file.attempts + self._unreached
            return Outcome(file.path, error=self._hopeless, attempts=attempts, size=file.size)
        file.attempts += 1
        try:
            response = self._store(association, file)
        except _OVER as error:
            self._association = None
            self._back_off(str(error), file.attempts)
            return self._ended(file, error=error, final=False)
        except LocalProtocolError as error:  # the peer released by itself, for example
            self._abort()
            return self._ended(file, error=error)
        except (NoAcceptedContext, InvalidDataset, OSError) as error:
            return self._ended(file, error=error)
        refused = response.status & 0xFF00 == 0xA700  # out of resources (PS3.4 Table B.2-1)
        if refused:
            self._back_off(f"status {response.status}", file.attempts)
        return self._ended(file, response, final=not refused)

    def _ended(
        self, file: _File, response: Response | None = None, error: Exception | None = None, *, final: bool = True
    ) -> Outcome | None:
        if not final and file.attempts < self._attempts:
            return None
        status, comment = (response.status, response.error_comment or "") if response is not None else (None, "")
        return Outcome(file.path, status, error, file.attempts, file.size, comment, associated=True)

    def _store(self, association: Association, file: _File) -> Response:
        dataset = load_file(file.path)
        taken = {context.transfer_syntax for context in association.accepted if _is_for(context, dataset)}
        if dataset.transfer_syntax not in taken:
            self._check_transcoding(dataset, taken)
        return association.c_store(dataset)

    def _check_transcoding(self, dataset: EncodedDataset, taken: set[str]) -> None:
        """Raises NoAcceptedContext if it may not or cannot be written in one of the transfer syntaxes ``taken``."""
        if self._transcode == "never":
            why = f"in {_named(dataset.transfer_syntax)}, and the file may not be transcoded"
        elif not taken:
            why = f"in {_named(dataset.transfer_syntax)}, nor uncompressed"
        elif dataset.transfer_syntax not in UNCOMPRESSED:
            why = f"in {_named(dataset.transfer_syntax)}, and decompressing is not supported yet"
        else:
            return
        raise NoAcceptedContext(f"the peer does not accept {_named(dataset.sop_class_uid)} {why}")

    # --- associations -----------------------------------------------------------------------------------------------

    def _want(self, pairs: dict[Pair, None]) -> None:
        """From now on associations propose ``pairs``, and what came before, which is likely to come again."""
        if pairs.keys() <= self._pairs.keys():
            return
        self._release()
        together = self._pairs | pairs
        self._pairs = together if len(together) <= MAX_CONTEXTS else pairs

    def _ready(self) -> bool:
        """Wait until something may be tried; open an association if there is none and may be one. False: stopped."""
        self._wait()
        while not self._stopped and self._association is None and self._hopeless is None:
            self._open()
            self._wait()
        return not self._stopped

    def _open(self) -> None:
        try:
            self._association = self._connect(_contexts(self._pairs, lossless=self._transcode != "never"))
            self._unreached = 0
        except (*_OVER, AssociationRejected) as error:
            self._unreached += 1
            if self._unreached >= self._attempts or _is_final(error):
                self._hopeless = error
            else:
                self._back_off(str(error), self._unreached)

    def _back_off(self, why: str, times: int) -> None:
        """Nothing is tried for a while: the longer, the more often (``times``) it was in vain."""
        seconds = self._backoff * 2.0 ** min(times - 1, 16) * random.uniform(0.5, 1.5)
        seconds = min(seconds, _LONGEST_WAIT)
        self._due = time.monotonic() + seconds
        log.warning("%s: %s; going on in %.1f s", self._name, why, seconds)

    def _wait(self) -> None:
        if not self._due:
            return
        seconds, self._due = self._due - time.monotonic(), 0.0
        if seconds > 0:
            wait = time.sleep if self._stop is None else self._stop.wait
            wait(seconds)

    def _release(self) -> None:
        association, self._association = self._association, None
        if association is not None:
            try:
                association.release()
            except DicomNetworkError as error:  # every file has its outcome already
                log.warning("%s: the association was not released: %s", self._name, error)
                association.abort()

    def _abort(self) -> None:
        association, self._association = self._association, None
        if association is not None:
            association.abort()


def _look(files: list[_File], found: Found, on_skipped: Callable[[Path], None] | None) -> Iterator[Outcome]:
    """Add what was found to ``files``, or skip it, or yield its outcome if it cannot be sent."""
    try:
        dataset = dataset_in(found)
        if dataset is not None:
            check_instance(dataset)
    except (OSError, InvalidDataset) as error:
        yield Outcome(found.path, error=error)
    else:
        if dataset is not None:
            files.append(_File(found.path, dataset.size, (dataset.sop_class_uid, dataset.transfer_syntax)))
        elif on_skipped is not None:
            on_skipped(found.path)


def _groups(files: Iterable[_File]) -> Iterator[dict[Pair, None]]:
    """The pairs of all files, in order, as many at a time as fit one association."""
    pairs = iter({file.pair: None for file in files})
    while group := dict.fromkeys(islice(pairs, MAX_CONTEXTS)):
        yield group


def _contexts(pairs: Iterable[Pair], *, lossless: bool) -> _Contexts:
    """A context for each pair, so that each is accepted or not by itself; if there is room, uncompressed for all."""
    contexts: _Contexts = [(sop_class, (syntax,)) for sop_class, syntax in pairs]
    if lossless:
        contexts += [
            (sop_class, DEFAULT_TRANSFER_SYNTAXES) for sop_class in dict.fromkeys(sop_class for sop_class, _ in pairs)
        ]
    return contexts[:MAX_CONTEXTS]


def _is_for(context: AcceptedContext, dataset: EncodedDataset) -> bool:
    return context.abstract_syntax == dataset.sop_class_uid


def _named(uid: str) -> str:
    from pydicom._uid_dict import UID_dictionary

    return f"{UID_dictionary[uid][0]} ({uid})" if uid in UID_dictionary else uid


def _is_final(error: DicomNetworkError) -> bool:
    """Whether the same request would fail again."""
    if isinstance(error, AssociationRejected):
        return not error.transient
    cause = error.__cause__
    return isinstance(cause, ssl.SSLError) or (isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME)
