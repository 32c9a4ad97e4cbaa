"""``DicomNet`` with DCMTK, in both roles: echo, and stores of every kind of file that pydicom ships."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from dicomnet import EncodedDataset
from dicomnet.callbacks import DicomAssociate, NetError
from tests.callbacks.recorder import VERIFICATION, Scp, Scu, Stage
from tests.interop import corpus, peers
from tests.interop.corpus import Instance
from tests.interop.peers import HOST, Tool

NAMES = [
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "ExplVR_BigEnd.dcm",
    "JPEG2000.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "rtdose.dcm",
    "examples_palette.dcm",
]


class Keeping(Scp):
    """Keeps what it is told to store."""

    arrived: list[Instance]

    def on_receive_c_store_request(self, pid: int, mid: int, cls: str, inst: str, *rest: Any) -> None:
        ds = rest[-1]
        self.arrived.append(Instance(cls, inst, ds.transfer_syntax, bytes(ds)))
        self.send_c_store_response(pid, mid, cls, inst, 0)


def test_echoscu_is_answered(stage: Stage, dcmtk: Tool) -> None:
    """Issue 2 part 8: DCMTK's echoscu as the SCU."""
    listener = stage.listener()
    done = peers.run(dcmtk("echoscu"), "-v", "--repeat", 3, HOST, listener.host_port)
    assert done.returncode == 0, done.stdout
    assert stage.wait("listener", "on_close")[0] == NetError.SUCCESS
    assert len(stage.entries("client", "on_receive_c_echo_request")) == 3


def test_storescu_stores(stage: Stage, dcmtk: Tool, tmp_path: Path) -> None:
    """Issue 2 part 8: byte-identical, in the transfer syntaxes that DCMTK sends files in."""
    arrived: list[Instance] = []
    listener = stage.listener(type("Keeping", (Keeping,), {"arrived": arrived}))
    profile = peers.profiles(tmp_path)
    files = [corpus.FOLDER / name for name in NAMES]
    done = peers.run(dcmtk("storescu"), "-v", "-xf", profile, "SCU", HOST, listener.host_port, *files)
    assert done.returncode == 0, done.stdout
    assert stage.wait("listener", "on_close")[0] == NetError.SUCCESS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [corpus.read(file) for file in files]
    assert [(one.sop_instance_uid, one.transfer_syntax) for one in arrived] == [
        (one.sop_instance_uid, one.transfer_syntax) for one in expected
    ]


def test_storescp_is_stored_to(stage: Stage, dcmtk: Tool, tmp_path: Path) -> None:
    """Issue 2 part 8: DCMTK's storescp as the SCP: byte-identical."""
    files = [corpus.FOLDER / name for name in NAMES]
    encoded = [EncodedDataset.from_file(file) for file in files]

    class Storing(Scu):
        def request(self) -> DicomAssociate:
            associate = DicomAssociate(True)
            associate.default()
            associate.called, associate.calling = "STORESCP", "SCU"
            for number, one in enumerate(encoded):
                associate.add_presentation_context(2 * number + 1, 0, one.sop_class_uid)
                associate.add_transfer(2 * number + 1, one.transfer_syntax)
            associate.add_presentation_context(255, 0, VERIFICATION)
            associate.add_transfer(255, "1.2.840.10008.1.2")
            return associate

        def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
            self.send_c_echo_request(255, 1000, VERIFICATION)
            for number, one in enumerate(encoded):
                self.send_c_store_request(
                    2 * number + 1, number, one.sop_class_uid, one.sop_instance_uid, 0, "", 0, files[number]
                )
            self.send_release_request()

    with peers.storescp(dcmtk, tmp_path) as program:
        stage.connected(program.port, Storing)
        assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS
        statuses = [entry.arguments[-1] for entry in stage.entries("SCU", "on_receive_c_store_response")]
        assert statuses == [0] * len(files)
        stored = {one.sop_instance_uid: one.data for one in program.stored}
    assert stored == {one.sop_instance_uid: bytes(one) for one in encoded}
    assert stage.wait("SCU", "on_receive_c_echo_response")[-1] == 0
