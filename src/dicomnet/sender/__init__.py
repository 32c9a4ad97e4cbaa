"""``send``: many files to one peer, whatever they are; each file ends in exactly one outcome (PS3.4 Annex B, as SCU).

Files are found and told on the caller's thread (``pool``), looked at and sent on those of the associations (``line``),
as many as help (``pace``). What waits is in the ``stock``, grouped by the presentation contexts that it needs.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dicomnet.config import DEFAULT_CALLING_AE, MAX_PDU_LENGTH, Identity, Limits, Peer, Timeouts, check_ae_title
from dicomnet.dataset import Path
from dicomnet.files import Found, find_files
from dicomnet.sender.outcome import Options, Outcome, Stop, Transcode
from dicomnet.sender.pool import Pool

if TYPE_CHECKING:
    from dicomnet.sender.ledger import Ledger
    from dicomnet.sender.processes import Crew
    from dicomnet.sender.recorder import Recorder

__all__ = ["Outcome", "Sending", "Stop", "Transcode", "send"]


class Sending(Generator[Outcome, None, None]):
    """The outcomes, as they come. It sends while it is iterated, and stops when it is closed or forgotten.

    ``associations``: the most that there were at once; ``window``: how many requests may be outstanding on each of
    them, as far as the peer allows, and as it has turned out to be best so far; 0 before there is an association.
    """

    def __init__(
        self, sender: Pool | Crew, outcomes: Generator[Outcome, None, None], recorder: Recorder | None = None
    ) -> None:
        self._sender = sender
        self._outcomes = outcomes
        self._recorder = recorder

    def __next__(self) -> Outcome:
        """The next outcome, when there is one."""
        return next(self._outcomes)

    def send(self, value: None) -> Outcome:
        """As ``next``; a generator has this."""
        return self._outcomes.send(value)

    def throw(self, *error: Any) -> Outcome:
        """Abort all associations, and raise ``error``; a generator has this."""
        return self._outcomes.throw(*error)

    def close(self) -> None:
        """Release the associations, once what was sent has been answered."""
        self._outcomes.close()
        if self._recorder is not None:  # also if nobody has begun
            self._recorder.close()

    def __enter__(self) -> Sending:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def associations(self) -> int:
        return self._sender.associations

    @property
    def window(self) -> int:
        return self._sender.window


def send(
    paths: Path | Iterable[Path | Found | None],
    peer: Peer | str,
    *,
    calling_ae: str = DEFAULT_CALLING_AE,
    tls: ssl.SSLContext | None = None,
    identity: Identity | None = None,
    transcode: Transcode = "lossless",
    attempts: int = 3,
    backoff: float = 0.5,
    deadline: float | None = None,
    associations: int | None = None,
    window: int | None = None,
    processes: int = 1,
    max_pdu_length: int = MAX_PDU_LENGTH,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    on_skipped: Callable[[Path], None] | None = None,
    stop: Stop | None = None,
    ledger: Path | Ledger | None = None,
) -> Sending:
    """Store files and the DICOM files in folders; yields an ``Outcome`` for each, in the order in which they end.

    ``paths``: files and folders, or one. Folders are walked; in them DICOM files are recognised by content and others
    are skipped (``on_skipped(path)``); a path given itself that is no DICOM file has an outcome with an error.
    An iterator may say None for "nothing now", and is asked again a moment later; ``dicomnet.sender.watch`` has one.
    ``transcode``: what may be done for a peer that does not accept a file's transfer syntax: ``"never"`` anything;
    ``"lossless"``: what changes no pixel value; ``"any"``: if need be lossy compression too, which makes new instances
    (see ``dicomnet.transcode``). ``attempts``: for a file, 1 or more; refused (A7xx), aborted and unreachable are tried
    again, after ``backoff`` seconds, doubled each time, give or take half; of several that were under way when an
    association died, it counts for the one sent first. ``deadline``: seconds from when a file is first sent to its
    outcome, all attempts included; one that takes longer fails with DeadlineExceeded. ``associations``: how many at
    once; None: one, and further ones as long as they make it faster and the peer takes them. ``window``: how many
    requests may be outstanding on each of them, if the peer grants an operations window (PS3.7 D.3.3.3); None: 16, and
    fewer while that is faster, or the peer is out of resources.
    ``processes``: from how many to send; 1 is this one alone, more are new ones, for many small files and more cores
    than two, and not with ``tls``.
    ``stop``: once it is set, the associations are released after the files under way, and files that were not tried
    have no outcome. ``ledger``: a file, made if it is missing, in which each outcome is written before it is yielded;
    what it says this peer has already, and has not changed since, is not sent again, and has an outcome with
    ``recorded``. Or an open ``dicomnet.sender.ledger.Ledger``, which stays open. The others: see
    ``dicomnet.associate``.

    Files are sent from threads of their own; ``paths`` is iterated, and ``on_skipped`` called, on the caller's.

    Raises ValueError for a peer, an AE title or a number that is not allowed, LedgerError for a file that is no ledger,
    or that another ``send`` uses; while it is iterated OSError if there can be no other process, and LedgerError if the
    ledger cannot be written any more. What concerns files is in their outcomes.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    options = Options(
        peer=Peer.parse(peer) if isinstance(peer, str) else peer,
        calling_ae=check_ae_title(calling_ae),
        tls=tls,
        identity=identity,
        transcode=transcode,
        attempts=attempts,
        backoff=backoff,
        deadline=deadline,
        associations=associations,
        window=window,
        max_pdu_length=max_pdu_length,
        timeouts=timeouts,
        limits=limits,
    )
    if processes < 1:
        raise ValueError(f"processes is {processes!r}; it must be 1 or more")
    if processes > 1 and tls is not None:
        raise ValueError("an SSLContext cannot be given to other processes; use processes=1 with tls")
    recorder = None if ledger is None else _recorder(ledger, options.peer)
    found = find_files(paths)
    sender = _sender(options, stop, processes, recorder)
    return Sending(sender, sender.run(found if recorder is None else recorder.unsent(found), on_skipped), recorder)


def _sender(options: Options, stop: Stop | None, processes: int, recorder: Recorder | None) -> Pool | Crew:
    if processes == 1:
        return Pool(options, stop, recorder)
    from dicomnet.sender.processes import Crew

    return Crew(options, stop, processes, recorder)


def _recorder(ledger: Path | Ledger, peer: Peer) -> Recorder:
    from dicomnet.sender.ledger import Ledger  # SQLite is not for who does not want one
    from dicomnet.sender.recorder import Recorder

    own = not isinstance(ledger, Ledger)
    return Recorder(Ledger(ledger) if not isinstance(ledger, Ledger) else ledger, peer, own=own)
