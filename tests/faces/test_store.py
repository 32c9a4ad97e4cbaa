"""C-STORE over real sockets: what goes out is what arrives, whatever it is made of and however it is cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian

import dicomnet
from dicomnet import EncodedDataset, Limits, Status
from tests.faces.conftest import Scp, ct, eventually, spooled
from tests.faces.face import Face
from tests.faces.wire import (
    AC,
    CT,
    EXPLICIT,
    IMPLICIT,
    INSTANCE,
    OFFER,
    RELEASE_RP,
    USER,
    Scripted,
    Wire,
    patient_data,
    store_rsp,
)

MakeScp = Callable[..., Scp]
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
FILES = {  # of pydicom's own test files
    "implicit": "MR_small_implicit.dcm",
    "explicit": "CT_small.dcm",
    "big endian": "MR_small_bigendian.dcm",
    "deflated": "image_dfl.dcm",
    "JPEG": "JPEG-lossy.dcm",
    "JPEG 2000": "JPEG2000.dcm",
    "RLE": "MR_small_RLE.dcm",
}


def store(face: Face, acceptor: Scp, data: Any, encoded: EncodedDataset, **options: Any) -> dicomnet.Response:
    contexts = [(encoded.sop_class_uid, [encoded.transfer_syntax])]
    with face.associate(acceptor.peer, contexts=contexts) as association:
        response: dicomnet.Response = association.c_store(data, **options)
    return response


@pytest.fixture(params=FILES)
def example(request: pytest.FixtureRequest) -> str:
    path = get_testdata_file(FILES[request.param])
    assert isinstance(path, str)
    return path


def test_a_file_arrives_byte_for_byte(client: Face, scp: MakeScp, example: str) -> None:
    """N-33: compressed, big endian and deflated ones, too."""
    encoded = EncodedDataset.from_file(example)
    acceptor = scp(contexts=dicomnet.StorageClasses)
    assert store(client, acceptor, example, encoded).status is Status.SUCCESS
    assert acceptor.received == [bytes(encoded)]
    (request,) = acceptor.requests
    assert request.dataset.transfer_syntax == request.context.transfer_syntax == encoded.transfer_syntax


def test_an_encoded_dataset_arrives_byte_for_byte(client: Face, scp: MakeScp, example: str) -> None:
    """The API, §4."""
    encoded = EncodedDataset.from_file(example)
    acceptor = scp(contexts=dicomnet.StorageClasses)
    assert store(client, acceptor, encoded, encoded).status is Status.SUCCESS
    assert acceptor.received == [bytes(encoded)]


def test_a_pydicom_dataset_arrives(client: Face, scp: MakeScp, example: str) -> None:
    """The API, §1."""
    dataset = pydicom.dcmread(example)
    acceptor = scp(contexts=dicomnet.StorageClasses)
    assert store(client, acceptor, dataset, EncodedDataset.from_file(example)).status is Status.SUCCESS
    assert acceptor.requests[0].dataset.decode() == dataset


def test_a_path_object_is_a_path(client: Face, scp: MakeScp) -> None:
    """The API, §1."""
    path = get_testdata_file("CT_small.dcm")
    acceptor = scp()
    assert store(client, acceptor, Path(str(path)), EncodedDataset.from_file(str(path))).status is Status.SUCCESS


@pytest.mark.parametrize("accepted", [IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_an_uncompressed_dataset_goes_into_another_uncompressed_syntax(
    client: Face, scp: MakeScp, accepted: str
) -> None:
    """PS3.5 10: nothing but the encoding differs."""
    path = str(get_testdata_file("CT_small.dcm"))
    acceptor = scp()
    with client.associate(acceptor.peer, contexts=[(CT, [accepted])]) as association:
        assert association.c_store(path).status is Status.SUCCESS
    (request,) = acceptor.requests
    assert request.dataset.transfer_syntax == accepted
    assert request.dataset.transcoded(EXPLICIT).decode() == pydicom.dcmread(path)  # OW in the order of the host


def test_a_compressed_dataset_needs_its_own_context(client: Face, scp: MakeScp) -> None:
    """NoAcceptedContext, before anything is sent: the association stands."""
    path = str(get_testdata_file("JPEG2000.dcm"))
    acceptor = scp(contexts=[dicomnet.Verification, *dicomnet.StorageClasses])
    contexts = [dicomnet.Verification, (EncodedDataset.from_file(path).sop_class_uid, [IMPLICIT])]
    with client.associate(acceptor.peer, contexts=contexts) as association:
        with pytest.raises(dicomnet.NoAcceptedContext):
            association.c_store(path)
        association.c_echo()
    assert acceptor.received == []


def test_what_is_no_dicom_file_is_an_error_of_the_caller(client: Face, scp: MakeScp, tmp_path: Path) -> None:
    """OSError for a file that is not there, InvalidDataset for one that is none; the association stands."""
    (tmp_path / "text").write_text("not DICOM at all " * 20)
    with client.associate(scp().peer, contexts=[dicomnet.Verification, CT]) as association:
        with pytest.raises(FileNotFoundError):
            association.c_store(tmp_path / "none")
        with pytest.raises(dicomnet.InvalidDataset):
            association.c_store(tmp_path / "text")
        association.c_echo()


def test_handlers_see_the_request(client: Face, scp: MakeScp) -> None:
    """The API, §2: what a request has."""
    acceptor = scp()
    with client.associate(acceptor.peer, calling_ae="ME", contexts=[(CT, [EXPLICIT])]) as association:
        association.c_store(ct(b""))
        association.c_store(ct(patient_data()), priority=1, originator=("MOVER", 77))
    one, other = acceptor.requests
    assert (one.message_id, one.priority, one.originator) == (1, 0, None)
    assert (other.message_id, other.priority, other.originator) == (2, 1, ("MOVER", 77))
    assert (other.sop_class_uid, other.sop_instance_uid) == (CT, INSTANCE)
    assert other.context == other.association.accepted[0]
    assert other.cancelled is False
    assert other.association is one.association
    assert (other.association.calling_ae, other.association.called_ae) == ("ME", "SCP")
    assert other.association.address[0] == "127.0.0.1"
    assert other.association.identity is None
    assert other.association.certificate is None


def test_a_large_data_set_waits_in_a_file_that_goes_with_it(client: Face, scp: MakeScp) -> None:
    """The API, §4: above limits.spool_size; a small one stays in memory."""
    seen: list[tuple[int, int]] = []
    acceptor = scp(limits=Limits(spool_size=1000))

    @acceptor.ae.on_c_store
    def look(request: Any) -> int:
        acceptor.received.append(bytes(request.dataset))
        seen.append((request.dataset.size, len(spooled(acceptor.spool))))
        return 0

    datas = [os.urandom(size) for size in (1000, 1002, 300_000)]
    with client.associate(acceptor.peer, contexts=[(CT, [EXPLICIT])]) as association:
        for data in datas:
            assert association.c_store(ct(data)).status is Status.SUCCESS
    assert acceptor.received == datas
    assert [(size, files > 0) for size, files in seen] == [(1000, False), (1002, True), (300_000, True)]
    eventually(lambda: not spooled(acceptor.spool), "the files go with the data sets")


def test_a_spooled_data_set_is_saved_by_renaming(client: Face, scp: MakeScp, tmp_path: Path) -> None:
    """The API, §4: what is saved stays, byte for byte behind its header."""
    acceptor = scp(limits=Limits(spool_size=16))
    target = tmp_path / "kept.dcm"

    @acceptor.ae.on_c_store
    def keep(request: Any) -> int:
        request.dataset.save(target)
        return 0 if not spooled(acceptor.spool) else 0xA700

    with client.associate(acceptor.peer, contexts=[(CT, [EXPLICIT])]) as association:
        assert association.c_store(ct(patient_data())).status is Status.SUCCESS
    assert bytes(EncodedDataset.from_file(target)) == patient_data()
    assert pydicom.dcmread(target).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_a_spool_folder_that_fails_refuses_the_data_set(client: Face, scp: MakeScp, tmp_path: Path) -> None:
    """PS3.4 Table B.2-1: A700; the association lives."""
    acceptor = scp(limits=Limits(spool_size=16), spool_folder=tmp_path / "not there")
    with client.associate(acceptor.peer, contexts=[dicomnet.Verification, (CT, [EXPLICIT])]) as association:
        assert association.c_store(ct(patient_data())).status == 0xA700
        assert association.c_echo().status == 0
    assert acceptor.received == []


# --- fragments ------------------------------------------------------------------------------------------------------

LENGTHS = [8, 9, 16, 100, 0]


def sizes_around_borders(max_length: int) -> list[int]:
    """Even sizes about one, two and three fragments of what fits into ``max_length``."""
    fragment = ((max_length or 128 * 1024) - 6) & ~1
    near = {0, 2} | {count * fragment + more for count in (1, 2, 3) for more in (-2, 0, 2)}
    return sorted(size for size in near if size >= 0)


@pytest.mark.parametrize("ours", LENGTHS)
@pytest.mark.parametrize("theirs", LENGTHS)
def test_data_sets_of_all_sizes_pass_all_maximum_lengths(client: Face, scp: MakeScp, ours: int, theirs: int) -> None:
    """N-17, N-18, N-20: what either side announces is kept, however small; nothing gets lost at a fragment's border."""
    acceptor = scp(max_pdu_length=theirs)
    datas = [os.urandom(size) for size in sizes_around_borders(theirs)]
    with client.associate(acceptor.peer, contexts=[(CT, [EXPLICIT])], max_pdu_length=ours) as association:
        assert association.max_pdu_length == theirs
        for data in datas:
            assert association.c_store(ct(data)).status is Status.SUCCESS
    assert acceptor.received == datas


@pytest.mark.parametrize("max_length", LENGTHS)
def test_no_pdu_is_longer_than_the_peer_takes(client: Face, max_length: int) -> None:
    """N-17, N-18: on the wire; each fragment even."""
    data = bytes(range(100))
    pdus: list[bytes] = []

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(replace(AC, user=replace(USER, max_length=max_length)))
        while True:
            head = wire.reads(6)
            pdus.append(wire.reads(int.from_bytes(head[2:], "big")))
            if pdus[-1][5] == 2:  # the last fragment of a data set
                break
        wire.sends(store_rsp())
        wire.hears()
        wire.sends(RELEASE_RP)

    with Scripted(script) as server, client.associate(server.peer, contexts=OFFER) as association:
        assert association.c_store(ct(data)).status == 0
    assert all(len(body) <= (max_length or 1 << 20) for body in pdus)
    assert all(len(body) % 2 == 0 for body in pdus)
    assert b"".join(body[6:] for body in pdus if not body[5] & 1) == data
