"""§4 and §5 of the contract: ``DicomAssociate`` and the enumerations."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

import pytest

from dicomnet import (
    AssociationAborted,
    DeadlineExceeded,
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
    callbacks as c,
)
from dicomnet.callbacks import DicomAssociate, NetError
from dicomnet.callbacks.enums import net_error
from dicomnet.config import IMPLEMENTATION_CLASS_UID, MAX_PDU_LENGTH, Identity
from dicomnet.dimse.command import VRS
from dicomnet.ul import pdu
from dicomnet.ul.pdu import CommonExtendedNegotiation
from tests.callbacks.recorder import CT, EXPLICIT, IMPLICIT, MPPS, VERIFICATION, Scp, Scu, Stage, proposal

JPEG = "1.2.840.10008.1.2.4.50"


def full() -> DicomAssociate:
    """A request that uses every member."""
    a = DicomAssociate(True)
    a.default()
    a.called, a.calling = "CALLED", "CALLING"
    a.max_length = 20000
    for id, abstract, transfers in ((1, VERIFICATION, [IMPLICIT]), (3, CT, [JPEG, EXPLICIT]), (5, CT, [IMPLICIT])):
        a.add_presentation_context(id, 0, abstract)
        for transfer in transfers:
            a.add_transfer(id, transfer)
    a.set_role_select(3, True, True, True)
    a.set_extended_data(3, b"\1\2")
    a.set_asynchronous_operations(True, 5, 6)
    a.user_identity = Identity.passcode("user", "secret", response_requested=True)
    a.common_extended = [CommonExtendedNegotiation(CT, "1.2.840.10008.4.2", (MPPS,))]
    a.unknown_user_items = [(0x77, b"anything")]
    return a


def sent(associate: DicomAssociate) -> pdu.AssociateRq:
    """As it comes out at the other end."""
    request = pdu.decode(pdu.encode(associate.to_request()))
    assert isinstance(request, pdu.AssociateRq)
    return request


# --- members --------------------------------------------------------------------------------------------------------


def test_default_fills_the_constants() -> None:
    """§4: ``default()`` fills the constants."""
    a = DicomAssociate(True)
    assert (a.implementation_class, a.max_length) == ("", None)
    a.default()
    assert a.version == 1
    assert a.application_context == "1.2.840.10008.3.1.1.1"
    assert a.max_length == MAX_PDU_LENGTH
    assert a.implementation_class == IMPLEMENTATION_CLASS_UID
    assert a.implementation_version_name
    assert a.presentation_context_count == 0


def test_everything_survives_the_wire() -> None:
    """§4: all members, unknown user items kept as (type, bytes)."""
    a = full()
    b = DicomAssociate.from_request(sent(a))
    assert str(b) == str(a)
    for name in vars(a):
        assert getattr(b, name) == getattr(a, name), name
    assert b.unknown_user_items == [(0x77, b"anything")]


@pytest.mark.parametrize("length", [None, 0, 8, 1 << 20])
def test_the_maximum_length_may_be_absent_or_unlimited(length: int | None) -> None:
    """§4: ``max_length`` (None = absent, 0 = unlimited)."""
    a = proposal()
    a.max_length = length
    assert DicomAssociate.from_request(sent(a)).max_length == length


def test_presentation_contexts_are_edited() -> None:
    """§4: add, delete, count, id(index), abstract, result, set_result."""
    a = full()
    assert a.presentation_context_count == 3
    assert [a.presentation_context_id(index) for index in range(3)] == [1, 3, 5]
    assert (a.abstract(3), a.result(3)) == (CT, 0)
    a.set_result(3, 4)
    assert a.result(3) is c.ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    a.delete_presentation_context(1)
    assert a.presentation_context_count == 2
    assert a.role_select(3)[0]
    assert a.presentation_context_id(0) == 3
    a.add_presentation_context(255, 0, VERIFICATION)
    assert a.presentation_context_id(2) == 255


def test_abstract_syntaxes_are_found() -> None:
    """§4: ``find_abstract(uid)`` → id or 0, ``find_next_abstract(id, uid)`` → id or 0."""
    a = full()
    assert a.find_abstract(CT) == 3
    assert a.find_next_abstract(3, CT) == 5
    assert a.find_next_abstract(5, CT) == 0
    assert a.find_abstract("1.2.3") == 0


def test_transfer_syntaxes_are_edited() -> None:
    """§4: add_transfer, delete_transfer, transfer_count, transfer."""
    a = full()
    assert (a.transfer_count(3), a.transfer(3, 0), a.transfer(3, 1)) == (2, JPEG, EXPLICIT)
    a.delete_transfer(3, 0)
    assert (a.transfer_count(3), a.transfer(3)) == (1, EXPLICIT)


def test_negotiations_are_edited() -> None:
    """§4: role selection, extended negotiation, asynchronous operations."""
    a = full()
    assert a.role_select(3) == (True, True, True)
    assert a.role_select(1) == (False, True, False)  # the default roles
    assert a.role_select(5) == (True, True, True)  # D.3.3.4: of the SOP class, which is that of 3
    a.set_role_select(3, False, False, False)
    assert a.role_select(3) == (False, True, False)
    assert (a.extended_data(3), a.extended_data(1)) == (b"\1\2", None)
    a.set_extended_data(3, None)
    assert a.extended_data(3) is None
    assert a.asynchronous_operations == (5, 6)
    a.set_asynchronous_operations(False)
    assert a.asynchronous_operations is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: a.add_presentation_context(2, 0, CT),
        lambda a: a.add_presentation_context(257, 0, CT),
        lambda a: a.add_presentation_context(-1, 0, CT),
        lambda a: a.add_presentation_context(3, 0, CT),
        lambda a: a.add_presentation_context(7, 5, CT),
        lambda a: a.set_result(3, -1),
        lambda a: a.presentation_context_id(3),
        lambda a: a.presentation_context_id(-1),
        lambda a: a.transfer(3, 2),
        lambda a: a.delete_transfer(3, -1),
        *(
            lambda a, name=name, rest=rest: getattr(a, name)(99, *rest)
            for name, rest in (
                ("delete_presentation_context", ()),
                ("abstract", ()),
                ("result", ()),
                ("set_result", (0,)),
                ("add_transfer", (CT,)),
                ("delete_transfer", (0,)),
                ("transfer_count", ()),
                ("transfer", (0,)),
                ("set_role_select", (True, True, True)),
                ("role_select", ()),
                ("set_extended_data", (b"",)),
                ("extended_data", ()),
            )
        ),
    ],
)
def test_what_is_not_there_or_not_allowed_is_refused(wrong: Any) -> None:
    """§4; PS3.8 9.3.2.2: IDs are odd, 1 to 255, unique."""
    with pytest.raises(LocalProtocolError):
        wrong(full())


def test_str_prints_the_whole_negotiation() -> None:
    """§4: ``str()`` prints the whole negotiation readably, and no secrets."""
    text = str(full())
    for part in (
        "A-ASSOCIATE-RQ, version 1",
        "called AE 'CALLED', calling AE 'CALLING'",
        "DICOM Application Context Name",
        "maximum length 20000 bytes",
        IMPLEMENTATION_CLASS_UID,
        "operations window: 5 invoked, 6 performed",
        "user identity of type 2",
        "common extended negotiation for CT Image Storage",
        "unknown user item 77H of 8 bytes",
        "context 3: CT Image Storage (1.2.840.10008.5.1.4.1.1.2)",
        "JPEG Baseline (Process 1)",
        "roles: SCU yes, SCP yes",
        "extended negotiation 01 02",
    ):
        assert part in text
    assert "secret" not in text
    answer = DicomAssociate.accepting(full(), [CT])
    answer.user_identity_response = b"ticket"
    text = str(answer)
    assert "A-ASSOCIATE-AC" in text
    assert "context 1: Verification SOP Class (1.2.840.10008.1.1): abstract syntax not supported" in text
    assert "context 3: CT Image Storage (1.2.840.10008.5.1.4.1.1.2): acceptance" in text
    assert "user identity response of 6 bytes" in text


# --- accepting ------------------------------------------------------------------------------------------------------


def test_accepting_builds_the_right_answer() -> None:
    """§4: result 3 for an abstract syntax that is not supported, 4 for a transfer syntax, its own maximum length."""
    request = full()
    request.add_presentation_context(7, 0, MPPS)
    request.add_transfer(7, "1.2.3.4.5")
    answer = DicomAssociate.accepting(request, [(CT, [EXPLICIT]), MPPS])
    assert not answer.is_request
    assert [answer.result(id) for id in (1, 3, 5, 7)] == [3, 0, 4, 4]
    assert (answer.transfer(3, 0), answer.transfer_count(3)) == (EXPLICIT, 1)
    assert answer.max_length == MAX_PDU_LENGTH != request.max_length
    assert (answer.called, answer.calling) == ("CALLED", "CALLING")
    assert answer.abstract(3) == CT
    assert answer.role_select(3) == (False, True, False)
    assert answer.extended_data(3) is None
    assert answer.asynchronous_operations == (1, 1)
    assert answer.user_identity is None
    assert answer.user_identity_response is None


def test_an_answer_says_only_what_an_answer_may() -> None:
    """PS3.7 D.3.3.6, D.3.3.7: the identity and common extended negotiation are the requestor's."""
    request = full()
    answer = full().to_accept(sent(request))
    assert answer.user.identity is None
    assert answer.user.common_extended == ()
    assert sent(request).user.identity_response is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: a.delete_presentation_context(3),
        lambda a: a.delete_transfer(3, 0),
    ],
)
def test_an_answer_that_does_not_fit_its_request_is_refused(wrong: Any) -> None:
    """§2: validated at the call."""
    request = full()
    answer = DicomAssociate.accepting(request, [CT])
    wrong(answer)
    with pytest.raises(LocalProtocolError):
        answer.to_accept(sent(request))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: [a.delete_presentation_context(id) for id in (1, 3, 5, 7)],
        lambda a: a.delete_transfer(1, 0),
        lambda a: setattr(a, "called", " "),
        lambda a: setattr(a, "calling", "x" * 17),
        lambda a: setattr(a, "calling", "Ω"),
        lambda a: setattr(a, "max_length", 7),
        lambda a: setattr(a, "max_length", 1 << 32),
        lambda a: a.set_asynchronous_operations(True, 70000, 1),
        lambda a: setattr(a, "unknown_user_items", [(0x77, bytes(70000))]),
    ],
)
def test_a_request_that_the_standard_does_not_allow_is_refused(stage: Stage, wrong: Any) -> None:
    """§2: nothing is sent, and a right one still can be."""

    class Silent(Scu):
        def on_connect(self, error: NetError) -> None:
            pass

    scu = stage.connected(stage.listener().host_port, Silent)
    stage.wait("SCU", "on_connect")
    associate = proposal()
    wrong(associate)
    with pytest.raises(LocalProtocolError):
        scu.send_associate_request(associate)
    assert scu.queued == 0
    scu.send_associate_request(proposal())
    stage.wait("SCU", "on_receive_associate_accept")


def test_both_ends_see_the_same_negotiation(stage: Stage) -> None:
    """§4: roles, extended data, window and identity response as the acceptor granted them."""

    class Granting(Scp):
        def answer(self, associate: DicomAssociate) -> DicomAssociate:
            answer = super().answer(associate)
            answer.set_role_select(3, True, True, False)
            answer.set_extended_data(3, b"\1\0")
            answer.set_asynchronous_operations(True, 2, 1)
            answer.user_identity_response = b"ticket"
            answer.max_length = 30000
            answer.implementation_version_name = "GRANTING"
            return answer

    class Asking(Scu):
        def request(self) -> DicomAssociate:
            return full()

    scu, client = stage.pair(Granting, Asking)
    for association in (scu.association, client.association):
        assert association.role_select(3) == (True, True, False)
        assert association.extended_data(3) == b"\1\0"
        assert association.asynchronous_operations == (2, 1)
        assert association.user_identity_response == b"ticket"
        assert association.max_length == 30000
        assert association.implementation_version_name == "GRANTING"
    request = stage.wait("client", "on_receive_associate_request")[0]
    assert request.user_identity == Identity.passcode("user", "secret", response_requested=True)
    assert str(request) == str(full())


def test_titles_that_are_changed_are_sent_as_changed() -> None:
    """§4: a request that was received can be edited and sent on."""
    a = DicomAssociate.from_request(sent(full()))
    a.called = "OTHER"
    assert sent(a).called_ae == "OTHER"


# --- enumerations ---------------------------------------------------------------------------------------------------

WIRE = {
    c.PduType: "unknown 0, associate request 1, associate accept 2, associate reject 3, data transfer 4,"
    " release request 5, release response 6, abort 7",
    c.RejectResult: "permanent 1, transient 2",
    c.RejectSource: "user 1, provider ACSE 2, provider presentation 3",
    c.RejectReasonUser: "no reason 1, application context 2, calling AE 3, called AE 7",
    c.RejectReasonAcse: "no reason 1, protocol version 2",
    c.RejectReasonPresentation: "temporary congestion 1, local limit 2",
    c.AbortSource: "user 0, provider 2",
    c.AbortReason: "not specified 0, unrecognised PDU 1, unexpected PDU 2, unrecognised parameter 4,"
    " unexpected parameter 5, invalid parameter value 6",
    c.Priority: "medium 0, high 1, low 2",
    c.IpType: "none 0, ipv4 1, ipv6 2, ipv4 or ipv6 3",
}


@pytest.mark.parametrize("enumeration", WIRE)
def test_an_enumeration_has_the_values_on_the_wire(enumeration: Any) -> None:
    """§5, §3 ip_type."""
    text = ", ".join(f"{member.name.lower().replace('_', ' ')} {member.value}" for member in enumeration)
    assert text == WIRE[enumeration].lower()


def test_the_results_of_a_context_have_the_values_on_the_wire() -> None:
    """§5: acceptance 0, user rejection 1, no reason 2, abstract syntax 3, transfer syntax 4."""
    assert [member.value for member in c.ContextResult] == [0, 1, 2, 3, 4]
    assert c.ContextResult(3).name == "ABSTRACT_SYNTAX_NOT_SUPPORTED"


def test_success_is_0_and_false() -> None:
    """§5: ``if error:`` reads well."""
    assert NetError.SUCCESS == 0
    assert not NetError.SUCCESS
    assert all(error for error in NetError if error is not NetError.SUCCESS)


def caused(error: BaseException) -> TransportError:
    transport = TransportError("text")
    transport.__cause__ = error
    return transport


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, NetError.SUCCESS),
        (caused(OSError(errno.ECONNREFUSED, "")), NetError.REFUSED),
        (caused(OSError(errno.ECONNRESET, "")), NetError.RESET),
        (caused(OSError(errno.EPIPE, "")), NetError.RESET),
        (caused(OSError(errno.EADDRINUSE, "")), NetError.ADDRESS_IN_USE),
        (caused(OSError(errno.ENETUNREACH, "")), NetError.UNREACHABLE),
        (caused(OSError(errno.EHOSTUNREACH, "")), NetError.UNREACHABLE),
        (caused(OSError(errno.ENOSPC, "")), NetError.NETWORK),
        (caused(socket.gaierror(-2, "")), NetError.HOST_NOT_FOUND),
        (caused(ssl.SSLError(1, "")), NetError.TLS),
        (TransportError("closed"), NetError.CLOSED),
        (AssociationAborted(0, 0), NetError.ABORTED),
        (RemoteProtocolError("content"), NetError.PDU_CONTENT_INVALID),
        (ValueError(), NetError.NETWORK),
        *(
            (DeadlineExceeded(timer), NetError[f"TIMEOUT_{timer.upper()}"])
            for timer in ("connect", "tls", "artim", "associate", "pdu", "idle", "response", "release", "send")
        ),
    ],
)
def test_each_kind_of_failure_has_a_net_error(error: BaseException | None, expected: NetError) -> None:
    """§5: refused, reset, aborted, timed out (which timer), host not found, unreachable, TLS …"""
    assert net_error(error) is expected


def test_enumerated_arguments_take_plain_integers(stage: Stage) -> None:
    """§5: every enumerated argument also takes the plain integer."""

    class Rejecting(Scp):
        def on_receive_associate_request(self, associate: DicomAssociate) -> None:
            self.send_associate_reject(1, 1, 7)

    class Naming(Scp):
        def on_receive_associate_request(self, associate: DicomAssociate) -> None:
            self.send_associate_reject(c.RejectResult.PERMANENT, c.RejectSource.USER, c.RejectReasonUser.CALLED_AE)

    for number, cls in enumerate((Rejecting, Naming), start=1):
        stage.connected(stage.listener(cls).host_port)
        assert stage.wait("SCU", "on_receive_associate_reject", number) == (1, 1, 7)


def test_commands_have_the_values_of_ps3_7() -> None:
    """§5: commands: PS3.7 E.1."""
    assert c.CommandField.C_STORE == 1
    assert c.CommandField.C_CANCEL == 0x0FFF
    assert len(c.CommandField) == 12
    assert len(VRS) == 24
