"""Which presentation contexts files need, and which of the accepted ones carries a file (PS3.8 7.1.1.13, 9.3.2.2)."""

from __future__ import annotations

from collections.abc import Iterable

from dicomnet.dataset import UNCOMPRESSED, EncodedDataset, encode_for
from dicomnet.dimse.pipeline import Store
from dicomnet.errors import NoAcceptedContext
from dicomnet.sender.outcome import Transcode
from dicomnet.sender.stock import File, Pair
from dicomnet.ul.negotiation import DEFAULT_TRANSFER_SYNTAXES, MAX_CONTEXTS, AcceptedContext

Proposed = list[tuple[str, tuple[str, ...]]]


def proposed(pairs: Iterable[Pair], *, lossless: bool) -> Proposed:
    """A context for each pair, so that each is accepted or not by itself; if there is room, uncompressed for all."""
    contexts: Proposed = [(sop_class, (syntax,)) for sop_class, syntax in pairs]
    if lossless:
        contexts += [
            (sop_class, DEFAULT_TRANSFER_SYNTAXES) for sop_class in dict.fromkeys(sop_class for sop_class, _ in pairs)
        ]
    return contexts[:MAX_CONTEXTS]


class Routes:
    """Which of the accepted contexts carries a file."""

    def __init__(self, accepted: Iterable[AcceptedContext], transcode: Transcode) -> None:
        self._accepted = tuple(accepted)
        self._as_it_is = {(context.abstract_syntax, context.transfer_syntax): context.id for context in self._accepted}
        self._transcode = transcode

    def store(self, file: File, dataset: EncodedDataset) -> Store:
        """What is sent for ``file``. Raises NoAcceptedContext, InvalidDataset and OSError."""
        context_id = self._as_it_is.get(file.pair)
        if context_id is not None:
            return Store(context_id, dataset, file)
        of_class = [context for context in self._accepted if context.abstract_syntax == dataset.sop_class_uid]
        fitting = next((context for context in of_class if context.transfer_syntax in UNCOMPRESSED), None)
        syntax = _named(dataset.transfer_syntax)
        if self._transcode == "never":
            why = f"in {syntax}, and the file may not be transcoded"
        elif not of_class:
            why = f"in {syntax}, nor uncompressed"
        elif dataset.transfer_syntax not in UNCOMPRESSED or fitting is None:
            why = f"in {syntax}, and decompressing is not supported yet"
        else:
            return Store(fitting.id, encode_for(dataset, fitting), file)
        raise NoAcceptedContext(f"the peer does not accept {_named(dataset.sop_class_uid)} {why}")


def _named(uid: str) -> str:
    from pydicom._uid_dict import UID_dictionary

    return f"{UID_dictionary[uid][0]} ({uid})" if uid in UID_dictionary else uid
