"""The application entity: its handlers, whom it admits, what it says in negotiation (api.md §2, PS3.8 9.3.4)."""

import dataclasses
import inspect

import pytest

import dicomnet
from dicomnet import AE, Identity, Limits, models
from dicomnet.dimse.provider import AssociationInfo
from dicomnet.ul import negotiation
from dicomnet.ul.extended import ExtendedQuery
from dicomnet.ul.negotiation import AcceptedContext
from dicomnet.ul.pdu import AssociateRq

CT = "1.2.840.10008.5.1.4.1.1.2"
PRIVATE = "1.3.12.2.1107.5.9.1"
IMPLICIT, EXPLICIT, JPEG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
STUDY_FIND, _, STUDY_GET = models.MODELS["study"]
HANDLERS = [name for name in dir(AE) if name.startswith("on_")]


def request(called: str = "SCP", calling: str = "SCU", **options: object) -> AssociateRq:
    contexts = options.pop("contexts", [CT])
    return negotiation.request(called, calling, contexts, **options)


def info(request: AssociateRq) -> AssociationInfo:
    return AssociationInfo(request.calling_ae, request.called_ae, ("127.0.0.1", 50000), request)


def refusal(ae: AE, request: AssociateRq) -> tuple[int, int, int] | None:
    reject = ae.admit(info(request))
    return reject and (reject.result, reject.source, reject.reason)


def accepted(ae: AE, request: AssociateRq) -> tuple[AcceptedContext, ...]:
    return tuple(negotiation.accepted_contexts(request, ae.answer(request)).values())


# --- handlers -------------------------------------------------------------------------------------------------------


def test_there_is_a_decorator_for_each_service() -> None:
    """api.md §2."""
    services = "c_echo c_store c_find c_get c_move n_create n_set n_get n_action n_event_report n_delete"
    assert {name.removeprefix("on_") for name in HANDLERS} == {
        "association", "identity", "refusal", "close", *services.split(),
    }  # fmt: skip


@pytest.mark.parametrize("name", HANDLERS)
def test_a_decorator_registers_a_function_and_gives_it_back(name: str) -> None:
    """api.md §2: plain, or with ``quick=True``; the last one counts."""
    ae = AE("SCP")
    register = getattr(ae, name)
    assert ae.handler(name.removeprefix("on_")) is None

    @register
    def first(*arguments: object) -> None:
        return None

    assert first is not None
    assert ae.handler(name.removeprefix("on_")) is not None
    assert not ae.quick

    @register(quick=True)
    def second(*arguments: object) -> None:
        return None

    assert ae.quick == {ae.handler(name.removeprefix("on_"))}
    register(second)
    assert ae.handler(name.removeprefix("on_")) not in ae.quick
    with pytest.raises(TypeError, match=f"{name} takes a function, not str"):
        register("keep")


@pytest.mark.parametrize("name", HANDLERS)
def test_a_decorator_is_documented_like_a_method(name: str) -> None:
    """help() and editors show what the handler gets and returns."""
    method = getattr(AE, name)
    assert method.__qualname__ == f"AE.{name}"
    assert method.__doc__.startswith("``handler(")
    assert list(inspect.signature(method).parameters) == ["self", "handler", "quick"]


def test_a_handler_without_a_hash_can_be_quick() -> None:
    """api.md §2: any callable."""

    @dataclasses.dataclass
    class Keep:
        def __call__(self, request: object) -> int:
            return 7

    ae, keep = AE("SCP"), Keep()
    assert ae.on_c_store(quick=True)(keep) is keep
    assert ae.handler("c_store")(None) == 7
    assert ae.handler("c_store") in ae.quick


@pytest.mark.parametrize("as_method", [False, True])
def test_an_identity_handler_gets_the_identity_too(as_method: bool) -> None:
    """PS3.7 D.3.3.7: a coroutine function stays one, so that a face knows how to run it."""
    association = info(request(identity=Identity.username("me")))

    class Check:
        async def __call__(self, association: object, identity: Identity) -> bytes:
            return identity.primary

    async def check(association: object, identity: Identity) -> bytes:
        return identity.primary

    ae = AE("SCP")
    ae.on_identity(lambda association, identity: (association, identity))
    assert ae.handler("identity")(association) == (association, association.identity)
    ae.on_identity(Check() if as_method else check)
    assert inspect.iscoroutinefunction(ae.handler("identity"))
    with pytest.raises(StopIteration, match="me"):
        ae.handler("identity")(association).send(None)


# --- who is admitted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "change", "expected"),
    [
        ({}, {}, None),
        ({}, {"application_context": "1.2.3"}, (1, 1, 2)),
        ({}, {"calling_ae": "", "application_context": "1.2.3"}, (1, 1, 2)),  # in this order
        *(({}, {"calling_ae": title}, (1, 1, 3)) for title in ("", "   ", "A\0B", "Ä", "A\\B", "A\nB")),
        *(({}, {"called_ae": title}, (1, 1, 7)) for title in ("", "   ", "A\0B", "Ä", "A\\B")),
        *(({}, {"calling_ae": title}, None) for title in ("lower", "../", "A B", "A" * 16)),
        ({}, {"called_ae": "ANYBODY"}, None),
        ({"require_called": True}, {"called_ae": "ANYBODY"}, (1, 1, 7)),
        ({"require_called": True}, {"called_ae": "scp"}, (1, 1, 7)),  # PS3.5 6.2: AE titles know upper and lower case
        ({"require_called": True}, {}, None),
        ({"accept_calling": ["A", " SCU "]}, {}, None),
        ({"accept_calling": ["A", "B"]}, {}, (1, 1, 3)),
        ({"accept_calling": []}, {}, (1, 1, 3)),
        ({"accept_calling": ["A"], "require_called": True}, {"called_ae": "ANYBODY"}, (1, 1, 3)),
    ],
)
def test_who_is_refused_is_told_why(
    options: dict[str, object], change: dict[str, str], expected: tuple[int, int, int] | None
) -> None:
    """N-14, W10, PS3.8 9.3.4: application context 1/1/2, calling AE title 1/1/3, called AE title 1/1/7."""
    assert refusal(AE("SCP", **options), dataclasses.replace(request(), **change)) == expected


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (None, (1, 2, 1)),
        (Identity(0, b"me"), (1, 2, 1)),
        (Identity(6, b"me"), (1, 2, 1)),
        (Identity.username("me"), None),
        (Identity.jwt("x.y.z"), None),
    ],
)
def test_an_identity_may_be_required(identity: Identity | None, expected: tuple[int, int, int] | None) -> None:
    """N-30, PS3.7 D.3.3.7: 1/2/1; one of an unknown type is as good as none."""
    assert refusal(AE("SCP", require_identity=True), request(identity=identity)) == expected
    assert refusal(AE("SCP"), request(identity=identity)) is None
    unknown_caller = request(calling="OTHER")
    assert refusal(AE("SCP", require_identity=True, accept_calling=["SCU"]), unknown_caller) == (1, 1, 3)


# --- what is negotiated ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_pdu_length": 7}, "max_pdu_length is 7"),
        ({"max_pdu_length": (1 << 20) + 1}, "max_pdu_length is 1048577"),
        ({"max_pdu_length": 16384, "limits": Limits(pdu_length=8192)}, "max_pdu_length is 16384"),
        ({"async_ops": (1, 65536)}, "async_ops is"),
        ({"async_ops": (-1, 1)}, "async_ops is"),
        ({"accept_calling": ["A" * 17]}, "AE title"),
    ],
)
def test_what_could_never_be_negotiated_is_an_error_at_once(options: dict[str, object], match: str) -> None:
    """N-17, N-27: not when the first association comes."""
    with pytest.raises(ValueError, match=match):
        AE("SCP", **options)


@pytest.mark.parametrize("length", [0, 8, 1 << 20])
def test_a_maximum_length_that_can_be_announced_is(length: int) -> None:
    """N-17."""
    assert AE("SCP", max_pdu_length=length).answer(request()).user.max_length == length


def test_an_ae_that_supports_c_get_lets_requestors_receive() -> None:
    """PS3.4 C.5.3, PS3.7 D.3.3.4: for storage classes, private ones too; others keep the default roles."""
    contexts = [STUDY_GET, STUDY_FIND, CT, PRIVATE, dicomnet.Verification]
    asking = request(contexts=contexts, roles=dict.fromkeys(contexts, (True, True)))
    for ae in (AE("SCP", contexts=contexts), AE("SCP", contexts=[*contexts, *dicomnet.StorageClasses])):
        both = {context.abstract_syntax for context in accepted(ae, asking) if context.scp}
        assert both == {CT, PRIVATE}
    without = AE("SCP", contexts=contexts[1:])
    assert not [context for context in accepted(without, asking) if context.scp]


def test_roles_that_are_named_are_the_only_ones() -> None:
    """N-28: even none."""
    contexts = [STUDY_GET, CT, PRIVATE]
    asking = request(contexts=contexts)
    assert not AE("SCP", contexts=contexts, roles={}).answer(asking).user.roles
    (role,) = AE("SCP", contexts=contexts, roles={PRIVATE: (False, True)}).answer(asking).user.roles
    assert (role.sop_class_uid, role.scu, role.scp) == (PRIVATE, False, True)


def test_an_ae_prefers_transfer_syntaxes() -> None:
    """N-13: for bare SOP class UIDs; a class with a list keeps its own."""
    ae = AE("SCP", contexts=[CT, (PRIVATE, [IMPLICIT])], prefer=[JPEG, EXPLICIT])
    proposed = [(uid, [IMPLICIT, EXPLICIT, JPEG]) for uid in (CT, PRIVATE)]
    assert [context.transfer_syntax for context in accepted(ae, request(contexts=proposed))] == [JPEG, IMPLICIT]


def test_an_ae_answers_extended_negotiation() -> None:
    """N-29: from a mapping, or by a function."""
    asking = request(contexts=[STUDY_FIND], extended={STUDY_FIND: ExtendedQuery(relational=True, fuzzy=True)})
    for extended in ({STUDY_FIND: ExtendedQuery(fuzzy=True)}, lambda uid, asked: b"\0\0\1"):
        (item,) = AE("SCP", contexts=[STUDY_FIND], extended=extended).answer(asking).user.extended
        assert ExtendedQuery.decode(item.data) == ExtendedQuery(fuzzy=True)
    assert not AE("SCP", contexts=[STUDY_FIND]).answer(asking).user.extended


def test_an_ae_may_accept_what_specialises_a_class_that_it_supports() -> None:
    """PS3.7 D.3.3.6: only if it says so."""
    asking = request(contexts=[PRIVATE], common_extended=[dicomnet.CommonExtended(PRIVATE, related=(CT,))])
    assert not accepted(AE("SCP", contexts=[CT]), asking)
    (context,) = accepted(AE("SCP", contexts=[CT], accept_related=True), asking)
    assert context.abstract_syntax == PRIVATE


def test_an_identity_response_goes_out_if_it_was_asked_for() -> None:
    """N-30."""
    for wanted in (False, True):
        asking = request(identity=Identity.kerberos(b"ticket", response_requested=wanted))
        answer = AE("SCP", contexts=[CT]).answer(asking, identity_response=b"server's")
        assert answer.user.identity_response == (b"server's" if wanted else None)


def test_hundreds_of_classes_are_looked_up_not_searched() -> None:
    """PS3.8 7.1.1.13: each context of a request is answered from one table, built when the AE is."""
    classes = [f"1.2.3.{number}" for number in range(1_000)]
    ae = AE("SCP", contexts=[*dicomnet.StorageClasses, *((uid, [IMPLICIT]) for uid in classes)])
    assert ae.policy.supported["1.2.3.999"] == (IMPLICIT,)
    found = accepted(ae, request(contexts=[(uid, [EXPLICIT, IMPLICIT]) for uid in classes[-128:]]))
    assert len(found) == 128
    assert {context.transfer_syntax for context in found} == {IMPLICIT}
