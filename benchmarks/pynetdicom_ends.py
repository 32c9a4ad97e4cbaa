"""Programs: SCU and SCP on pynetdicom, as its documentation shows them, but for one thing: they set ``TCP_NODELAY``.

pynetdicom itself does not, and against its own kind it then stores 20 files a second: that would be no comparison.

Version 3.0.4 now and then loses a response: its reactor's thread takes it from whoever waits for it. An SCU here gives
up after seconds, not after pynetdicom's half a minute, and the round is begun anew.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.association import Association

from benchmarks.canned import VERIFICATION
from benchmarks.program import (
    PYNETDICOM_PATIENCE,
    allow_many_connections,
    announce,
    load_arguments,
    report,
    run_verb,
    timed,
    wait_for_end,
)
from benchmarks.studies import MODEL, Archive

_SLOWEST = 40e6  # bytes/s at which pynetdicom's SCP keeps a large object, at worst


def main() -> None:
    """Run one of the programs."""
    run_verb("pynetdicom_ends", serve, receive, keep, answer, echo, store, send, associations, options=_options)


def _options(verbs: Any) -> None:
    load_arguments(*(verbs[name] for name in ("echo", "store", "associations")))
    verbs["serve"].add_argument("--associations", type=int, default=64)
    for name in ("receive", "keep"):
        verbs[name].add_argument("folder", type=Path)
    verbs["answer"].add_argument("studies", type=Path)
    verbs["send"].add_argument("port", type=int)
    for name in ("store", "send"):
        verbs[name].add_argument("paths", type=Path, nargs="+")


def serve(associations: int) -> None:
    """Answer C-ECHOs; keep what C-STOREs bring in memory, undecoded."""
    kept = []

    def keep(event: Any) -> int:
        kept.append(event.request.DataSet)
        return 0x0000

    _serve_storage(keep, associations)
    report(stored=len(kept))


def receive(folder: Path) -> None:
    """Write what C-STOREs bring into files, undecoded."""

    def keep(event: Any) -> int:
        path = folder / f"{event.request.AffectedSOPInstanceUID}.dcm"
        path.write_bytes(event.encoded_dataset())
        return 0x0000

    _serve_storage(keep, 64)


def keep(folder: Path) -> None:
    """As ``receive``, with a line for each C-STORE."""

    def store(event: Any) -> int:
        uid = event.request.AffectedSOPInstanceUID
        (folder / f"{uid}.dcm").write_bytes(event.encoded_dataset())
        sys.stdout.write(f"stored {uid}\n")  # in one piece: there are other threads
        sys.stdout.flush()
        return 0x0000

    _serve_storage(store, 64)


def answer(studies: Path) -> None:
    """Answer C-FINDs with pydicom Datasets."""
    archive = Archive(studies)

    def find(event: Any) -> Any:
        for study in archive.matches(event.identifier):
            yield 0xFF00, study

    ae = AE("BENCH")
    ae.add_supported_context(MODEL)
    _serve(ae, [(evt.EVT_C_FIND, find)])


def echo(port: int, seconds: float, most: int) -> None:
    """C-ECHOs on one association."""
    association = _associate(port, VERIFICATION)
    report(**timed(lambda _: _check(association.send_c_echo()), seconds=seconds, most=most))
    association.release()


def store(port: int, seconds: float, most: int, paths: list[Path]) -> None:
    """C-STOREs of objects in memory, over and over, on one association."""
    objects = [pydicom.dcmread(path) for path in paths]
    association = _associate(port, objects[0].SOPClassUID, objects[0].file_meta.TransferSyntaxUID)
    result = timed(
        lambda number: _check(association.send_c_store(objects[number % len(objects)])), seconds=seconds, most=most
    )
    association.release()
    report(**result, stored=result["total"])


def send(port: int, paths: list[Path]) -> None:
    """C-STOREs of files on one association; what is measured begins after the first."""
    pairs = [(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in map(_head, paths)]
    ae = _entity()
    ae.dimse_timeout = PYNETDICOM_PATIENCE + max(path.stat().st_size for path in paths) / _SLOWEST
    for sop_class, transfer_syntax in dict.fromkeys(pairs):
        ae.add_requested_context(sop_class, transfer_syntax)
    association = _request(ae, port)
    _check(association.send_c_store(pydicom.dcmread(paths[0])))
    rest = iter(paths[1:])

    def next_file(_: int) -> None:
        _check(association.send_c_store(pydicom.dcmread(next(rest))))

    report(**timed(next_file, seconds=60, most=len(paths) - 1, warm_up=False))
    association.release()


def associations(port: int, seconds: float, most: int) -> None:
    """Connect, associate with one context, C-ECHO, release; again and again."""

    def whole_association(_: int) -> None:
        association = _associate(port, VERIFICATION)
        _check(association.send_c_echo())
        association.release()

    report(**timed(whole_association, seconds=seconds, most=most))


def _serve_storage(keep: Any, associations: int) -> None:
    ae = AE("BENCH")
    ae.maximum_associations = associations
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    ae.add_supported_context(VERIFICATION)
    _serve(ae, [(evt.EVT_C_STORE, keep)])


def _serve(ae: AE, handlers: list[Any]) -> None:
    allow_many_connections()
    ae.network_timeout = None
    server: Any = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[*handlers, (evt.EVT_CONN_OPEN, _set_no_delay)]
    )
    announce(server.socket.getsockname()[1])
    wait_for_end()
    server.shutdown()


def _entity() -> AE:
    ae = AE("SCU")
    ae.dimse_timeout = PYNETDICOM_PATIENCE
    return ae


def _associate(port: int, sop_class: str, *transfer_syntaxes: str) -> Association:
    ae = _entity()
    ae.add_requested_context(sop_class, *transfer_syntaxes)
    return _request(ae, port)


def _request(ae: AE, port: int) -> Association:
    association = ae.associate("127.0.0.1", port, evt_handlers=[(evt.EVT_CONN_OPEN, _set_no_delay)])
    if not association.is_established:
        raise SystemExit("no association")
    return association


def _head(path: Path) -> pydicom.FileDataset:
    return pydicom.dcmread(path, stop_before_pixels=True)


def _set_no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _check(status: Any) -> None:
    if not status or status.Status != 0:
        raise SystemExit(f"not stored or not answered: {status}")


if __name__ == "__main__":
    main()
