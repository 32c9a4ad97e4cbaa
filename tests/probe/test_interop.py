"""Surveys of other implementations: the report says what their documentation says."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dicomnet.models import is_storage
from dicomnet.probe import Report, survey
from tests.probe.conftest import HOST, SOON

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
CT, FIND = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.2.2.1"


def accepted(report: Report) -> dict[str, set[str]]:
    assert report.classes is not None
    assert report.classes.complete
    return {one.uid: set(one.transfer_syntaxes) for one in report.classes.classes if one.accepted}


@contextmanager
def storescp(program: Path, folder: Path, *options: str) -> Iterator[str]:
    with socket.socket() as bound:  # storescp takes no port 0
        bound.bind((HOST, 0))
        port = bound.getsockname()[1]
    command = [str(program), *options, "-od", str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await(port)
            yield f"ANY@{HOST}:{port}"
        finally:
            process.terminate()


def _await(port: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except ConnectionRefusedError:
            continue
    raise AssertionError("it does not listen")


def test_storescp_takes_everything_uncompressed(dcmtk: Callable[[str], Path], tmp_path: Path) -> None:
    """Its default: all storage SOP classes that it knows, in the three uncompressed transfer syntaxes."""
    with storescp(dcmtk("storescp"), tmp_path) as peer:
        report = survey(peer, timeouts=SOON, echoes=3)
    assert report.failure is None
    assert report.negotiated is not None
    assert report.negotiated.product.startswith("DCMTK 3.")
    assert report.negotiated.window is None
    stored = {uid: syntaxes for uid, syntaxes in accepted(report).items() if is_storage(uid)}
    assert len(stored) > 100
    assert set(map(frozenset, stored.values())) == {frozenset((IMPLICIT, EXPLICIT, BIG_ENDIAN))}


def test_storescp_that_prefers_implicit_alone(dcmtk: Callable[[str], Path], tmp_path: Path) -> None:
    with storescp(dcmtk("storescp"), tmp_path, "+xi") as peer:
        report = survey(peer, timeouts=SOON, echoes=3)
    assert accepted(report)[CT] == {IMPLICIT}


def test_pynetdicom_is_known_with_what_it_was_told_to_support(pynetdicom: Any) -> None:
    ae = pynetdicom.AE("PYNET")
    ae.add_supported_context("1.2.840.10008.1.1")
    ae.add_supported_context(CT, [EXPLICIT, "1.2.840.10008.1.2.4.90"], scu_role=True, scp_role=True)
    ae.add_supported_context(FIND, [IMPLICIT])
    ae.require_called_aet = True
    ae.maximum_pdu_size = 20000
    server = ae.start_server((HOST, 0), block=False)
    try:
        report = survey(f"PYNET@{HOST}:{server.server_address[1]}", timeouts=SOON, echoes=3)
    finally:
        server.shutdown()
    assert report.failure is None
    found = accepted(report)
    assert found[CT] == {EXPLICIT, "1.2.840.10008.1.2.4.90"}
    assert found[FIND] == {IMPLICIT}
    assert found.keys() == {"1.2.840.10008.1.1", CT, FIND}
    assert report.negotiated is not None
    assert report.negotiated.product.startswith("pynetdicom")
    assert report.negotiated.max_pdu_length == 20000
    assert report.titles is not None
    assert report.titles.checks_called is True
    assert report.classes is not None
    assert [one.requestor_is_scp for one in report.classes.classes if one.uid == CT] == [True]
