"""A data set of odd length: against PS3.5 7.1 and A.5, and there are files that hold one.

Sent as it is, its last fragment would have an odd length, against PS3.8 E.1, and DCMTK aborts at one. So a NUL goes
behind it, as a deflated data set may end (PS3.5 A.5). Only between two dicomnet ends does it stay as it was.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import dicomnet
from tests.interop import peers
from tests.interop.corpus import Instance, even, instances
from tests.interop.peers import HOST, Tool

NAMES = ["image_dfl.dcm", "rtplan_truncated.dcm"]


def store(port: int, instance: Instance) -> dicomnet.Response:
    context = (instance.sop_class_uid, [instance.transfer_syntax])
    data = (instance.data, instance.transfer_syntax, instance.sop_class_uid, instance.sop_instance_uid)
    with dicomnet.associate(f"PEER@{HOST}:{port}", contexts=[context]) as assoc:
        return assoc.c_store(dicomnet.EncodedDataset(*data))


def test_the_files_have_odd_lengths() -> None:
    assert [len(instances()[name].data) for name in NAMES] == [4303, 1829]


@pytest.mark.parametrize("server", [peers.storescp, peers.dcmrecv], ids=lambda server: server.__name__)
def test_dcmtk_stores_what_a_nul_made_even(dcmtk: Tool, folder: Path, server: Callable[..., object]) -> None:
    """N-18, PS3.5 A.5: the NUL is stored with the rest."""
    with server(dcmtk, folder) as program:
        assert [store(program.port, instances()[name]).status for name in NAMES] == [0, 0]
    assert set(program.stored) == {even(instances()[name]) for name in NAMES}


def test_dcmtk_inflates_what_a_nul_made_even(dcmtk: Tool, folder: Path) -> None:
    """PS3.5 A.5: storescp, reading what it gets (-B), reads a deflated data set that ends in a NUL."""
    with peers.storescp(dcmtk, folder, "-B") as program:
        assert store(program.port, instances()["image_dfl.dcm"]).status == 0
        with pytest.raises(dicomnet.AssociationAborted):  # cut off in mid-element, which is another matter
            store(program.port, instances()["rtplan_truncated.dcm"])
    assert len(program.stored) == 1


def test_pynetdicom_stores_both(pynetdicom: ModuleType) -> None:
    """N-18: pynetdicom gets the NUL, too."""
    with peers.pynetdicom_receiver(pynetdicom) as receiver:
        assert [store(receiver.port, instances()[name]).status for name in NAMES] == [0, 0]
    assert receiver.arrived == [even(instances()[name]) for name in NAMES]
