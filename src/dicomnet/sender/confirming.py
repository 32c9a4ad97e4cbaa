"""Confirm what a ledger says was sent, and write the answers into it (PS3.4 J, C).

One idea: the ledger knows what has no answer yet, in this run or in any before, so that is what is asked for; and an
answer is on the disk before anybody hears of it, the provider of a commitment included. A report that comes after a
restart finds its instances by its Transaction UID.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from dicomnet.sender.committing import answers_of, commit
from dicomnet.sender.confirmation import Answer, Patience, Subject
from dicomnet.sender.verifying import verify
from dicomnet.services.commitment import User

if TYPE_CHECKING:
    from dicomnet.ae import AE
    from dicomnet.config import Peer
    from dicomnet.sender.ledger import Ledger
    from dicomnet.services.commitment import Result

VERIFIED: Final = "verified"  # as the ledger has it
_TOGETHER: Final = 500  # answers in one transaction of the ledger


class Commitments:
    """Storage commitment of what ``peer`` has been sent. Serve ``ae`` if reports may come on new associations.

    Reports are taken from then on, for requests from before a restart, too.
    """

    def __init__(self, ledger: Ledger, peer: Peer, ae: AE) -> None:
        self._ledger = ledger
        self._peer = peer
        self._user = User(ae, on_result=self._take)

    def _take(self, transaction_uid: str, result: Result) -> None:
        self._ledger.confirm(self._peer, answers_of(result), transaction_uid=transaction_uid)

    def _asking(self, transaction_uid: str, subjects: list[Subject]) -> None:
        uids = [subject.sop_instance_uid for subject in subjects]
        self._ledger.ask_commitment(self._peer, transaction_uid, uids)

    def answers(self, connect: Callable[[], Any], patience: Patience, *, reachable: bool) -> Iterator[Answer]:
        """As ``commit``, of all that has no answer."""
        subjects = (Subject(sent.sop_class_uid, sent.sop_instance_uid) for sent in self._ledger.unconfirmed(self._peer))
        return commit(subjects, connect, self._user, patience, reachable=reachable, asking=self._asking)


def verify_sent(ledger: Ledger, peer: Peer, connect: Callable[[], Any], patience: Patience) -> Iterator[Answer]:
    """As ``verify``, of all that has no answer."""
    subjects = (
        Subject(sent.sop_class_uid, sent.sop_instance_uid).in_file(sent.path) for sent in ledger.unconfirmed(peer)
    )
    texts: dict[str, str] = {}
    answers: list[Answer] = []
    for answer in verify(subjects, connect, patience):
        answers.append(answer)
        if answer.state != "unanswered":
            texts[answer.subject.sop_instance_uid] = VERIFIED if answer.ok else answer.reason
        if len(answers) >= _TOGETHER:
            ledger.confirm(peer, texts)
            yield from answers
            texts, answers = {}, []
    ledger.confirm(peer, texts)
    yield from answers
