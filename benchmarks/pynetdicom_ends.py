"""Programs: SCU and SCP on pynetdicom, as its documentation shows them, but for one thing: they set ``TCP_NODELAY``.

pynetdicom itself does not, and against its own kind it then stores 20 files a second: that would be no comparison.

Version 3.0.4 now and then loses a response: its reactor's thread takes it from whoever waits for it. An SCU here gives
up after seconds, not after pynetdicom's half a minute, and the round is begun anew.
"""

from __future__ import annotations

import argparse
import socket
import time
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.association import Association

from benchmarks.canned import VERIFICATION
from benchmarks.program import PYNETDICOM_PATIENCE, announce, load_arguments, report, timed, wait_for_end


def main() -> None:
    """Run one of the programs."""
    parser = argparse.ArgumentParser(prog="benchmarks.pynetdicom_ends")
    verbs = parser.add_subparsers(required=True)
    for program in (serve, echo, store, associations):
        verb = verbs.add_parser(program.__name__, help=program.__doc__)
        verb.set_defaults(program=program)
        if program is not serve:
            load_arguments(verb)
    verbs.choices["serve"].add_argument("--associations", type=int, default=8)
    verbs.choices["store"].add_argument("paths", type=Path, nargs="+")
    arguments = vars(parser.parse_args())
    arguments.pop("program")(**arguments)


def serve(associations: int) -> None:
    """Answer C-ECHOs; keep what C-STOREs bring in memory, undecoded."""
    kept = []

    def keep(event: Any) -> int:
        kept.append(event.request.DataSet)
        return 0x0000

    ae = AE("BENCH")
    ae.maximum_associations = associations
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(VERIFICATION)
    handlers: list[Any] = [(evt.EVT_C_STORE, keep), (evt.EVT_CONN_OPEN, _set_no_delay)]
    server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    announce(server.socket.getsockname()[1])
    wait_for_end()
    cpu = time.process_time()
    server.shutdown()
    report(stored=len(kept), cpu=cpu)


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


def associations(port: int, seconds: float, most: int) -> None:
    """Connect, associate with one context, C-ECHO, release; again and again."""

    def whole_association(_: int) -> None:
        association = _associate(port, VERIFICATION)
        _check(association.send_c_echo())
        association.release()

    report(**timed(whole_association, seconds=seconds, most=most))


def _associate(port: int, sop_class: str, *transfer_syntaxes: str) -> Association:
    ae = AE("SCU")
    ae.dimse_timeout = PYNETDICOM_PATIENCE
    ae.add_requested_context(sop_class, *transfer_syntaxes)
    association = ae.associate("127.0.0.1", port, evt_handlers=[(evt.EVT_CONN_OPEN, _set_no_delay)])
    if not association.is_established:
        raise SystemExit("no association")
    return association


def _set_no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _check(status: Any) -> None:
    if not status or status.Status != 0:
        raise SystemExit(f"not stored or not answered: {status}")


if __name__ == "__main__":
    main()
