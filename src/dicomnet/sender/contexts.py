"""Which presentation contexts files need, and which of the accepted ones carries a file (PS3.8 7.1.1.13, 9.3.2.2)."""

from __future__ import annotations

from collections.abc import Iterable

from dicomnet.dataset import EncodedDataset
from dicomnet.dimse.pipeline import Store
from dicomnet.errors import InvalidDataset, NoAcceptedContext
from dicomnet.sender.outcome import Transcode
from dicomnet.sender.stock import File, Pair
from dicomnet.transcoding import LOSSY, REVERSIBLE, candidates, transcode as transcode_dataset
from dicomnet.ul.negotiation import DEFAULT_TRANSFER_SYNTAXES, AcceptedContext

Proposed = list[tuple[str, tuple[str, ...]]]


def proposed(pairs: Iterable[Pair], transcode: Transcode) -> Proposed:
    """A context for each pair, so that each is accepted or not by itself; for all what they may be made into.

    No more than ``MAX_CONTEXTS`` if ``pairs`` are a group of a ``Stock`` that knows of ``fallbacks``.
    """
    contexts: Proposed = [(sop_class, (syntax,)) for sop_class, syntax in pairs]
    sop_classes = dict.fromkeys(sop_class for sop_class, _ in pairs)
    return contexts + [(sop_class, syntaxes) for syntaxes in fallbacks(transcode) for sop_class in sop_classes]


def fallbacks(transcode: Transcode) -> tuple[tuple[str, ...], ...]:
    """What each SOP class is proposed in beside what files are in: uncompressed, then compressed without, with loss."""
    return (DEFAULT_TRANSFER_SYNTAXES, REVERSIBLE, LOSSY)[: {"never": 0, "lossless": 2, "any": 3}[transcode]]


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
            if file.derived_from:  # on an association before, and did not get there
                file.goes_as(dataset.sop_instance_uid, dataset.sop_instance_uid)
            return Store(context_id, dataset, file)
        of_class = {
            context.transfer_syntax: context.id
            for context in self._accepted
            if context.abstract_syntax == dataset.sop_class_uid
        }
        syntax = _named(dataset.transfer_syntax)
        if self._transcode == "never":
            why = f"in {syntax}, and the file may not be transcoded"
        elif not of_class:
            why = f"in {syntax}, nor uncompressed"
        else:
            made, why = _made(dataset, candidates(of_class, lossy=self._transcode == "any"))
            if made is not None:
                file.goes_as(dataset.sop_instance_uid, made.sop_instance_uid)
                return Store(of_class[made.transfer_syntax], made, file)
            why = f"in {syntax}, but in {', '.join(map(_named, of_class))}{why}"
        raise NoAcceptedContext(f"the peer does not accept {_named(dataset.sop_class_uid)} {why}")


def _made(dataset: EncodedDataset, wanted: Iterable[tuple[str, bool]]) -> tuple[EncodedDataset | None, str]:
    """The data set in the first of the transfer syntaxes in which it can be had; or None, and why in none."""
    why: dict[str, None] = {}
    for transfer_syntax, lossy in wanted:
        try:
            return transcode_dataset(dataset, transfer_syntax, lossy=lossy), ""
        except (InvalidDataset, ImportError) as error:
            why[str(error)] = None
    return None, ", which it may not be transcoded to" if not why else f", and cannot be transcoded: {'; '.join(why)}"


def _named(uid: str) -> str:
    from pydicom._uid_dict import UID_dictionary

    return f"{UID_dictionary[uid][0]} ({uid})" if uid in UID_dictionary else uid
