"""Association negotiation (PS3.8 7.1.1, PS3.7 D.3): request × policy → answer, and what the two mean together."""

import dataclasses

import pytest
from hypothesis import given, strategies as st

from dicomnet import models
from dicomnet.config import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MAX_PDU_LENGTH, Identity
from dicomnet.ul import negotiation, pdu
from dicomnet.ul.extended import CommonExtended, ExtendedQuery, ExtendedStorage
from dicomnet.ul.negotiation import AcceptedContext, Policy, PresentationContext, accepted_contexts, answer, as_context
from dicomnet.ul.pdu import (
    AnsweredContext,
    AssociateAc,
    AssociateRq,
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    ProposedContext,
    RoleSelection,
    UserInformation,
)
from dicomnet.ul.wire import InvalidPdu
from tests.ul import strategies
from tests.ul.dialogue import CT, EXPLICIT, IMPLICIT, RQ, VERIFICATION

JPEG = "1.2.840.10008.1.2.4.50"
MR = "1.2.840.10008.5.1.4.1.1.4"
PRIVATE = "1.3.12.2.1107.5.9.1"
STUDY_FIND, STUDY_MOVE, STUDY_GET = models.MODELS["study"]
POLICY = Policy({VERIFICATION: (IMPLICIT,)})


def asking(*contexts: ProposedContext, **user: object) -> AssociateRq:
    return AssociateRq("CALLED", "CALLING", contexts or RQ.contexts, UserInformation(**user))


def answering(*contexts: AnsweredContext, **user: object) -> AssociateAc:
    return AssociateAc("CALLED", "CALLING", contexts or (AnsweredContext(1, 0, IMPLICIT),), UserInformation(**user))


def answer_to(
    supported: dict[str, tuple[str, ...]], proposed: tuple[str, ...], known: frozenset[str]
) -> AnsweredContext:
    """The answer to one context for CT."""
    (context,) = answer(asking(ProposedContext(7, CT, proposed)), Policy(supported, known)).contexts
    return context


# --- to request -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (CT, PresentationContext(CT)),
        ((CT, JPEG), PresentationContext(CT, (JPEG,))),
        ((CT, [JPEG, IMPLICIT]), PresentationContext(CT, (JPEG, IMPLICIT))),
        ([CT, (JPEG,)], PresentationContext(CT, (JPEG,))),
        (PresentationContext(CT, (JPEG,)), PresentationContext(CT, (JPEG,))),
    ],
)
def test_a_context_is_given_in_several_ways(context: negotiation.ContextLike, expected: PresentationContext) -> None:
    """PS3.8 7.1.1.13: an abstract syntax and its transfer syntaxes."""
    assert as_context(context) == expected


@pytest.mark.parametrize("context", [None, 1, b"1.2", (), (CT,), (CT, [], [])])
def test_what_is_no_context_is_a_type_error(context: object) -> None:
    """PS3.8 7.1.1.13."""
    with pytest.raises(TypeError, match="is no SOP class UID"):
        as_context(context)


def test_strings_of_other_types_become_plain_ones() -> None:
    """PS3.8 9.3.2.2: UIDs are compared as text, whatever class the caller has for them."""

    class Uid(str):
        __slots__ = ()

    for context in (Uid(CT), (Uid(CT), Uid(JPEG)), (Uid(CT), [Uid(JPEG)])):
        found = as_context(context)
        assert {type(uid) for uid in (found.abstract_syntax, *found.transfer_syntaxes)} == {str}


def test_contexts_are_proposed_with_odd_ids_and_the_default_transfer_syntaxes() -> None:
    """N-12, PS3.5 10.1: what is not said otherwise is offered in explicit and in implicit VR."""
    assert negotiation.propose([VERIFICATION, (CT, [JPEG])]) == (
        ProposedContext(1, VERIFICATION, (EXPLICIT, IMPLICIT)),
        ProposedContext(3, CT, (JPEG,)),
    )


@pytest.mark.parametrize(("count", "match"), [(0, "at least one"), (129, "129 presentation contexts")])
def test_too_few_or_too_many_contexts_are_the_callers_error(count: int, match: str) -> None:
    """N-11, N-12: 1 to 128."""
    with pytest.raises(ValueError, match=match):
        negotiation.propose([CT] * count)


def test_128_contexts_have_the_ids_up_to_255() -> None:
    """N-12."""
    assert [context.id for context in negotiation.propose([CT] * 128)] == list(range(1, 256, 2))


def test_a_request_asks_for_what_is_wanted_and_for_nothing_else() -> None:
    """PS3.7 D.3.3: each sub-item only if there is something to say."""
    assert negotiation.request(" CALLED ", "CALLING", [VERIFICATION]) == AssociateRq(
        "CALLED",
        "CALLING",
        (ProposedContext(1, VERIFICATION, (EXPLICIT, IMPLICIT)),),
        UserInformation(MAX_PDU_LENGTH, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME),
    )


def test_a_request_asks_for_all_that_can_be_negotiated() -> None:
    """PS3.7 D.3.3: maximum length, window, roles, extended negotiation, identity."""
    who = Identity.passcode("me", "swordfish", response_requested=True)
    user = negotiation.request(
        "CALLED",
        "CALLING",
        [CT],
        identity=who,
        async_ops=(8, 0),
        roles={CT: (True, True)},
        extended={CT: b"\1", STUDY_FIND: ExtendedQuery(relational=True, fuzzy=True), MR: ExtendedStorage(level=3)},
        common_extended=[CommonExtended(PRIVATE, related=(CT, MR)), CommonExtended(CT, "1.2.3")],
        max_length=16384,
    ).user
    assert (user.max_length, user.identity, user.async_ops) == (16384, who, (8, 0))
    assert user.roles == (RoleSelection(CT, True, True),)
    assert user.extended == (
        ExtendedNegotiation(CT, b"\1"),
        ExtendedNegotiation(STUDY_FIND, b"\1\0\1"),
        ExtendedNegotiation(MR, b"\3\0\0\0\0\0"),
    )
    assert user.common_extended == (
        CommonExtendedNegotiation(PRIVATE, "1.2.840.10008.4.2", (CT, MR)),
        CommonExtendedNegotiation(CT, "1.2.3"),
    )


@pytest.mark.parametrize(
    ("contexts", "roles"),
    [
        ([STUDY_GET, MR, (CT, [JPEG]), (CT, [IMPLICIT]), STUDY_FIND, VERIFICATION, PRIVATE], {CT, MR, PRIVATE}),
        ([STUDY_FIND, STUDY_MOVE, CT], set()),
        ([STUDY_GET], set()),
    ],
)
def test_who_may_ask_for_c_get_offers_to_receive(contexts: list[negotiation.ContextLike], roles: set[str]) -> None:
    """PS3.4 C.5.3, PS3.7 D.3.3.4: both roles of each class that may be stored, private ones too, and each once."""
    found = negotiation.request("CALLED", "CALLING", contexts).user.roles
    assert found == tuple(RoleSelection(uid, True, True) for uid in sorted(roles))


def test_roles_that_are_named_are_the_only_ones() -> None:
    """N-28: even none."""
    for roles in ({}, {CT: (False, True)}):
        found = negotiation.request("CALLED", "CALLING", [STUDY_GET, CT, MR], roles=roles).user.roles
        assert [role.sop_class_uid for role in found] == list(roles)


@pytest.mark.parametrize("window", [(-1, 1), (1, 0x10000)])
def test_a_window_that_cannot_be_encoded_is_the_callers_error(window: tuple[int, int]) -> None:
    """N-27, PS3.7 D.3.3.3.1: two numbers of 16 bits."""
    with pytest.raises(ValueError, match="async_ops is"):
        negotiation.request("CALLED", "CALLING", [CT], async_ops=window)


@pytest.mark.parametrize(("called", "calling"), [("", "A"), ("A", " "), ("A" * 17, "A"), ("A", "Ä"), ("A\\B", "A")])
def test_a_request_has_ae_titles_that_the_standard_allows(called: str, calling: str) -> None:
    """N-14."""
    with pytest.raises(ValueError, match="AE title"):
        negotiation.request(called, calling, [CT])


# --- to answer ------------------------------------------------------------------------------------------------------


def test_what_is_supported_adds_up() -> None:
    """PS3.8 7.1.1.14: a UID that comes twice adds its transfer syntaxes; without any, it takes all that are known."""
    assert negotiation.support([CT]) == {CT: ()}
    assert negotiation.support([(CT, [JPEG, IMPLICIT]), (CT, [IMPLICIT, EXPLICIT]), VERIFICATION]) == {
        CT: (JPEG, IMPLICIT, EXPLICIT),
        VERIFICATION: (),
    }
    assert negotiation.support([CT, (CT, [JPEG])]) == {CT: ()}
    assert negotiation.support([(CT, [JPEG]), CT]) == {CT: ()}


@pytest.mark.parametrize(
    ("supported", "proposed", "result", "syntax"),
    [
        ({CT: (JPEG, IMPLICIT)}, (IMPLICIT, JPEG), 0, JPEG),  # the acceptor's order
        ({CT: (JPEG, IMPLICIT)}, (EXPLICIT, IMPLICIT), 0, IMPLICIT),
        ({CT: (JPEG,)}, (EXPLICIT, IMPLICIT), 4, EXPLICIT),
        ({CT: ()}, ("1.2.3", IMPLICIT, EXPLICIT), 0, IMPLICIT),  # the requestor's order, as far as known
        ({CT: ()}, ("1.2.3",), 4, "1.2.3"),
        ({}, (EXPLICIT, IMPLICIT), 3, EXPLICIT),
    ],
)
def test_a_context_is_accepted_with_one_transfer_syntax_or_refused(
    supported: dict[str, tuple[str, ...]], proposed: tuple[str, ...], result: int, syntax: str
) -> None:
    """N-13, Table 9-18: an answer has exactly one; 3: abstract syntax, 4: transfer syntaxes not supported."""
    assert answer_to(supported, proposed, frozenset((IMPLICIT, EXPLICIT))) == AnsweredContext(7, result, syntax)


@pytest.mark.parametrize(
    ("preferred", "proposed", "syntax"),
    [
        ((JPEG, EXPLICIT), (IMPLICIT, EXPLICIT, JPEG), JPEG),
        ((JPEG, EXPLICIT), (IMPLICIT, EXPLICIT), EXPLICIT),
        ((JPEG,), (IMPLICIT, EXPLICIT), IMPLICIT),  # none of the preferred ones: the requestor's first that is known
        (("1.2.3",), (IMPLICIT, "1.2.3"), "1.2.3"),  # to prefer a transfer syntax is to know it
    ],
)
def test_an_acceptor_may_prefer_transfer_syntaxes(
    preferred: tuple[str, ...], proposed: tuple[str, ...], syntax: str
) -> None:
    """N-13, PS3.8 7.1.1.14: for classes without a list of their own."""
    policy = Policy({CT: (), MR: (IMPLICIT,)}, frozenset((IMPLICIT, EXPLICIT)), preferred=preferred)
    ours, listed = answer(asking(ProposedContext(1, CT, proposed), ProposedContext(3, MR, proposed)), policy).contexts
    assert ours == AnsweredContext(1, 0, syntax)
    assert listed == AnsweredContext(3, 0, IMPLICIT)


def test_a_specialised_class_is_accepted_as_the_general_one_if_the_acceptor_likes() -> None:
    """PS3.7 D.3.3.6: with the transfer syntaxes of the first related general SOP class that is supported."""
    request = asking(
        ProposedContext(1, PRIVATE, (JPEG, IMPLICIT)),
        ProposedContext(3, CT, (JPEG, IMPLICIT)),
        ProposedContext(5, "1.2.3", (IMPLICIT,)),
        common_extended=(
            CommonExtendedNegotiation(PRIVATE, "1.2.840.10008.4.2", ("1.2.9", MR, CT)),
            CommonExtendedNegotiation(CT, "1.2.840.10008.4.2", (MR,)),
            CommonExtendedNegotiation("1.2.3", "1.2.840.10008.4.2", ("1.2.9",)),
        ),
    )
    policy = Policy({MR: (IMPLICIT,), CT: (JPEG,)})
    assert [context.result for context in answer(request, policy).contexts] == [3, 0, 3]
    found = answer(request, dataclasses.replace(policy, related=True))
    assert found.contexts == (
        AnsweredContext(1, 0, IMPLICIT),
        AnsweredContext(3, 0, JPEG),  # supported itself
        AnsweredContext(5, 3, IMPLICIT),
    )
    assert found.user.common_extended == ()


def test_a_uid_longer_than_64_characters_is_not_supported() -> None:
    """W9: and that is all."""
    long = "1." + "2" * 98
    assert answer(asking(ProposedContext(1, long, (long,))), POLICY).contexts == (AnsweredContext(1, 3, long),)
    assert answer_to({CT: ()}, (long, IMPLICIT), frozenset((IMPLICIT,))).transfer_syntax == IMPLICIT


def test_an_answer_is_about_the_same_contexts_in_the_same_order() -> None:
    """N-12, PS3.8 9.3.3.2: one for each that was proposed."""
    request = asking(*(ProposedContext(id, uid, (IMPLICIT,)) for id, uid in ((5, CT), (1, VERIFICATION), (3, CT))))
    assert [(context.id, context.result) for context in answer(request, POLICY).contexts] == [(5, 3), (1, 0), (3, 3)]


def test_an_answer_repeats_the_titles_and_says_who_answers() -> None:
    """N-09, PS3.8 D.1, PS3.7 D.3.3.2: bytes 11–74; maximum length, implementation."""
    request = dataclasses.replace(asking(), titles=bytes(range(64)))
    policy = dataclasses.replace(
        POLICY, max_length=16384, implementation_class_uid="1.2.3", implementation_version_name="V1"
    )
    found = answer(request, policy)
    assert (found.called_ae, found.calling_ae, found.titles) == ("CALLED", "CALLING", bytes(range(64)))
    assert found.user == UserInformation(16384, "1.2.3", "V1")
    assert answer(request, POLICY).user.max_length == MAX_PDU_LENGTH


@pytest.mark.parametrize(
    ("asked", "supported", "granted"),
    [
        ((True, True), (True, True), (True, True)),
        ((True, True), (False, True), (False, True)),
        ((False, True), (True, True), (False, True)),
        ((True, False), (False, True), (False, False)),
    ],
)
def test_a_role_is_granted_if_it_was_asked_for_and_is_supported(
    asked: tuple[bool, bool], supported: tuple[bool, bool], granted: tuple[bool, bool]
) -> None:
    """N-28, PS3.7 D.3.3.4: an acceptor does not grant what was not asked for."""
    request = asking(roles=(RoleSelection(VERIFICATION, *asked),))
    found = answer(request, dataclasses.replace(POLICY, roles={VERIFICATION: supported, CT: (True, True)}))
    assert found.user.roles == (RoleSelection(VERIFICATION, *granted),)
    assert answer(request, POLICY).user.roles == ()


def test_what_is_asked_twice_is_answered_once() -> None:
    """PS3.7 D.3.3.4, D.3.3.5: one sub-item a SOP class; the last one counts, as it does for the requestor."""
    request = asking(
        roles=(RoleSelection(VERIFICATION, True, False), RoleSelection(VERIFICATION, False, True)),
        extended=(ExtendedNegotiation(CT, b"\1"), ExtendedNegotiation(CT, b"\0\1")),
    )
    policy = dataclasses.replace(
        POLICY,
        roles={VERIFICATION: (True, True)},
        extended={CT: ExtendedQuery(relational=True, combined_datetime=True)},
    )
    found = answer(request, policy)
    assert found.user.roles == (RoleSelection(VERIFICATION, False, True),)
    assert found.user.extended == (ExtendedNegotiation(CT, b"\0\1"),)
    (context,) = accepted_contexts(request, found).values()
    assert (context.scu, context.scp) == (False, True)


@pytest.mark.parametrize(
    ("asked", "allowed", "granted"),
    [
        (None, (8, 8), None),
        ((1, 1), (8, 8), (1, 1)),
        ((16, 2), (8, 8), (8, 2)),
        ((0, 0), (8, 8), (8, 8)),
        ((5, 5), (0, 0), (5, 5)),
        ((0, 0), (0, 0), (0, 0)),
        ((0xFFFF, 0), (0, 0xFFFF), (0xFFFF, 0xFFFF)),
    ],
)
def test_a_window_is_the_lesser_of_both(
    asked: tuple[int, int] | None, allowed: tuple[int, int], granted: tuple[int, int] | None
) -> None:
    """N-27, PS3.7 D.3.3.3: 0 is unlimited; without a request none is answered, and it is synchronous."""
    request = asking(async_ops=asked)
    found = answer(request, dataclasses.replace(POLICY, async_ops=allowed))
    assert found.user.async_ops == granted
    assert negotiation.window(request, found) == (granted or (1, 1))


@pytest.mark.parametrize(
    ("asked", "granted", "window"),
    [
        (None, None, (1, 1)),
        (None, (8, 8), (1, 1)),
        ((8, 8), None, (1, 1)),
        ((8, 8), (4, 2), (4, 2)),
        ((4, 2), (8, 8), (4, 2)),
        ((0, 3), (8, 0), (8, 3)),
        ((0, 0), (0, 0), (0, 0)),
    ],
)
def test_a_window_never_exceeds_what_was_asked_for(
    asked: tuple[int, int] | None, granted: tuple[int, int] | None, window: tuple[int, int]
) -> None:
    """N-27: whatever the acceptor says."""
    assert negotiation.window(asking(async_ops=asked), answering(async_ops=granted)) == window


def test_extended_negotiation_is_answered_where_it_is_supported() -> None:
    """N-29: and common extended negotiation never is (PS3.7 D.3.3.6)."""
    request = asking(
        extended=(ExtendedNegotiation(CT, b"\1\1"), ExtendedNegotiation(VERIFICATION, b"\1")),
        common_extended=(CommonExtendedNegotiation(CT, "1.2"),),
    )
    assert answer(request, POLICY).user.extended == ()
    found = answer(request, dataclasses.replace(POLICY, extended={CT: b"\1\0", JPEG: b"\1"}))
    assert found.user.extended == (ExtendedNegotiation(CT, b"\1\0"),)
    assert found.user.common_extended == ()


def test_extended_negotiation_may_be_answered_by_a_function() -> None:
    """N-29: of the SOP class and what was asked."""

    def decide(uid: str, asked: bytes) -> ExtendedQuery | bytes | None:
        return {CT: ExtendedQuery(fuzzy=True), MR: asked[:1]}.get(uid)

    request = asking(extended=tuple(ExtendedNegotiation(uid, b"\7\7") for uid in (CT, MR, VERIFICATION)))
    found = answer(request, dataclasses.replace(POLICY, extended=decide)).user.extended
    assert found == (ExtendedNegotiation(CT, b"\0\0\1"), ExtendedNegotiation(MR, b"\7"))


@pytest.mark.parametrize(
    ("identity", "response"),
    [
        (None, None),
        (Identity(1, b"me"), None),
        (Identity(1, b"me", response_requested=True), b"ok"),
    ],
)
def test_an_identity_is_answered_only_if_an_answer_was_asked_for(
    identity: Identity | None, response: bytes | None
) -> None:
    """N-30, PS3.7 D.3.3.7.2."""
    request = asking(identity=identity)
    assert answer(request, POLICY, identity_response=b"ok").user.identity_response == response
    assert answer(request, POLICY).user.identity_response is None


@pytest.mark.parametrize("type", [0, 6, 255])
def test_an_identity_of_an_unsupported_type_is_ignored(type: int) -> None:
    """N-30, W12."""
    request = asking(identity=Identity(type, b"token", response_requested=True))
    assert answer(request, POLICY) == answer(asking(), POLICY)


# --- what it means --------------------------------------------------------------------------------------------------


def test_the_contexts_that_were_accepted_may_be_used() -> None:
    """N-12: not a refused one, whatever transfer syntax its answer names, nor one without an answer."""
    request = asking(*(ProposedContext(id, CT, (IMPLICIT, EXPLICIT)) for id in (1, 3, 5, 7)))
    accept = answering(
        AnsweredContext(3, 0, EXPLICIT), AnsweredContext(1, 4, "nonsense"), AnsweredContext(7, 0, IMPLICIT)
    )
    assert accepted_contexts(request, accept) == {
        3: AcceptedContext(3, CT, EXPLICIT),
        7: AcceptedContext(7, CT, IMPLICIT),
    }


@pytest.mark.parametrize(
    "context", [AnsweredContext(3, 0, IMPLICIT), AnsweredContext(3, 1, IMPLICIT), AnsweredContext(1, 0, JPEG)], ids=str
)
def test_an_answer_to_what_was_not_proposed_is_invalid(context: AnsweredContext) -> None:
    """N-12, N-13: another context, another transfer syntax: 2/6."""
    with pytest.raises(InvalidPdu, match=r"not proposed|never proposed") as caught:
        accepted_contexts(asking(), answering(context))
    assert caught.value.reason == 6


@pytest.mark.parametrize(
    ("asked", "granted", "roles"),
    [
        (None, None, (True, False)),
        ((True, True), None, (True, False)),
        (None, (False, True), (True, False)),
        ((True, True), (True, True), (True, True)),
        ((True, True), (False, True), (False, True)),
        ((False, True), (True, True), (False, True)),
    ],
)
def test_roles_default_when_they_were_not_answered(
    asked: tuple[bool, bool] | None, granted: tuple[bool, bool] | None, roles: tuple[bool, bool]
) -> None:
    """N-28, PS3.7 D.3.3.4: the requestor is the SCU; nobody gets a role that was not asked for."""
    request = asking(roles=() if asked is None else (RoleSelection(VERIFICATION, *asked),))
    accept = answering(roles=() if granted is None else (RoleSelection(VERIFICATION, *granted),))
    (context,) = accepted_contexts(request, accept).values()
    assert (context.scu, context.scp) == roles


@given(
    strategies.associate_rqs,
    st.lists(st.sampled_from([CT, VERIFICATION]) | strategies.uids, max_size=3),
    st.tuples(strategies.bytes_2, strategies.bytes_2),
)
def test_any_answer_fits_its_request(request: AssociateRq, known: list[str], window: tuple[int, int]) -> None:
    """N-09, N-12, N-13: whatever was asked for, our answer is one that we would take, and both sides read it alike."""
    request = pdu.decode(pdu.encode(request))
    supported = {context.abstract_syntax: tuple(known) for context in request.contexts[:2]}
    policy = Policy(supported, frozenset(request.contexts[0].transfer_syntaxes), async_ops=window)
    accept = answer(request, policy)
    received = pdu.decode(pdu.encode(accept))
    assert received == accept
    assert received.titles == request.titles
    assert accepted_contexts(request, received) == accepted_contexts(request, accept)
    assert negotiation.window(request, received) == (accept.user.async_ops or (1, 1))
