"""Every file that pydicom ships, stored from SCU to SCP by each pair of which one is dicomnet.

A sender either passes the bytes on (dicomnet, pynetdicom from a path) or reads the file and encodes it anew (storescu,
dcmsend, pynetdicom from a Dataset). The first must arrive as they lie in the file; the second as they arrive from the
same sender at a receiver of its own kind. What is not sent or not stored is listed here with the reason, and the lists
must be exact.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import pytest

from tests.interop import corpus, peers
from tests.interop.corpus import instances
from tests.interop.peers import HOST, Tool

# They go to others with a NUL behind them: fragments are even (PS3.8 E.1).
ODD = {"image_dfl.dcm", "rtplan_truncated.dcm"}

# The SOP class and instance UID are in the file meta information alone; these SCUs look into the data set.
UIDS_IN_META_ONLY = {"UN_sequence.dcm", "no_meta_group_length.dcm", "priv_SQ.dcm"}
# DCMTK cannot read them: an element is longer than the file.
UNREADABLE_FOR_DCMTK = {"MR_truncated.dcm", "rtplan_truncated.dcm", "SC_rgb_jpeg.dcm"}
# Their SOP class and instance UID have VR UN. storescu finds no UIDs; dcmsend takes "31", one byte in hex, for one.
UIDS_ARE_UN = {"rtdose_rle.dcm", "rtdose_rle_1frame.dcm"}
# The file meta information has another SOP instance UID than the data set, and pynetdicom puts it into the command.
META_CONTRADICTS = {
    "badVR.dcm",
    "rtdose.dcm",
    "rtdose_1frame.dcm",
    "rtdose_expb.dcm",
    "rtdose_expb_1frame.dcm",
    "rtplan.dcm",
    "rtplan_truncated.dcm",
}
# pynetdicom reads a path without pydicom's force=True.
NO_PREAMBLE = {"ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "rtstruct.dcm"}
# pydicom reads it and cannot write it: implicit VR, labelled explicit.
UNWRITABLE_FOR_PYDICOM = {"SC_rgb_jpeg.dcm"}

DATASET_MISMATCH = "0xA900"


def names_without(*exceptions: Iterable[str]) -> list[str]:
    gone = set().union(*exceptions)
    assert gone <= set(instances()), gone - set(instances())
    return [name for name in instances() if name not in gone]


def made_even() -> list[corpus.Instance]:
    return [corpus.even(instance) if name in ODD else instance for name, instance in instances().items()]


def failed(outcomes: dict[str, str]) -> dict[str, str]:
    return {name: outcome for name, outcome in outcomes.items() if outcome}


def test_the_corpus_is_large_enough() -> None:
    """What the other tests say of every file means something: many files, SOP classes and transfer syntaxes."""
    assert len(instances()) >= 150
    assert len({one.transfer_syntax for one in instances().values()}) == 12
    assert len({one.sop_class_uid for one in instances().values()}) >= 15


# --- dicomnet sends -------------------------------------------------------------------------------------------------


def test_dicomnet_to_dicomnet() -> None:
    """PS3.4 B.2, N-33: every data set arrives byte for byte."""
    with peers.dicomnet_receiver() as receiver:
        outcomes = peers.dicomnet_send(receiver.port, list(instances()))
    assert failed(outcomes) == {}
    assert receiver.arrived == list(instances().values())


@pytest.mark.parametrize("server", [peers.storescp, peers.dcmrecv], ids=lambda server: server.__name__)
def test_dicomnet_to_dcmtk(dcmtk: Tool, folder: Path, server: Callable[..., object]) -> None:
    """PS3.4 B.2, N-33: DCMTK, writing what it gets, gets each data set byte for byte; an odd one with a NUL more."""
    with server(dcmtk, folder) as program:
        outcomes = peers.dicomnet_send(program.port, list(instances()))
    assert failed(outcomes) == {}
    assert Counter(program.stored) == Counter(made_even())


def test_dicomnet_to_pynetdicom(pynetdicom: ModuleType) -> None:
    """PS3.4 B.2, N-33: pynetdicom gets each data set byte for byte."""
    with peers.pynetdicom_receiver(pynetdicom) as receiver:
        outcomes = peers.dicomnet_send(receiver.port, list(instances()))
    assert failed(outcomes) == {}
    assert receiver.arrived == made_even()


# --- dicomnet receives ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["storescu", "dcmsend"])
def test_dcmtk_to_dicomnet(dcmtk: Tool, folder: Path, client: str) -> None:
    """PS3.4 B.2, N-33: what DCMTK sends arrives as it arrives at DCMTK.

    P10: dcmsend has a wrong SOP class UID in the command sets of two: 0xA900 from dicomnet (PS3.4 Table B.2-1), where
    storescp does not look.
    """
    options = {
        "storescu": ["-nh", "-xf", peers.profiles(folder.parent), "SCU"],
        "dcmsend": ["-nh", "-dn", "+f"],
    }[client]
    files = [corpus.FOLDER / name for name in instances()]
    with peers.dicomnet_receiver() as receiver:
        log = peers.run(dcmtk(client), "-v", *options, HOST, receiver.port, *files).stdout
    with peers.storescp(dcmtk, folder) as program:
        peers.run(dcmtk(client), *options, HOST, program.port, *files)

    sent = names_without(UIDS_IN_META_ONLY, UNREADABLE_FOR_DCMTK, UIDS_ARE_UN)
    assert log.count("Response (Success)") == len(sent)
    assert log.count("DataSetDoesNotMatchSOPClass") == (len(UIDS_ARE_UN) if client == "dcmsend" else 0)
    assert [one.sop_instance_uid for one in receiver.arrived] == [instances()[name].sop_instance_uid for name in sent]
    refused = Counter(program.stored) - Counter(receiver.arrived)
    assert not Counter(receiver.arrived) - Counter(program.stored)
    assert refused.total() == (len(UIDS_ARE_UN) if client == "dcmsend" else 0)
    assert [association.error for association in receiver.associations] == [None]


def test_pynetdicom_to_dicomnet_reencoded(pynetdicom: ModuleType) -> None:
    """PS3.4 B.2, N-33: what pynetdicom sends of a Dataset arrives as it arrives at pynetdicom."""
    with peers.dicomnet_receiver() as receiver:
        outcomes = peers.pynetdicom_send(pynetdicom, receiver.port, list(instances()), raw=False)
    with peers.pynetdicom_receiver(pynetdicom) as itself:
        same_outcomes = peers.pynetdicom_send(pynetdicom, itself.port, list(instances()), raw=False)
    assert set(failed(outcomes)) == UIDS_IN_META_ONLY | NO_PREAMBLE | UNWRITABLE_FOR_PYDICOM
    assert outcomes == same_outcomes
    assert receiver.arrived == itself.arrived


def test_pynetdicom_to_dicomnet_raw(pynetdicom: ModuleType) -> None:
    """PS3.4 B.2, N-33: what pynetdicom sends straight from a file arrives byte for byte.

    P10: it sends the SOP instance UID of the file meta information; where the data set has another, it gets 0xA900.
    """
    with peers.dicomnet_receiver() as receiver:
        outcomes = peers.pynetdicom_send(pynetdicom, receiver.port, list(instances()), raw=True)
    assert {name for name, outcome in outcomes.items() if outcome == DATASET_MISMATCH} == META_CONTRADICTS
    assert set(failed(outcomes)) == META_CONTRADICTS | NO_PREAMBLE
    assert receiver.arrived == [instances()[name] for name in names_without(META_CONTRADICTS, NO_PREAMBLE)]
