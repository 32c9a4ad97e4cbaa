"""A data set of odd length: against PS3.5 7.1 and A.5, and there are files that hold one.

Sent as it is, its last fragment has an odd length, against PS3.8 E.1; a NUL more makes it even. A deflated data set may
end in one (PS3.5 A.5), and nothing that reads it sees a difference.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import dicomnet
from tests.interop import peers
from tests.interop.corpus import Instance, instances
from tests.interop.peers import HOST, Tool

NAMES = ["image_dfl.dcm", "rtplan_truncated.dcm"]


def even(instance: Instance) -> Instance:
    return Instance(instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax, instance.data + b"\0")


def store(port: int, instance: Instance) -> dicomnet.Response:
    context = (instance.sop_class_uid, [instance.transfer_syntax])
    data = (instance.data, instance.transfer_syntax, instance.sop_class_uid, instance.sop_instance_uid)
    with dicomnet.associate(f"PEER@{HOST}:{port}", contexts=[context]) as assoc:
        return assoc.c_store(dicomnet.EncodedDataset(*data))


def test_the_files_have_odd_lengths() -> None:
    assert [len(instances()[name].data) for name in NAMES] == [4303, 1829]


@pytest.mark.parametrize("server", [peers.storescp, peers.dcmrecv], ids=lambda server: server.__name__)
def test_dcmtk_aborts_at_an_odd_fragment(dcmtk: Tool, folder: Path, server: Callable[..., object]) -> None:
    """N-18: nothing is stored, the other associations go on."""
    with server(dcmtk, folder) as program:
        for name in NAMES:
            with pytest.raises(dicomnet.AssociationAborted):
                store(program.port, instances()[name])
            program.wait_for(f"Odd Fragment Length: {len(instances()[name].data)}")
    assert program.stored == []


@pytest.mark.parametrize("server", [peers.storescp, peers.dcmrecv], ids=lambda server: server.__name__)
def test_dcmtk_stores_what_a_nul_made_even(dcmtk: Tool, folder: Path, server: Callable[..., object]) -> None:
    """N-18, PS3.5 A.5: the NUL is stored with the rest."""
    padded = [even(instances()[name]) for name in NAMES]
    with server(dcmtk, folder) as program:
        assert [store(program.port, instance).status for instance in padded] == [0, 0]
    assert set(program.stored) == set(padded)


def test_dcmtk_inflates_what_a_nul_made_even(dcmtk: Tool, folder: Path) -> None:
    """PS3.5 A.5: storescp, reading what it gets (-B), reads a deflated data set that ends in a NUL."""
    with peers.storescp(dcmtk, folder, "-B") as program:
        assert store(program.port, even(instances()["image_dfl.dcm"])).status == 0
        with pytest.raises(dicomnet.AssociationAborted):  # cut off in mid-element, which is another matter
            store(program.port, even(instances()["rtplan_truncated.dcm"]))
    assert len(program.stored) == 1


def test_pynetdicom_stores_both(pynetdicom: ModuleType) -> None:
    """N-18: pynetdicom does not look at the length."""
    sent = [instance for name in NAMES for instance in (instances()[name], even(instances()[name]))]
    with peers.pynetdicom_receiver(pynetdicom) as receiver:
        assert [store(receiver.port, instance).status for instance in sent] == [0, 0, 0, 0]
    assert receiver.arrived == sent
