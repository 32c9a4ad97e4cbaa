"""Associations with DCMTK and pynetdicom: verification, lengths, everything negotiable, rejection, abort."""

import base64
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

import dicomnet
from dicomnet import models
from dicomnet.config import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomnet.identity import JwtVerifier, PasscodeVerifier, hash_passcode
from tests.interop import corpus, peers
from tests.interop.corpus import instances
from tests.interop.peers import HOST, Tool

CT = "CT_small.dcm"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
# PS3.8 9.3.1 has room for 8 and more; DCMTK refuses to send into less than 13.
DCMTK_LENGTHS = [14, 15, 100, 4096, 16384, 65536, 1 << 20, 0]
TOO_SHORT_FOR_DCMTK = [8, 12]
ALL_LENGTHS = [8, 9, 100, 16384, 65536, 1 << 20, 0]


def peer(port: int) -> str:
    return f"PEER@{HOST}:{port}"


def complaints(log: str) -> list[str]:
    """DCMTK's warnings and errors."""
    return [line for line in log.splitlines() if line[:2] in ("W:", "E:", "F:")]


# --- verification ---------------------------------------------------------------------------------------------------


def test_echoscu_to_dicomnet(dcmtk: Tool) -> None:
    """PS3.4 A."""
    with peers.dicomnet_receiver() as receiver:
        done = peers.run(dcmtk("echoscu"), "-v", "--repeat", 3, HOST, receiver.port)
    assert (done.returncode, done.stdout.count("Received Echo Response (Success)")) == (0, 3)
    assert [association.error for association in receiver.associations] == [None]


@pytest.mark.parametrize("server", [peers.storescp, peers.dcmrecv], ids=lambda server: server.__name__)
def test_dicomnet_to_dcmtk(dcmtk: Tool, folder: Path, server: Callable[..., Any]) -> None:
    """PS3.4 A."""
    with server(dcmtk, folder) as program:
        for _ in range(2):
            with dicomnet.associate(peer(program.port)) as assoc:
                assert [assoc.c_echo().status for _ in range(3)] == [0, 0, 0]


def test_dicomnet_to_dcmqrscp(dcmtk: Tool, folder: Path) -> None:
    """PS3.4 A, B: an archive stores a data set, bit preserving, byte for byte."""
    with peers.dcmqrscp(dcmtk, folder) as program:
        assert peers.dicomnet_send(program.port, [CT], called="ARCHIVE") == {CT: ""}
        with dicomnet.associate(f"ARCHIVE@{HOST}:{program.port}") as assoc:
            assert assoc.c_echo().status == 0
    assert instances()[CT] in program.stored


def test_pynetdicom_both_ways(pynetdicom: ModuleType) -> None:
    """PS3.4 A."""
    with peers.dicomnet_receiver() as receiver:
        theirs = peers.pynetdicom_associate(pynetdicom, receiver.port)
        assert [theirs.send_c_echo().Status for _ in range(3)] == [0, 0, 0]
        theirs.release()
    assert [association.error for association in receiver.associations] == [None]
    with (
        peers.pynetdicom_receiver(pynetdicom) as receiver,
        dicomnet.associate(peer(receiver.port)) as ours,
    ):
        assert [ours.c_echo().status for _ in range(3)] == [0, 0, 0]


# --- maximum length -------------------------------------------------------------------------------------------------


def test_dcmtk_sends_into_any_maximum_length(dcmtk: Tool) -> None:
    """N-17: what we announce is kept to, or the association would be aborted with 2/6."""
    for length in DCMTK_LENGTHS:
        with peers.dicomnet_receiver(max_pdu_length=length) as receiver:
            for client in ("storescu", "dcmsend"):
                done = peers.run(dcmtk(client), HOST, receiver.port, corpus.FOLDER / CT)
                assert done.returncode == 0, (length, done.stdout)
        assert [association.error for association in receiver.associations] == [None, None], length
        assert len(receiver.arrived) == 2


@pytest.mark.parametrize("length", TOO_SHORT_FOR_DCMTK)
def test_dcmtk_refuses_to_send_into_very_short_pdus(dcmtk: Tool, length: int) -> None:
    """N-17: legal, but not with DCMTK: it aborts."""
    with peers.dicomnet_receiver(max_pdu_length=length) as receiver:
        log = peers.run(dcmtk("echoscu"), HOST, receiver.port).stdout
    assert f"receiver's max PDU size of {length} is illegal (must be > 12)" in log
    assert [type(association.error) for association in receiver.associations] == [dicomnet.AssociationAborted]


def test_dcmtk_answers_into_any_maximum_length(dcmtk: Tool, folder: Path) -> None:
    """N-17, as the requestor."""
    with peers.storescp(dcmtk, folder) as program:
        for length in DCMTK_LENGTHS:
            assert peers.dicomnet_send(program.port, [CT], max_pdu_length=length) == {CT: ""}, length
    assert program.stored == [instances()[CT]] * len(DCMTK_LENGTHS)


@pytest.mark.parametrize("length", [4096, 131072])
def test_dicomnet_keeps_to_the_length_of_storescp(dcmtk: Tool, folder: Path, length: int) -> None:
    """N-17."""
    large = "examples_overlay.dcm"
    with (
        peers.storescp(dcmtk, folder, "--max-pdu", length) as program,
        dicomnet.associate(peer(program.port), contexts=corpus.contexts()) as assoc,
    ):
        assert assoc.max_pdu_length == length
        assert assoc.c_store(corpus.FOLDER / large).status == 0
    assert program.stored == [instances()[large]]


@pytest.mark.parametrize("length", [4096, 131072])
def test_dicomnet_receives_from_a_storescu_with_any_length(dcmtk: Tool, length: int) -> None:
    """N-17: what the requestor announces counts for the responses."""
    with peers.dicomnet_receiver() as receiver:
        done = peers.run(dcmtk("storescu"), "--max-pdu", length, HOST, receiver.port, corpus.FOLDER / CT)
    assert done.returncode == 0
    (association,) = receiver.associations
    assert (association.error, association.request.user.max_length) == (None, length)


def test_pynetdicom_with_any_maximum_length(pynetdicom: ModuleType) -> None:
    """N-17: of ours and of theirs, in both roles."""
    small = "dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000000"
    for length in ALL_LENGTHS:
        with peers.dicomnet_receiver(max_pdu_length=length) as receiver:
            assert peers.pynetdicom_send(pynetdicom, receiver.port, [small], raw=True, max_pdu=length) == {small: ""}
        assert receiver.arrived == [instances()[small]], length
        with peers.pynetdicom_receiver(pynetdicom, max_pdu_length=length) as receiver:
            assert peers.dicomnet_send(receiver.port, [small], max_pdu_length=length) == {small: ""}
        assert receiver.arrived == [instances()[small]], length


# --- what is negotiated ---------------------------------------------------------------------------------------------


def everything() -> dict[str, Any]:
    """A request with everything that can be asked for, and as many contexts as there is room for."""
    contexts = list(dict.fromkeys([dicomnet.Verification, CT_STORAGE, *dicomnet.StorageClasses]))[:128]
    return {
        "contexts": contexts,
        "identity": dicomnet.Identity.passcode("somebody", "something"),
        "async_ops": (5, 3),
        "roles": {CT_STORAGE: (True, True)},
        "extended": {CT_STORAGE: b"\x02\x00\x00\x00\x00\x00"},
        "max_pdu_length": 32768,
    }


def test_dcmtk_reads_all_that_we_request(dcmtk: Tool, folder: Path) -> None:
    """PS3.8 9.3.2, PS3.7 D.3: no complaint in the debug log, and what it took from the PDU is what we meant."""
    with peers.storescp(dcmtk, folder, "-d") as program:
        with dicomnet.associate(peer(program.port), calling_ae="ME", **everything()) as assoc:
            assert assoc.c_echo().status == 0
            assert len(assoc.accepted) > 100
            assert assoc.async_ops == (1, 1)  # storescp does not know the window: N-27
        program.wait_for("Association Release")
    _, _, log = program.log.partition("BEGIN A-ASSOCIATE-RQ")
    assert complaints(log) == []
    for text in (
        f"Their Implementation Class UID: {IMPLEMENTATION_CLASS_UID}",
        f"Their Implementation Version Name: {IMPLEMENTATION_VERSION_NAME}",
        "Calling Application Name: ME",
        "Called Application Name: PEER",
        "Their Max PDU Receive Size: 32768",
        "Context ID: 255 (Proposed)",
        "Proposed SCP/SCU Role: SCP/SCU",
        "[0x02, 0x00, 0x00, 0x00, 0x00, 0x00]",
        "Username: [somebody]",
        "Password: [something]",
    ):
        assert text in log, text


def test_dcmtk_reads_all_that_we_answer(dcmtk: Tool) -> None:
    """PS3.8 9.3.3: no complaint in the debug log of a requestor that proposes 128 contexts."""
    with peers.dicomnet_receiver() as receiver:
        done = peers.run(dcmtk("storescu"), "-d", "-aec", "ANY", HOST, receiver.port, corpus.FOLDER / CT)
    assert done.returncode == 0
    assert complaints(done.stdout) == []
    _, _, answer = done.stdout.partition("BEGIN A-ASSOCIATE-AC")
    for text in (
        f"Their Implementation Class UID: {IMPLEMENTATION_CLASS_UID}",
        f"Their Implementation Version Name: {IMPLEMENTATION_VERSION_NAME}",
        "Responding Application Name: ANY",
        "Their Max PDU Receive Size: 131072",
        "(Accepted)",
    ):
        assert text in answer, text
    (association,) = receiver.associations
    assert len(association.request.contexts) > 100


def test_dcmrecv_does_not_know_a_window(dcmtk: Tool, folder: Path) -> None:
    """N-27: without an answer operations are synchronous."""
    with peers.dcmrecv(dcmtk, folder) as program, dicomnet.associate(peer(program.port), **everything()) as assoc:
        assert assoc.async_ops == (1, 1)
        assert [assoc.c_echo().status for _ in range(3)] == [0, 0, 0]


def test_pynetdicom_reads_all_that_we_request(pynetdicom: ModuleType) -> None:
    """PS3.8 9.3.2, PS3.7 D.3: it takes the PDU apart, and puts it together again byte for byte."""
    seen: list[Any] = []
    received: list[bytes] = []
    reassembled: list[bytes] = []

    def identify(event: Any) -> tuple[bool, bytes]:
        seen.append((event.user_id_type, event.primary_field, event.secondary_field))
        return True, b"pleased to meet you"

    def window(event: Any) -> tuple[int, int]:
        seen.append((event.nr_invoked, event.nr_performed))
        return 2, 2

    def extend(event: Any) -> dict[str, bytes]:
        seen.append(event.app_info)
        return dict(event.app_info)

    on = pynetdicom.evt
    handlers = [
        (on.EVT_USER_ID, identify),
        (on.EVT_ASYNC_OPS, window),
        (on.EVT_SOP_EXTENDED, extend),
        (on.EVT_DATA_RECV, lambda event: received.append(event.data)),
        (on.EVT_PDU_RECV, lambda event: reassembled.append(event.pdu.encode())),
    ]
    wish = everything()
    wish["identity"] = dicomnet.Identity.passcode("somebody", "something", response_requested=True)
    with (
        peers.pynetdicom_receiver(pynetdicom, handlers=handlers) as receiver,
        dicomnet.associate(peer(receiver.port), **wish) as assoc,
    ):
        assert assoc.c_echo().status == 0
        assert assoc.async_ops == (1, 1)  # it asks its handler, and answers that it is synchronous all the same
    assert received[0] == reassembled[0]
    assert (2, b"somebody", b"something") in seen
    assert (5, 3) in seen
    assert wish["extended"] in seen


def test_pynetdicom_does_not_know_a_window(pynetdicom: ModuleType) -> None:
    """N-27: without an answer operations are synchronous."""
    with (
        peers.pynetdicom_receiver(pynetdicom) as receiver,
        dicomnet.associate(peer(receiver.port), **everything()) as assoc,
    ):
        assert assoc.async_ops == (1, 1)
        assert [assoc.c_echo().status for _ in range(3)] == [0, 0, 0]


def test_pynetdicom_reads_all_that_we_answer(pynetdicom: ModuleType) -> None:
    """PS3.8 9.3.3, PS3.7 D.3: it takes the PDU apart, and puts it together again byte for byte."""
    pdus: list[bytes] = []
    received: list[bytes] = []
    on = pynetdicom.evt
    handlers = [
        (on.EVT_DATA_RECV, lambda event: received.append(event.data)),
        (on.EVT_PDU_RECV, lambda event: pdus.append(event.pdu.encode())),
    ]
    window = pynetdicom.pdu_primitives.AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 9
    window.maximum_number_operations_performed = 9
    role = pynetdicom.build_role(CT_STORAGE, scu_role=True, scp_role=True)
    with peers.dicomnet_receiver(async_ops=(4, 2), roles={CT_STORAGE: (True, False)}) as receiver:
        assoc = peers.pynetdicom_associate(pynetdicom, receiver.port, handlers=handlers, ext_neg=[window, role])
        assert assoc.is_established
        assert assoc.acceptor.asynchronous_operations == (4, 2)
        granted = assoc.acceptor.role_selection[CT_STORAGE]
        assert (granted.scu_role, granted.scp_role) == (True, False)
        assert assoc.acceptor.implementation_class_uid == IMPLEMENTATION_CLASS_UID
        assert assoc.acceptor.maximum_length == 131072
        assert assoc.send_c_echo().Status == 0
        assoc.release()
    assert received[0] == pdus[0]
    assert [association.error for association in receiver.associations] == [None]


# --- roles, extended negotiation ------------------------------------------------------------------------------------

STUDY_FIND, STUDY_MOVE, STUDY_GET = models.MODELS["study"]


def test_getscu_may_receive(dcmtk: Tool, tmp_path: Path) -> None:
    """PS3.4 C.5.3: it asks to be SCP of what it gets, and gets it."""
    with peers.dicomnet_receiver(
        contexts=[STUDY_GET, CT_STORAGE], on_c_get=lambda request: [corpus.FOLDER / CT]
    ) as receiver:
        level = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"]
        done = peers.run(dcmtk("getscu"), "-v", "-S", "-od", tmp_path, *level, HOST, receiver.port)
    assert done.returncode == 0, done.stdout
    (association,) = receiver.associations
    roles = {context.abstract_syntax: (context.scu, context.scp) for context in association.accepted}
    assert roles == {STUDY_GET: (True, False), CT_STORAGE: (False, True)}
    (path,) = tmp_path.iterdir()
    assert corpus.read(path).sop_instance_uid == instances()[CT].sop_instance_uid  # getscu encodes it anew


def test_dcmqrscp_lets_us_receive(dcmtk: Tool, folder: Path) -> None:
    """PS3.4 C.5.3: nobody has to name roles for C-GET, which also leave C-STORE possible."""
    with peers.dcmqrscp(dcmtk, folder) as program:
        wish = [STUDY_GET, STUDY_FIND, CT_STORAGE, dicomnet.Verification]
        with dicomnet.associate(f"ARCHIVE@{HOST}:{program.port}", contexts=wish) as assoc:
            roles = {context.abstract_syntax: (context.scu, context.scp) for context in assoc.accepted}
    assert roles.pop(CT_STORAGE)[1]
    assert roles == dict.fromkeys((STUDY_GET, STUDY_FIND, dicomnet.Verification), (True, False))


def test_pynetdicom_may_receive(pynetdicom: ModuleType) -> None:
    """PS3.7 D.3.3.4, PS3.4 C.5.3."""
    with peers.dicomnet_receiver(contexts=[STUDY_GET, CT_STORAGE]) as receiver:
        ae = pynetdicom.AE()
        contexts = [pynetdicom.build_context(uid) for uid in (STUDY_GET, CT_STORAGE)]
        role = pynetdicom.build_role(CT_STORAGE, scp_role=True)
        assoc = ae.associate(HOST, receiver.port, contexts=contexts, ext_neg=[role])
        assert {context.abstract_syntax: (context.as_scu, context.as_scp) for context in assoc.accepted_contexts} == {
            STUDY_GET: (True, False),
            CT_STORAGE: (False, True),
        }
        assoc.release()


def test_pynetdicom_lets_us_receive(pynetdicom: ModuleType) -> None:
    """PS3.7 D.3.3.4, PS3.4 C.5.3: as far as it does."""
    ae = pynetdicom.AE()
    ae.add_supported_context(STUDY_GET)
    ae.add_supported_context(CT_STORAGE, scu_role=True, scp_role=True)
    ae.add_supported_context(dicomnet.StorageClasses[0], scu_role=False, scp_role=True)
    server = ae.start_server((HOST, 0), block=False)
    try:
        wish = [STUDY_GET, CT_STORAGE, dicomnet.StorageClasses[0]]
        with dicomnet.associate(peer(server.socket.getsockname()[1]), contexts=wish) as assoc:
            roles = {context.abstract_syntax: (context.scu, context.scp) for context in assoc.accepted}
    finally:
        server.shutdown()
    assert roles[STUDY_GET] == (True, False)
    assert roles[CT_STORAGE] == (True, True)
    assert roles[dicomnet.StorageClasses[0]] == (False, True)


def test_pynetdicom_and_extended_negotiation(pynetdicom: ModuleType) -> None:
    """N-29, PS3.4 C.5.1.1, B.3.1: what was asked for and is supported is answered, in both directions."""
    asked = dicomnet.ExtendedQuery(relational=True, fuzzy=True, timezone=True)
    supported = {STUDY_FIND: dicomnet.ExtendedQuery(relational=True), CT_STORAGE: dicomnet.ExtendedStorage()}
    with peers.dicomnet_receiver(contexts=[STUDY_FIND, CT_STORAGE], extended=supported) as receiver:
        item = pynetdicom.pdu_primitives.SOPClassExtendedNegotiation()
        item.sop_class_uid, item.service_class_application_information = STUDY_FIND, bytes(asked)
        assoc = pynetdicom.AE().associate(
            HOST, receiver.port, contexts=[pynetdicom.build_context(STUDY_FIND)], ext_neg=[item]
        )
        assert assoc.acceptor.sop_class_extended == {STUDY_FIND: b"\1\0\0\0"}
        assoc.release()
    (association,) = receiver.associations
    assert association.extended == {STUDY_FIND: b"\1\0\0\0"}

    handlers = [(pynetdicom.evt.EVT_SOP_EXTENDED, lambda event: dict.fromkeys(event.app_info, b"\x01"))]
    ae = pynetdicom.AE()
    ae.add_supported_context(STUDY_FIND)
    server = ae.start_server((HOST, 0), block=False, evt_handlers=handlers)
    try:
        place = peer(server.socket.getsockname()[1])
        with dicomnet.associate(place, contexts=[STUDY_FIND], extended={STUDY_FIND: asked}) as assoc:
            assert dicomnet.ExtendedQuery.decode(assoc.extended[STUDY_FIND]) == dicomnet.ExtendedQuery(relational=True)
    finally:
        server.shutdown()


def test_pynetdicom_and_common_extended_negotiation(pynetdicom: ModuleType) -> None:
    """PS3.7 D.3.3.6: a private class is accepted as the CT that it specialises; what we send is read."""
    private = "1.3.12.2.1107.5.9.1"
    with peers.dicomnet_receiver(contexts=[CT_STORAGE], accept_related=True) as receiver:
        item = pynetdicom.pdu_primitives.SOPClassCommonExtendedNegotiation()
        item.sop_class_uid, item.service_class_uid = private, "1.2.840.10008.4.2"
        item.related_general_sop_class_identification = [CT_STORAGE]
        assoc = pynetdicom.AE().associate(
            HOST, receiver.port, contexts=[pynetdicom.build_context(private)], ext_neg=[item]
        )
        assert [context.abstract_syntax for context in assoc.accepted_contexts] == [private]
        assoc.release()

    seen: list[Any] = []
    handlers = [(pynetdicom.evt.EVT_SOP_COMMON, lambda event: seen.append(event.items) or {})]
    wish = [dicomnet.CommonExtended(private, related=(CT_STORAGE,))]
    with (
        peers.pynetdicom_receiver(pynetdicom, handlers=handlers) as receiver,
        dicomnet.associate(peer(receiver.port), contexts=[private, CT_STORAGE], common_extended=wish),
    ):
        (items,) = seen
    assert items[private].service_class_uid == "1.2.840.10008.4.2"
    assert items[private].related_general_sop_class_identification == [CT_STORAGE]


# --- user identity --------------------------------------------------------------------------------------------------


def test_the_identity_that_storescu_sends(dcmtk: Tool, tmp_path: Path) -> None:
    """PS3.7 D.3.3.7: types 1 to 5."""
    token = tmp_path / "token"
    token.write_bytes(b"a token of 23 bytes ...")
    ways: list[tuple[list[Any], dicomnet.Identity]] = [
        (["--user", "somebody"], dicomnet.Identity.username("somebody")),
        (["--user", "somebody", "--password", "pass"], dicomnet.Identity.passcode("somebody", "pass")),
        (["--user", "somebody", "--empty-password"], dicomnet.Identity.passcode("somebody", "")),
        (["--kerberos", token], dicomnet.Identity.kerberos(token.read_bytes())),
        (["--saml", token], dicomnet.Identity.saml(token.read_bytes())),
        (["--jwt", token], dicomnet.Identity.jwt(token.read_bytes())),
    ]
    with peers.dicomnet_receiver() as receiver:
        for options, _ in ways:
            done = peers.run(dcmtk("storescu"), *options, HOST, receiver.port, corpus.FOLDER / CT)
            assert done.returncode == 0, (options, done.stdout)
    assert [association.identity for association in receiver.associations] == [identity for _, identity in ways]


def verified(**options: Any) -> Any:
    """A server that knows one user."""
    known = PasscodeVerifier({"somebody": hash_passcode("something")})
    return peers.dicomnet_receiver(on_identity=known, **options)


def test_storescu_identifies_itself(dcmtk: Tool) -> None:
    """PS3.7 D.3.3.7: storescu -rsp goes on only with a response; a wrong passcode is refused with 1/2/1."""
    with verified(require_identity=True) as receiver:
        for user, passcode, accepted in (
            ("somebody", "something", True),
            ("somebody", "else", False),
            ("me", "", False),
        ):
            secret = ["--password", passcode] if passcode else []
            options = ["-v", "--user", user, *secret, "--pos-response"]
            done = peers.run(dcmtk("storescu"), *options, HOST, receiver.port, corpus.FOLDER / CT)
            assert (done.returncode == 0) == accepted, done.stdout
            assert ("Result: Rejected Permanent, Source: Service Provider (ACSE Related)" in done.stdout) != accepted
        anonymous = peers.run(dcmtk("echoscu"), "-v", HOST, receiver.port)
        assert "Rejected Permanent" in anonymous.stdout
    assert [association.error for association in receiver.associations] == [None]
    assert [instance.sop_class_uid for instance in receiver.arrived] == [CT_STORAGE]


def test_storescu_wants_a_response_that_nobody_gives(dcmtk: Tool) -> None:
    """N-30, PS3.7 D.3.3.7: without a handler none is supported; then it is the requestor who ends the association."""
    with peers.dicomnet_receiver() as receiver:
        done = peers.run(
            dcmtk("storescu"), "-v", "--user", "me", "--pos-response", HOST, receiver.port, corpus.FOLDER / CT
        )
    assert done.returncode != 0
    assert receiver.arrived == []


def test_storescu_sends_a_web_token(dcmtk: Tool, tmp_path: Path) -> None:
    """PS3.7 D.3.3.7, type 5: its signature is checked."""
    key = ed25519.Ed25519PrivateKey.generate()
    parts = [{"alg": "EdDSA"}, {"iss": "clinic", "aud": "RECEIVER", "exp": time.time() + 300}]
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    verifier = JwtVerifier(key.public_key(), issuer="clinic", audience="RECEIVER")
    with peers.dicomnet_receiver(on_identity=verifier) as receiver:
        for signature, accepted in ((key.sign(signed), True), (bytes(64), False)):
            path = tmp_path / "token"
            path.write_bytes(signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"="))
            options = ["--jwt", path, "--pos-response"]
            done = peers.run(dcmtk("storescu"), *options, HOST, receiver.port, corpus.FOLDER / CT)
            assert (done.returncode == 0) == accepted, done.stdout
    assert [instance.sop_class_uid for instance in receiver.arrived] == [CT_STORAGE]


@pytest.mark.parametrize("response", [None, b"", b"a ticket"])
def test_pynetdicom_reads_the_response_to_an_identity(pynetdicom: ModuleType, response: bytes | None) -> None:
    """PS3.7 D.3.3.7.2: for each type."""
    seen: list[tuple[int, bytes]] = []

    def decide(association: Any, identity: dicomnet.Identity) -> bytes | None:
        seen.append((identity.type, identity.primary))
        return response

    with peers.dicomnet_receiver(on_identity=decide) as receiver:
        for type in range(1, 6):
            who = pynetdicom.pdu_primitives.UserIdentityNegotiation()
            who.user_identity_type, who.primary_field, who.positive_response_requested = type, b"me", True
            if type == 2:
                who.secondary_field = b"secret"
            assoc = peers.pynetdicom_associate(pynetdicom, receiver.port, ext_neg=[who])
            assert assoc.is_established
            assert assoc.acceptor.user_identity.server_response == (response or b"")
            assoc.release()
    assert seen == [(type, b"me") for type in range(1, 6)]


def test_pynetdicom_answers_an_identity(pynetdicom: ModuleType) -> None:
    """PS3.7 D.3.3.7.2: the requestor sees the response."""
    handlers = [(pynetdicom.evt.EVT_USER_ID, lambda event: (True, b"pleased to meet you"))]
    who = dicomnet.Identity.kerberos(b"ticket", response_requested=True)
    with (
        peers.pynetdicom_receiver(pynetdicom, handlers=handlers) as receiver,
        dicomnet.associate(peer(receiver.port), identity=who) as assoc,
    ):
        assert assoc.identity_response == b"pleased to meet you"


def test_pynetdicom_refuses_an_identity(pynetdicom: ModuleType) -> None:
    """PS3.7 D.3.3.7.3: the whole association is rejected."""
    handlers = [(pynetdicom.evt.EVT_USER_ID, lambda event: (False, None))]
    with (
        peers.pynetdicom_receiver(pynetdicom, handlers=handlers) as receiver,
        pytest.raises(dicomnet.AssociationRejected) as caught,
    ):
        dicomnet.associate(peer(receiver.port), identity=dicomnet.Identity.username("nobody"))
    assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 2, 1)


# --- rejection ------------------------------------------------------------------------------------------------------


def test_storescp_refuses(dcmtk: Tool, folder: Path) -> None:
    """PS3.8 9.3.4."""
    with (
        peers.storescp(dcmtk, folder, "--refuse") as program,
        pytest.raises(dicomnet.AssociationRejected) as caught,
    ):
        dicomnet.associate(peer(program.port))
    assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 1)


def test_pynetdicom_refuses(pynetdicom: ModuleType) -> None:
    """PS3.8 9.3.4."""
    with peers.pynetdicom_receiver(pynetdicom, require_called=True) as receiver:
        with pytest.raises(dicomnet.AssociationRejected) as caught:
            dicomnet.associate(peer(receiver.port))
        with dicomnet.associate(f"PYNETDICOM@{HOST}:{receiver.port}") as assoc:
            assert assoc.c_echo().status == 0
    assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 7)


def refuse(association: Any) -> None:
    raise dicomnet.Reject(2, 3, 1)


REFUSALS = [
    ({"require_called": True}, "Called AE Title Not Recognized", (1, 1, 7)),
    ({"accept_calling": ["FRIEND"]}, "Calling AE Title Not Recognized", (1, 1, 3)),
    ({"on_association": refuse}, "Temporary Congestion", (2, 3, 1)),
]


@pytest.mark.parametrize(("options", "text", "expected"), REFUSALS)
def test_dcmtk_is_refused(dcmtk: Tool, options: dict[str, Any], text: str, expected: tuple[int, int, int]) -> None:
    """PS3.8 9.3.4: it tells the reason that we gave."""
    with peers.dicomnet_receiver(**options) as receiver:
        done = peers.run(dcmtk("echoscu"), HOST, receiver.port)
    assert done.returncode != 0
    assert text in done.stdout


@pytest.mark.parametrize(("options", "text", "expected"), REFUSALS)
def test_pynetdicom_is_refused(
    pynetdicom: ModuleType, options: dict[str, Any], text: str, expected: tuple[int, int, int]
) -> None:
    """PS3.8 9.3.4: it tells the reason that we gave."""
    with peers.dicomnet_receiver(**options) as receiver:
        assoc = peers.pynetdicom_associate(pynetdicom, receiver.port)
    assert assoc.is_rejected
    answer = assoc.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == expected


def test_storescu_is_offered_nothing(dcmtk: Tool) -> None:
    """PS3.8 9.3.3.2: an association without an accepted context; storescu just closes the connection (AA-4)."""
    with peers.dicomnet_receiver(contexts=[dicomnet.Verification]) as receiver:
        done = peers.run(dcmtk("storescu"), HOST, receiver.port, corpus.FOLDER / CT)
    assert done.returncode != 0
    assert "No Acceptable Presentation Contexts" in done.stdout
    assert [type(association.error) for association in receiver.associations] == [dicomnet.TransportError]


# --- abort ----------------------------------------------------------------------------------------------------------


def test_storescu_aborts(dcmtk: Tool) -> None:
    """PS3.8 9.3.8."""
    with peers.dicomnet_receiver() as receiver:
        done = peers.run(dcmtk("storescu"), "--abort", HOST, receiver.port, corpus.FOLDER / CT)
    assert done.returncode == 0
    assert len(receiver.arrived) == 1
    (association,) = receiver.associations
    assert (association.error.source, association.error.reason) == (0, 0)


@pytest.mark.parametrize("when", ["--abort-after", "--abort-during"])
def test_storescp_aborts(dcmtk: Tool, folder: Path, when: str) -> None:
    """PS3.8 9.3.8: while we send, or instead of a response."""
    with peers.storescp(dcmtk, folder, when) as program:
        for name in (CT, "examples_overlay.dcm"):
            assoc = dicomnet.associate(peer(program.port), contexts=corpus.contexts())
            with pytest.raises(dicomnet.AssociationAborted) as caught:
                assoc.c_store(corpus.FOLDER / name)
            assert (caught.value.source, caught.value.reason) == (0, 0)


def test_dicomnet_aborts_and_storescp_goes_on(dcmtk: Tool, folder: Path) -> None:
    """PS3.8 9.3.8."""
    with peers.storescp(dcmtk, folder, "-v") as program:
        dicomnet.associate(peer(program.port)).abort()
        program.wait_for("Association Aborted")
        with pytest.raises(ZeroDivisionError), dicomnet.associate(peer(program.port)) as assoc:
            assert assoc.c_echo().status == 0
            raise ZeroDivisionError
        with dicomnet.associate(peer(program.port)) as assoc:
            assert assoc.c_echo().status == 0
    assert program.log.count("Association Aborted") >= 2


def test_dicomnet_and_pynetdicom_abort(pynetdicom: ModuleType) -> None:
    """PS3.8 9.3.8: either side, told to the other."""
    aborted = threading.Event()
    handlers = [(pynetdicom.evt.EVT_ABORTED, lambda event: aborted.set())]
    with peers.pynetdicom_receiver(pynetdicom, handlers=handlers) as receiver:
        dicomnet.associate(peer(receiver.port)).abort()
        assert aborted.wait(10)
    with peers.dicomnet_receiver() as receiver:
        peers.pynetdicom_associate(pynetdicom, receiver.port).abort()
    (association,) = receiver.associations
    assert (association.error.source, association.error.reason) == (0, 0)


def test_a_failing_handler_is_a_status_for_dcmtk(dcmtk: Tool) -> None:
    """K3: 0x0110 Processing Failure, and the association goes on."""

    def fail(request: Any) -> int:
        raise ZeroDivisionError("a bug in the handler")

    files = [corpus.FOLDER / name for name in (CT, "MR_small.dcm")]
    with peers.dicomnet_receiver(on_c_store=fail) as receiver:
        done = peers.run(dcmtk("storescu"), "-v", "-nh", HOST, receiver.port, *files)
    assert done.stdout.count("Received Store Response (Unknown Status: 0x110)") == 2, done.stdout
    assert [association.error for association in receiver.associations] == [None]
