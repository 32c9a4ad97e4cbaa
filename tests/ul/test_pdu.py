"""The PDUs as values (PS3.8 9.3, PS3.7 D.3.3): their bytes, what is tolerated, what is refused and why."""

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import example, given, strategies as st

from dicomnet.config import Identity
from dicomnet.ul import pdu
from dicomnet.ul.pdu import AnsweredContext, AssociateAc, AssociateRq, PDataTf, Pdv, ProposedContext, UserInformation
from dicomnet.ul.wire import MAX_ITEMS, InvalidPdu, counted, item, u16, u32
from tests.ul import strategies
from tests.ul.dialogue import AC, EXPLICIT, IMPLICIT, RQ, VERIFICATION

# --- the bytes of an A-ASSOCIATE-RQ or -AC, part by part, so that a test can get one of them wrong ------------------

APPLICATION = item(0x10, b"1.2.840.10008.3.1.1.1")
ABSTRACT = item(0x30, b"1.2.840.10008.1.1")
TRANSFER = item(0x40, b"1.2.840.10008.1.2")
MAX_LENGTH = item(0x51, u32(16384))
CLASS_UID = item(0x52, b"1.2.3")
TITLES = b"CALLED".ljust(16) + b"CALLING".ljust(16) + bytes(32)


def context(id: int = 1, *parts: bytes) -> bytes:
    return item(0x20, bytes((id, 0, 0, 0)) + b"".join(parts or (ABSTRACT, TRANSFER)))


def answered(id: int = 1, result: int = 0, *parts: bytes) -> bytes:
    return item(0x21, bytes((id, 0, result, 0)) + b"".join(parts or (TRANSFER,)))


def user(*parts: bytes) -> bytes:
    return item(0x50, b"".join(parts or (MAX_LENGTH, CLASS_UID)))


def rq(*items: bytes, titles: bytes = TITLES, version: int = 1) -> bytes:
    value = u16(version) + bytes(2) + titles + b"".join(items or (APPLICATION, context(), user()))
    return b"\1\0" + u32(len(value)) + value


def ac(*items: bytes) -> bytes:
    return b"\2" + rq(*items or (APPLICATION, answered(), user()))[1:]


def rq_user(*parts: bytes) -> UserInformation:
    """The user information of a request with these sub-items."""
    return pdu.decode(rq(APPLICATION, context(), user(*parts))).user


def refuses(data: bytes, reason: int = 6, match: str | None = None) -> None:
    with pytest.raises(InvalidPdu, match=match) as caught:
        pdu.decode(data)
    assert caught.value.reason == reason


# --- values and bytes -----------------------------------------------------------------------------------------------

GOLDEN = [
    (pdu.AssociateRj(1, 2, 2), "03 00 00000004 00 01 02 02"),
    (pdu.AssociateRj(2, 3, 1), "03 00 00000004 00 02 03 01"),
    (pdu.ReleaseRq(), "05 00 00000004 00000000"),
    (pdu.ReleaseRp(), "06 00 00000004 00000000"),
    (pdu.Abort(0, 0), "07 00 00000004 0000 00 00"),
    (pdu.Abort(2, 6), "07 00 00000004 0000 02 06"),
    (PDataTf((Pdv(1, True, True, b"\xab\xcd"),)), "04 00 00000008 00000004 01 03 ABCD"),
    (
        PDataTf((Pdv(1, True, True, b""), Pdv(3, False, False, b"\1"), Pdv(255, False, True, b"\2\3"))),
        "04 00 00000015 00000002 01 03 00000003 03 00 01 00000004 FF 02 0203",
    ),
    (
        AssociateRq(
            "A", "B", (ProposedContext(255, "1.2", ("1.3", "1.4")),), UserInformation(), "1.5", unknown=((0x99, b"x"),)
        ),
        "01 00 00000071 0001 0000"
        "41 202020202020202020202020202020 42 202020202020202020202020202020" + "00" * 32 + "10 00 0003 312E35"
        "20 00 0019 FF 000000 30 00 0003 312E32 40 00 0003 312E33 40 00 0003 312E34"
        "50 00 0000 99 00 0001 78",
    ),
    (
        AssociateAc("A", "B", (AnsweredContext(1, 0, "1.3"), AnsweredContext(3, 4, "")), UserInformation(), "1.5"),
        "02 00 0000006A 0001 0000"
        "41 202020202020202020202020202020 42 202020202020202020202020202020" + "00" * 32 + "10 00 0003 312E35"
        "21 00 000B 01 00 00 00 40 00 0003 312E33 21 00 0008 03 00 04 00 40 00 0000 50 00 0000",
    ),
]
GOLDEN_SUB_ITEMS = [
    (UserInformation(max_length=0), "51 00 0004 00000000"),
    (UserInformation(max_length=0x4000), "51 00 0004 00004000"),
    (UserInformation(implementation_class_uid="1.2"), "52 00 0003 312E32"),
    (UserInformation(async_ops=(0, 5)), "53 00 0004 0000 0005"),
    (UserInformation(roles=(pdu.RoleSelection("1.2", True, False),)), "54 00 0007 0003 312E32 01 00"),
    (UserInformation(implementation_version_name="V1"), "55 00 0002 5631"),
    (UserInformation(extended=(pdu.ExtendedNegotiation("1.2", b"\1\0"),)), "56 00 0007 0003 312E32 0100"),
    (
        UserInformation(common_extended=(pdu.CommonExtendedNegotiation("1.2", "4.2", ("1.3", "1.4"), 1),)),
        "57 01 0016 0003 312E32 0003 342E32 000A 0003 312E33 0003 312E34",
    ),
    (UserInformation(identity=Identity(2, b"me", b"pw", True)), "58 00 000A 02 01 0002 6D65 0002 7077"),
    (UserInformation(identity_response=b"ok"), "59 00 0004 0002 6F6B"),
    (UserInformation(unknown=((0x5A, b"?"),)), "5A 00 0001 3F"),
]


@pytest.mark.parametrize(("value", "encoded"), GOLDEN, ids=lambda it: it if isinstance(it, str) else type(it).__name__)
def test_a_pdu_has_the_bytes_of_the_standard(value: pdu.Pdu, encoded: str) -> None:
    """9.3.2–9.3.8, Tables 9-11 to 9-26; N-08, N-15: reserved fields and the fixed lengths."""
    assert pdu.encode(value) == bytes.fromhex(encoded)
    assert pdu.decode(bytes.fromhex(encoded)) == value


@pytest.mark.parametrize(("value", "encoded"), GOLDEN_SUB_ITEMS, ids=lambda it: it[:2] if isinstance(it, str) else "")
def test_a_user_sub_item_has_the_bytes_of_the_standard(value: UserInformation, encoded: str) -> None:
    """PS3.8 D.1, PS3.7 Tables D.3-1 to D.3-15."""
    request = dataclasses.replace(RQ, user=value)
    assert pdu.encode(request).endswith(item(0x50, bytes.fromhex(encoded)))
    assert pdu.decode(pdu.encode(request)).user == value


@given(strategies.pdus)
@example(RQ)
@example(AC)
def test_what_is_encoded_is_decoded_to_the_same_value(value: pdu.Pdu) -> None:
    """9.3: decode(encode(x)) == x, for every PDU value."""
    encoded = pdu.encode(value)
    assert encoded[0] in set(pdu.PduType)
    assert int.from_bytes(encoded[2:6], "big") == len(encoded) - 6
    assert pdu.decode(encoded) == value
    assert pdu.encode(pdu.decode(encoded)) == encoded


@given(strategies.streams)
def test_any_bytes_are_a_pdu_or_invalid(data: bytes) -> None:
    """W6: nothing but InvalidPdu comes out of decoding, with a reason that may be sent (never 3, 9.3.8)."""
    try:
        assert pdu.decode(pdu.encode(value := pdu.decode(data))) == value
    except InvalidPdu as error:
        assert error.reason in (1, 5, 6)  # noqa: PT017


@given(strategies.pdus, st.data())
def test_a_pdu_that_was_cut_or_extended_is_invalid(value: pdu.Pdu, data: st.DataObject) -> None:
    """W6: the length in the header is the length of the PDU."""
    encoded = pdu.encode(value)
    refuses(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    refuses(encoded + b"\0")


UNENCODABLE = [
    dataclasses.replace(RQ, called_ae="SEVENTEEN_LETTERS"),
    dataclasses.replace(RQ, called_ae="ΑΓΝΩΣΤΟΣ"),
    dataclasses.replace(RQ, application_context="Ω"),
    dataclasses.replace(RQ, protocol_version=0x10000),
    dataclasses.replace(RQ, contexts=(ProposedContext(257, VERIFICATION, (IMPLICIT,)),)),
    dataclasses.replace(RQ, user=UserInformation(max_length=1 << 32)),
    dataclasses.replace(RQ, user=UserInformation(identity=Identity(1, bytes(0x10000)))),
    pdu.Abort(256, 0),
]


@pytest.mark.parametrize("value", UNENCODABLE, ids=range(len(UNENCODABLE)))
def test_a_value_that_has_no_encoding_is_a_value_error(value: pdu.Pdu) -> None:
    """9.3: fields have fixed sizes, names one byte a character."""
    with pytest.raises((ValueError, OverflowError)):
        pdu.encode(value)


def test_a_secret_does_not_show() -> None:
    """PS3.7 D.3.3.7: what a log may show of a request holds no passcode, ticket or token."""
    identity = Identity(2, b"Mallory", b"swordfish")
    request = dataclasses.replace(RQ, user=UserInformation(identity=identity))
    for shown in (repr(identity), str(request)):
        assert "Identity(type=2, 7 + 9 bytes)" in shown
        assert "Mallory" not in shown
        assert "swordfish" not in shown


# --- what is tolerated ----------------------------------------------------------------------------------------------


def test_items_of_unknown_type_are_skipped() -> None:
    """N-06, W7: at each level, at each place, also in the contexts; kept where they may be of interest."""
    strange = item(0xE7, b"\xff\xff\xff")
    request = pdu.decode(
        rq(
            strange,
            APPLICATION,
            item(0x21, b"an answer's"),
            context(1, strange, ABSTRACT, strange, TRANSFER, strange),
            user(strange, MAX_LENGTH, strange),
            strange,
        )
    )
    assert request.contexts == RQ.contexts
    assert request.user == UserInformation(max_length=16384, unknown=((0xE7, b"\xff\xff\xff"),) * 2)
    assert request.unknown == ((0xE7, b"\xff\xff\xff"), (0x21, b"an answer's"), (0xE7, b"\xff\xff\xff"))

    accept = pdu.decode(ac(strange, APPLICATION, answered(1, 0, strange, TRANSFER, strange), user(strange), context()))
    assert accept.contexts == AC.contexts
    assert [kind for kind, _ in accept.unknown] == [0xE7, 0x20]


def test_items_come_in_any_order() -> None:
    """N-07, W7: items of the PDU, sub-items of a context."""
    assert pdu.decode(rq(user(), context(1, TRANSFER, ABSTRACT), APPLICATION)) == pdu.decode(rq())
    assert pdu.decode(ac(user(), answered(), APPLICATION)) == pdu.decode(ac())


@given(st.permutations([bytes.fromhex(encoded) for value, encoded in GOLDEN_SUB_ITEMS if value.max_length != 0]))
def test_user_sub_items_come_in_any_order(parts: list[bytes]) -> None:
    """N-07: user sub-items in any order."""
    assert rq_user(*parts) == rq_user(*sorted(parts))


def test_reserved_fields_are_not_tested() -> None:
    """N-08, W7: FF in every reserved byte."""
    loud = bytearray(rq())
    loud[1] = loud[8] = loud[9] = 0xFF
    loud[42:74] = b"\xff" * 32
    at = 74
    for length in (len(APPLICATION), len(context())):
        loud[at + 1] = 0xFF
        at += length
    start = 74 + len(APPLICATION)
    loud[start + 5 : start + 8] = b"\xff\xff\xff"  # behind the context ID
    loud[start + 9] = loud[start + 8 + len(ABSTRACT) + 1] = 0xFF  # its sub-items
    loud[at + 1] = loud[at + 5] = loud[at + 4 + len(MAX_LENGTH) + 1] = 0xFF  # user information and its sub-items
    assert pdu.decode(bytes(loud)) == pdu.decode(rq())

    assert pdu.decode(b"\3\xff\0\0\0\4\xff\1\2\2") == pdu.AssociateRj(1, 2, 2)
    assert pdu.decode(b"\5\xff\0\0\0\4\xff\xff\xff\xff") == pdu.ReleaseRq()
    assert pdu.decode(b"\6\xff\0\0\0\4\xff\xff\xff\xff") == pdu.ReleaseRp()
    assert pdu.decode(b"\7\xff\0\0\0\4\xff\xff\2\6") == pdu.Abort(2, 6)


def test_an_answer_repeats_the_titles_byte_for_byte() -> None:
    """N-09, Table 9-17: bytes 11–74 as they came, whatever is in them; not part of what makes two values equal."""
    titles = b" ODD\0".ljust(16, b"\0") + b"\xfe" * 16 + bytes(range(32))
    request = pdu.decode(rq(titles=titles))
    assert request.titles == titles
    answer = dataclasses.replace(AC, titles=request.titles)
    assert pdu.encode(answer)[10:74] == titles
    assert answer == AC


@pytest.mark.parametrize("version", [0, 1, 2, 3, 0x8001])
def test_any_protocol_version_is_read(version: int) -> None:
    """N-10: what follows from its bit 0 is the state machine's business (AE-6)."""
    assert pdu.decode(rq(version=version)).protocol_version == version


@pytest.mark.parametrize(
    ("field", "title"),
    [
        (b"ECHO            ", "ECHO"),
        (b"   ECHO         ", "ECHO"),
        (b"            ECHO", "ECHO"),
        (b"TWO WORDS       ", "TWO WORDS"),
        (b"SIXTEEN_LETTERS_", "SIXTEEN_LETTERS_"),
        (b"lower           ", "lower"),
        (b"ECHO\0\0\0\0\0\0\0\0\0\0\0\0", "ECHO"),
        (b"EC\0HO           ", "EC\0HO"),
        (b"../../etc/passwd", "../../etc/passwd"),
        (b"\xc4\xff              ", "Äÿ"),
        (b"                ", ""),
        (bytes(16), ""),
    ],
)
def test_spaces_around_an_ae_title_mean_nothing(field: bytes, title: str) -> None:
    """N-14, W10: what else is in a title is for the user to judge; nothing in it breaks the reading."""
    request = pdu.decode(rq(titles=field + field + bytes(32)))
    assert (request.called_ae, request.calling_ae) == (title, title)


@pytest.mark.parametrize("padding", [b"\0", b" ", b"\0\0", b" \0"])
def test_padding_behind_a_uid_or_a_name_is_dropped(padding: bytes) -> None:
    """W9: UIDs padded with NUL or space are accepted."""
    uid = b"1.2.840.10008.1.1" + padding
    request = pdu.decode(
        rq(
            item(0x10, b"1.2.840.10008.3.1.1.1" + padding),
            context(1, item(0x30, uid), item(0x40, b"1.2.840.10008.1.2" + padding)),
            user(
                item(0x52, b"1.2.3" + padding),
                item(0x55, b"NAME" + padding),
                item(0x54, counted(uid) + b"\1\1"),
                item(0x56, counted(uid) + b"\1" + padding),
            ),
        )
    )
    assert request.application_context == pdu.APPLICATION_CONTEXT
    assert request.contexts == RQ.contexts
    assert request.user == UserInformation(
        implementation_class_uid="1.2.3",
        implementation_version_name="NAME",
        roles=(pdu.RoleSelection(VERIFICATION, True, True),),
        extended=(pdu.ExtendedNegotiation(VERIFICATION, b"\1" + padding),),  # not a name: the service class's bytes
    )


def test_a_common_extended_negotiation_may_grow() -> None:
    """PS3.7 D.3.3.6.1: the version is in the second byte; later versions may add fields."""
    encoded = bytes.fromhex("57 02 000E 0003 312E32 0003 342E32 0000 CAFE")
    assert rq_user(encoded).common_extended == (pdu.CommonExtendedNegotiation("1.2", "4.2", (), 2),)


@pytest.mark.parametrize("control", range(256))
def test_only_two_bits_of_the_message_control_header_count(control: int) -> None:
    """N-19, P4: bits 2–7 are not tested."""
    data = PDataTf((Pdv(1, bool(control & 1), bool(control & 2), b""),))
    assert pdu.decode(b"\4\0\0\0\0\6\0\0\0\2\1" + bytes((control,))) == data


# --- contexts -------------------------------------------------------------------------------------------------------


def test_a_request_may_have_all_the_contexts_there_are() -> None:
    """N-12: IDs odd, 1–255, unique: 128 of them."""
    contexts = [context(id) for id in range(1, 256, 2)]
    assert len(pdu.decode(rq(APPLICATION, *contexts, user())).contexts) == 128


@pytest.mark.parametrize(
    "contexts",
    [
        [],
        [context(0)],
        [context(2)],
        [context(1), context(254)],
        [context(1), context(3), context(1)],
        [context(id % 256) for id in range(1, 258, 2)],
    ],
    ids=["none", "0", "even", "one even", "doubled", "129"],
)
def test_context_ids_must_be_odd_and_unique(contexts: list[bytes]) -> None:
    """N-11, N-12, W9."""
    refuses(rq(APPLICATION, *contexts, user()))


@pytest.mark.parametrize(
    "parts", [(ABSTRACT,), (TRANSFER,), (ABSTRACT, ABSTRACT, TRANSFER), (item(0x99, b""),)], ids=range(4)
)
def test_a_proposed_context_has_one_abstract_and_some_transfer_syntaxes(parts: tuple[bytes, ...]) -> None:
    """N-13, W9: two abstract syntaxes, no transfer syntax."""
    refuses(rq(APPLICATION, context(1, *parts), user()), match="context 1 has")


def test_a_context_may_have_a_thousand_transfer_syntaxes() -> None:
    """W9: 1,000 transfer syntaxes."""
    many = tuple(f"1.2.3.{n}" for n in range(1000))
    parts = [item(0x40, syntax.encode()) for syntax in many]
    request = pdu.decode(rq(APPLICATION, context(1, ABSTRACT, *parts), user()))
    assert request.contexts == (ProposedContext(1, VERIFICATION, many),)


def test_a_uid_longer_than_64_characters_is_only_a_name_that_nobody_knows() -> None:
    """W9: UIDs over 64 characters are read; what is not known is not supported, and no reason to abort."""
    long = "1." + "2" * 98
    request = pdu.decode(rq(APPLICATION, context(1, item(0x30, long.encode()), item(0x40, long.encode())), user()))
    assert request.contexts == (ProposedContext(1, long, (long,)),)


@pytest.mark.parametrize("result", range(5))
def test_each_result_of_a_context_is_read(result: int) -> None:
    """N-12, Table 9-18: results 0–4."""
    assert pdu.decode(ac(APPLICATION, answered(1, result), user())).contexts == (AnsweredContext(1, result, IMPLICIT),)


@pytest.mark.parametrize("result", [5, 255])
def test_other_results_are_invalid(result: int) -> None:
    """N-12, Table 9-18: there are no others."""
    refuses(ac(APPLICATION, answered(1, result), user()), match=f"result {result}")


@pytest.mark.parametrize("syntaxes", [[], [b"no UID"], [b""], [b"1.2", b"1.3"]], ids=range(4))
@pytest.mark.parametrize("result", range(1, 5))
def test_the_transfer_syntax_of_a_refused_context_is_not_tested(result: int, syntaxes: list[bytes]) -> None:
    """N-12, Table 9-18: not significant unless accepted."""
    value = bytes((1, 0, result, 0)) + b"".join(item(0x40, syntax) for syntax in syntaxes)
    (context,) = pdu.decode(ac(APPLICATION, item(0x21, value), user())).contexts
    assert (context.id, context.result) == (1, result)


@pytest.mark.parametrize("parts", [(item(0x99, b""),), (TRANSFER, TRANSFER)], ids=["none", "two"])
def test_an_accepted_context_has_exactly_one_transfer_syntax(parts: tuple[bytes, ...]) -> None:
    """N-13: an answer has exactly one."""
    refuses(ac(APPLICATION, answered(1, 0, *parts), user()), match="context 1 is accepted with")


def test_a_context_is_not_answered_twice() -> None:
    """N-12: unique."""
    refuses(ac(APPLICATION, answered(1), answered(1, 3), user()), match="answered twice")


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "items",
    [
        (context(), user()),
        (APPLICATION, APPLICATION, context(), user()),
        (APPLICATION, user()),
        (APPLICATION, context()),
        (APPLICATION, context(), user(), user()),
    ],
    ids=["no application", "two applications", "no context", "no user", "two users"],
)
def test_what_must_be_there_once_is_there_once(items: tuple[bytes, ...]) -> None:
    """N-11: one application context, at least one presentation context, one user information item."""
    refuses(rq(*items), match="items")
    refuses(ac(*(answered() if part == context() else part for part in items)), match="items")


EMPTY = bytes((0x99, 0, 0, 0))
MANY = [
    pytest.param((APPLICATION, context(), user(), EMPTY * MAX_ITEMS), id="items"),
    pytest.param((APPLICATION, context(), user(EMPTY * 16_000), EMPTY * 400), id="sub-items and items"),
    pytest.param(
        (APPLICATION, *(context(number, ABSTRACT, TRANSFER * 2_700) for number in range(1, 15, 2)), user()),
        id="transfer syntaxes",
    ),
]


@pytest.mark.parametrize("items", MANY)
def test_so_many_items_are_refused(items: tuple[bytes, ...]) -> None:
    """W6, §3: each costs more than the few bytes that it takes; a request of 1 MiB must not take a second to read."""
    refuses(rq(*items), match="more than 16384 items")


def test_a_large_request_is_read() -> None:
    """W9, §3: 128 contexts with 100 transfer syntaxes each; 1,000 transfer syntaxes in one."""
    contexts = [context(number, ABSTRACT, TRANSFER * 100) for number in range(1, 256, 2)]
    assert len(pdu.decode(rq(APPLICATION, *contexts, user())).contexts) == 128
    (large,) = pdu.decode(rq(APPLICATION, context(1, ABSTRACT, TRANSFER * 1_000), user())).contexts
    assert len(large.transfer_syntaxes) == 1_000


@pytest.mark.parametrize("kind", [0, 8, 0x99, 0xFF])
def test_there_are_seven_types_of_pdu(kind: int) -> None:
    """W2: PDU types 00, 08, 99, FF: reason 1."""
    refuses(bytes((kind, 0, 0, 0, 0, 4)) + bytes(4), reason=1, match=f"{kind:02X}H")


@pytest.mark.parametrize("kind", [3, 5, 6, 7])
@pytest.mark.parametrize("length", [0, 1, 3, 5])
def test_the_short_pdus_have_length_4(kind: int, length: int) -> None:
    """N-15, W4: RJ, RELEASE and ABORT."""
    refuses(bytes((kind, 0, 0, 0, 0, length)) + bytes(length))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0",
        b"\0\0\0\1\1",
        b"\0\0\0\3\1\3",
        b"\xff\xff\xff\xff\1\3",
        b"\0\0\0\2\1\3\0",
    ],
    ids=["none", "cut length", "length 0", "length 1", "overrun", "2³²−1", "trailing"],
)
def test_p_data_holds_whole_presentation_data_values(value: bytes) -> None:
    """N-16, P1, P2: at least one PDV, each with its header, none beyond the end."""
    refuses(b"\4\0" + u32(len(value)) + value)


def overrun(encoded: bytes, by: int = 1) -> bytes:
    """An item whose length says more than there is."""
    return encoded[:2] + u16(int.from_bytes(encoded[2:4], "big") + by) + encoded[4:]


@pytest.mark.parametrize("by", [1, 0xFF00])
@pytest.mark.parametrize(
    "make",
    [
        lambda by: rq(APPLICATION, context(), overrun(user(), by)),
        lambda by: rq(APPLICATION, context(1, ABSTRACT, overrun(TRANSFER, by)), user()),
        lambda by: rq(APPLICATION, context(1, TRANSFER, overrun(ABSTRACT, by)), user()),
        lambda by: rq(APPLICATION, context(), user(MAX_LENGTH, overrun(CLASS_UID, by))),
        lambda by: ac(APPLICATION, answered(1, 0, overrun(TRANSFER, by)), user()),
        lambda by: ac(APPLICATION, answered(1, 3, overrun(TRANSFER, by)), user()),
    ],
    ids=["user", "transfer syntax", "abstract syntax", "user sub-item", "answer", "refusal"],
)
def test_an_item_that_overruns_is_invalid(make: Callable[[int], bytes], by: int) -> None:
    """W6: items and sub-items that overrun, nested overruns."""
    refuses(make(by))


@pytest.mark.parametrize("tail", [b"\x99", b"\x99\0", b"\x99\0\0"])
@pytest.mark.parametrize("where", ["pdu", "context", "user"])
def test_trailing_bytes_are_invalid(tail: bytes, where: str) -> None:
    """W6: trailing bytes, too few for another item."""
    match where:
        case "pdu":
            refuses(rq(APPLICATION, context(), user(), tail))
        case "context":
            refuses(rq(APPLICATION, context(1, ABSTRACT, TRANSFER, tail), user()))
        case "user":
            refuses(rq(APPLICATION, context(), user(MAX_LENGTH, tail)))


@pytest.mark.parametrize("value", [b"", b"\1", b"\1\0\0"], ids=len)
def test_a_context_item_has_a_header(value: bytes) -> None:
    """W6: one that ends in mid-header."""
    refuses(rq(APPLICATION, item(0x20, value), user()))
    refuses(ac(APPLICATION, item(0x21, value), user()))


@pytest.mark.parametrize(("_", "encoded"), GOLDEN_SUB_ITEMS, ids=lambda it: it[:2] if isinstance(it, str) else "")
def test_a_user_sub_item_that_was_cut_is_invalid(_: object, encoded: str) -> None:
    """W6: at each place where its own structure breaks; a shorter text is still a text."""
    kind, value = bytes.fromhex(encoded)[0], bytes.fromhex(encoded)[4:]
    for length in range(len(value)):
        if kind in (0x52, 0x55, 0x5A) or (kind == 0x56 and length >= 5):
            rq_user(item(kind, value[:length]))
        else:
            refuses(rq(APPLICATION, context(), user(item(kind, value[:length]))))


@pytest.mark.parametrize("kind", [0x51, 0x53, 0x54, 0x58, 0x59])
def test_a_user_sub_item_with_bytes_left_over_is_invalid(kind: int) -> None:
    """W6: trailing bytes in a sub-item of fixed structure."""
    (encoded,) = (
        bytes.fromhex(text) for value, text in GOLDEN_SUB_ITEMS if int(text[:2], 16) == kind and value.max_length != 0
    )
    refuses(rq(APPLICATION, context(), user(item(kind, encoded[4:] + b"\0"))), match="too many")


@pytest.mark.parametrize("kind", [0x51, 0x52, 0x53, 0x55, 0x58, 0x59])
def test_a_user_sub_item_that_may_be_there_once_is_not_there_twice(kind: int) -> None:
    """9.3.8, W12: a parameter that must not be there is reason 5; user identity twice."""
    encoded = next(bytes.fromhex(text) for _, text in GOLDEN_SUB_ITEMS if int(text[:2], 16) == kind)
    refuses(rq(APPLICATION, context(), user(encoded, encoded)), reason=5, match=f"{kind:02X}H is there twice")


@pytest.mark.parametrize("kind", [0x54, 0x56, 0x57])
def test_a_user_sub_item_for_each_sop_class_may_be_there_often(kind: int) -> None:
    """PS3.7 D.3.3.4 to D.3.3.6: one for each SOP class."""
    encoded = next(bytes.fromhex(text) for _, text in GOLDEN_SUB_ITEMS if int(text[:2], 16) == kind)
    found = rq_user(encoded, encoded)
    assert len(found.roles + found.extended + found.common_extended) == 2


@pytest.mark.parametrize("length", [0, 8, 16, 0xFFFFFFFF])
def test_a_maximum_length_that_leaves_room_is_read(length: int) -> None:
    """N-17, W11: 0 is unlimited."""
    assert rq_user(item(0x51, u32(length))).max_length == length


@pytest.mark.parametrize("length", [1, 6, 7])
def test_a_maximum_length_that_leaves_no_room_for_data_is_invalid(length: int) -> None:
    """N-17, W11: below 8 is refused."""
    refuses(rq(APPLICATION, context(), user(item(0x51, u32(length)))), match=f"maximum length of {length} ")


@pytest.mark.parametrize("type", [0, 1, 2, 3, 4, 5, 6, 255])
@pytest.mark.parametrize("token", [b"", b"\xff\xfe not UTF-8", b"t" * 60 * 1024], ids=["empty", "8-bit", "60 KiB"])
def test_any_user_identity_is_read(type: int, token: bytes) -> None:
    """N-30, W12: types that nobody supports are for the user to ignore."""
    found = rq_user(item(0x58, bytes((type, 1)) + counted(token) + counted(b"")))
    assert found.identity == Identity(type, token, b"", True)


@pytest.mark.parametrize(
    "value", [b"\1\0\0\5four\0\0", b"\1\0\xff\xff", b"\2\0\0\1a\0\2b", b"\1\0\0\1a", b"\1"], ids=range(5)
)
def test_a_user_identity_with_lengths_too_long_is_invalid(value: bytes) -> None:
    """W12: over-long lengths."""
    refuses(rq(APPLICATION, context(), user(item(0x58, value))))


def test_the_explicit_and_the_implicit_transfer_syntax_are_kept_in_order() -> None:
    """9.3.2.2.2: the order is the requestor's preference."""
    proposed = ProposedContext(1, VERIFICATION, (EXPLICIT, IMPLICIT))
    assert pdu.decode(pdu.encode(dataclasses.replace(RQ, contexts=(proposed,)))).contexts == (proposed,)
