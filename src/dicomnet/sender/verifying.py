"""Ask the peer by C-FIND whether it has what was sent (PS3.4 C.4.1, C.6), at the level of instances.

One idea: a query for each series, with all unique keys above it, as peers without relational queries need it; what it
yields is compared with what was sent there. A list of UIDs in one query would be shorter, but many peers do not
understand it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from dicomnet.errors import DicomNetworkError, NoAcceptedContext, StatusError
from dicomnet.models import query_class
from dicomnet.sender.confirmation import Answer, Link, Patience, Subject, batches

if TYPE_CHECKING:
    from pydicom import Dataset

MODELS: Final = ("study", "patient")  # in the order of preference
_BATCH: Final = 2000  # instances in memory
_LISTED: Final = 50  # UIDs in one query, of instances whose series is not known: 3 kB

Place = tuple[str, str, str]  # patient ID, study, series


def contexts() -> list[str]:
    """The SOP classes that the association needs: one of them."""
    return [query_class(model, "find") for model in MODELS]


def verify(
    subjects: Iterable[Subject], connect: Callable[[], Any], patience: Patience | None = None
) -> Iterator[Answer]:
    """An ``Answer`` for each instance: verified, failed (it is not there), or unanswered.

    ``connect`` makes an association with ``contexts()``. What is not there is asked for again, until
    ``patience.seconds`` have passed since its turn came: archives need a moment to know what they have.
    """
    link = Link(connect)
    verifier = _Verifier(link, patience or Patience())
    try:
        for batch in batches(subjects, _BATCH):
            yield from verifier.answers(batch)
    except GeneratorExit:
        link.lost(None)
        raise
    link.close()


class _Verifier:
    def __init__(self, link: Link, patience: Patience) -> None:
        self._link = link
        self._patience = patience
        self._hopeless = ""  # why nothing is asked any more
        self._deadline = 0.0

    def answers(self, batch: list[Subject]) -> Iterator[Answer]:
        """For instances that fit into memory."""
        patience = self._patience
        left = {subject.sop_instance_uid: subject for subject in batch}
        why: dict[str, str] = {}  # SOP Instance UID → why it was not answered
        self._deadline = time.monotonic() + patience.seconds
        attempt = unreached = 0
        while left and not self._hopeless and not patience.stopped:
            if attempt:
                patience.rest(attempt, self._deadline)
            attempt += 1
            asked = self._ask_all(left, why)
            for uid in asked:
                yield Answer(left.pop(uid), "verified")
            unreached = 0 if self._link.up is not None else unreached + 1
            if unreached >= patience.attempts:
                self._hopeless = str(self._link.error)
            if time.monotonic() >= self._deadline:
                break
        for uid, subject in left.items():
            reason = self._hopeless or why.get(uid, "") or ("interrupted" if patience.stopped else "")
            if reason:
                yield Answer(subject, "unanswered", reason)
            else:
                yield Answer(subject, "failed", "the peer does not find this instance")

    def _ask_all(self, left: dict[str, Subject], why: dict[str, str]) -> set[str]:
        """Those of ``left`` that are there."""
        found: set[str] = set()
        why.clear()
        for place, wanted in _by_place(left.values()).items():
            if self._patience.stopped:
                why.update(dict.fromkeys(wanted, "interrupted"))
                continue
            try:
                found |= self._ask(place, wanted)
            except NoAcceptedContext as error:  # nor will it be the next time
                self._hopeless = str(error)
                break
            except (DicomNetworkError, OSError) as error:
                why.update(dict.fromkeys(wanted, str(error)))
                if isinstance(error, StatusError):
                    continue
                self._link.lost(error)
                rest = left.keys() - found
                why.update({uid: why.get(uid) or str(error) for uid in rest})
                break
        return found

    def _ask(self, place: Place, wanted: set[str]) -> set[str]:
        association = self._link.get()
        accepted = {context.abstract_syntax for context in association.accepted}
        model = next((model for model in MODELS if query_class(model, "find") in accepted), MODELS[0])
        found: set[str] = set()
        for uids in batches(sorted(wanted), _LISTED) if not place[2] else [sorted(wanted)]:
            matches = association.c_find(_identifier(place, uids, model), model=model)
            for match in matches:
                uid = str(match.get("SOPInstanceUID") or "")
                if uid in wanted:
                    found.add(uid)
                if found.issuperset(uids):
                    break
                if time.monotonic() > self._deadline and len(found) < len(wanted):
                    raise TimeoutError("the peer's answer to the query did not end in time")
            matches.close()
        return found


def _by_place(subjects: Iterable[Subject]) -> dict[Place, set[str]]:
    places: dict[Place, set[str]] = {}
    for subject in subjects:
        place = subject.patient_id, subject.study_instance_uid, subject.series_instance_uid
        if not (place[1] and place[2]):
            place = "", "", ""
        places.setdefault(place, set()).add(subject.sop_instance_uid)
    return places


def _identifier(place: Place, uids: list[str], model: str) -> Dataset:
    """PS3.4 C.4.1.2.1: unique keys of the levels above, and the one that is asked for."""
    from pydicom import Dataset

    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    patient_id, study, series = place
    if model == "patient":
        identifier.PatientID = patient_id
    if series:
        identifier.StudyInstanceUID, identifier.SeriesInstanceUID = study, series
        identifier.SOPInstanceUID = uids[0] if len(uids) == 1 else ""
    else:  # of files that are gone: a relational query (PS3.4 C.4.1.2.2.1), if the peer takes it
        identifier.SOPInstanceUID = uids[0] if len(uids) == 1 else uids
    return identifier
