"""What a peer agrees to beside contexts: AE titles, roles, extended negotiation, window, identity (PS3.7 D.3.3)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from dicomnet import models
from dicomnet.config import Identity
from dicomnet.errors import AssociationRejected
from dicomnet.probe import catalogue
from dicomnet.probe.calls import Caller
from dicomnet.probe.products import product
from dicomnet.probe.report import Attempt, Classes, Negotiated, SopClass, Titles
from dicomnet.ul.extended import ExtendedQuery, ExtendedRetrieve, ExtendedStorage
from dicomnet.ul.negotiation import MAX_CONTEXTS
from dicomnet.ul.pdu import AssociateRq

WINDOW: Final = (16, 16)  # operations asked for; whoever has a window at all mostly gives that many
_USER: Final = "dicomnet-probe"  # a user name that no system has, if none was given

Request = Callable[..., AssociateRq]


def made_up_title() -> str:
    """An AE title that nobody has."""
    return f"PROBE_{secrets.token_hex(4).upper()}"


def titles(caller: Caller, request: Request, accepted: AssociateRq) -> Titles:
    """Whether the peer looks at AE titles: it accepted ``accepted``, and gets the same with one title made up."""
    title = made_up_title()
    called = caller.call(request(called_ae=title))
    calling = caller.call(request(calling_ae=title))
    return Titles(
        called=accepted.called_ae,
        calling=accepted.calling_ae,
        checks_called=_refuses(called),
        checks_calling=_refuses(calling),
        called_answer=_said(called),
        calling_answer=_said(calling),
    )


def _refuses(attempt: Attempt) -> bool | None:
    """None if it is busy, so that nothing can be said."""
    if isinstance(attempt.error, AssociationRejected) and attempt.error.transient:
        return None
    return attempt.error is not None


def _said(attempt: Attempt) -> str:
    return "accepted" if attempt.error is None else str(attempt.error)


def negotiated(attempt: Attempt) -> Negotiated:
    """What the answer to the first request says of the peer itself."""
    user = attempt.answer.user if attempt.answer is not None else None
    class_uid = (user and user.implementation_class_uid) or ""
    version_name = (user and user.implementation_version_name) or ""
    length = None if user is None else user.max_length
    return Negotiated(length, class_uid, version_name, product(class_uid, version_name))


def agree(
    caller: Caller, request: Request, first: Negotiated, classes: Classes, identity: Identity | None
) -> Negotiated:
    """``first`` with the window, the extended negotiation and the identity asked about, each on its own."""
    window = caller.call(request(async_ops=WINDOW))
    answered = window.answer.user.async_ops if window.answer is not None else None
    return replace(
        first,
        asked=True,
        window=answered,
        extended=tuple(_extended(caller, request, classes)),
        identity_answer=_answers(caller.call(request(identity=_asking(identity)))),
        identity_demanded=False if identity is None else _refuses(caller.call(request(identity=None))),
    )


def wants_identity(caller: Caller, request: Request) -> bool:
    """Whether a peer that refuses an association accepts it with a user name, whatever that is (PS3.7 D.3.3.7)."""
    return caller.call(request(identity=Identity.username(_USER))).error is None


def _asking(identity: Identity | None) -> Identity:
    return replace(identity or Identity.username(_USER), response_requested=True)


def _answers(attempt: Attempt) -> bool | None:
    """None: it refused the association with this identity."""
    return None if attempt.answer is None else attempt.answer.user.identity_response is not None


# --- extended negotiation and roles ---------------------------------------------------------------------------------


def _kind(uid: str) -> type[ExtendedQuery] | type[ExtendedRetrieve] | type[ExtendedStorage] | None:
    if uid in models.find_classes():
        return ExtendedQuery
    if uid in models.move_classes() | models.get_classes():
        return ExtendedRetrieve
    return ExtendedStorage if models.is_storage(uid) else None


def _extended(caller: Caller, request: Request, classes: Classes) -> Iterator[tuple[str, str, str]]:
    """Of all queries and retrievals, and of one storage SOP class, which speaks for the others."""
    others = [one for one in classes.of(storage=False) if one.accepted and _kind(one.uid) is not None]
    stored = [one for one in classes.of(storage=True) if one.accepted][:1]
    asked = [*others, *stored][:MAX_CONTEXTS]
    if not asked:
        return
    questions = {one.uid: _question(one.uid) for one in asked}
    attempt = caller.call(request(contexts=[(one.uid, one.transfer_syntaxes) for one in asked], extended=questions))
    if attempt.answer is None:
        return
    for item in attempt.answer.user.extended:
        if item.sop_class_uid in questions:
            yield item.sop_class_uid, catalogue.name_of(item.sop_class_uid), _in_words(item.sop_class_uid, item.data)


def _question(uid: str) -> Any:
    """Everything that can be asked for."""
    kind = _kind(uid)
    if kind is ExtendedStorage:
        return ExtendedStorage()
    assert kind is not None
    return kind(*[True] * len(kind.__slots__))


def _in_words(uid: str, data: bytes) -> str:
    kind = _kind(uid)
    if kind is ExtendedStorage:
        storage = ExtendedStorage.decode(data)
        return f"level {storage.level} of storage, digital signatures {storage.signatures}, coercion {storage.coercion}"
    assert kind is not None
    value = kind.decode(data)
    return ", ".join(name for name in kind.__slots__ if getattr(value, name)) or "none of it"


def roles(caller: Caller, request: Request, classes: Classes) -> Classes:
    """``classes`` with those told whose SCP the requestor may be, as C-GET needs (PS3.7 D.3.3.4)."""
    stored = [one for one in classes.of(storage=True) if one.accepted]
    get = [one for one in classes.of(storage=False) if one.accepted and one.uid in models.get_classes()][:1]
    if not stored:
        return classes
    room = MAX_CONTEXTS - len(get)
    granted: dict[str, bool] = {}
    for start in range(0, len(stored), room):
        granted |= _granted(caller, request, get, stored[start : start + room])
    return replace(
        classes, classes=tuple(replace(one, requestor_is_scp=granted.get(one.uid)) for one in classes.classes)
    )


def _granted(caller: Caller, request: Request, get: Sequence[SopClass], part: Sequence[SopClass]) -> dict[str, bool]:
    attempt = caller.call(
        request(
            contexts=[(one.uid, one.transfer_syntaxes) for one in (*get, *part)],
            roles={one.uid: (True, True) for one in part},
        )
    )
    if attempt.answer is None:
        return {}
    answers = {role.sop_class_uid: role.scp for role in attempt.answer.user.roles}
    return {one.uid: answers.get(one.uid, False) for one in part}
