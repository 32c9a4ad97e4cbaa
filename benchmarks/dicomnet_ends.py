"""Programs: SCU and SCP on dicomnet's blocking face. Written against its public API alone."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import pydicom

import dicomnet
from benchmarks.program import announce, digest, load_arguments, report, timed, wait_for_end


def main() -> None:
    """Run one of the programs."""
    parser = argparse.ArgumentParser(prog="benchmarks.dicomnet_ends")
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
    """Answer C-ECHOs; keep what C-STOREs bring in memory."""
    kept: list[dicomnet.EncodedDataset] = []
    ae = dicomnet.AE(
        "BENCH",
        contexts=[dicomnet.Verification, *dicomnet.StorageClasses],
        max_associations=associations,
        max_associations_per_peer=associations,
    )

    @ae.on_c_store
    def keep(request: Any) -> dicomnet.Status:
        kept.append(request.dataset)
        return dicomnet.Status.SUCCESS

    with dicomnet.serve(ae, "127.0.0.1", 0) as server:
        announce(server.port)
        wait_for_end()
        cpu = time.process_time()
    report(stored=len(kept), digest=digest(bytes(data_set) for data_set in kept), cpu=cpu)


def echo(port: int, seconds: float, most: int) -> None:
    """C-ECHOs on one association."""
    with dicomnet.associate(_peer(port), calling_ae="SCU") as assoc:
        report(**timed(lambda _: assoc.c_echo().raise_for_status(), seconds=seconds, most=most))


def store(port: int, seconds: float, most: int, paths: list[Path]) -> None:
    """C-STOREs of objects in memory, over and over, on one association."""
    objects = [dicomnet.EncodedDataset.from_dataset(pydicom.dcmread(path)) for path in paths]
    contexts = [(objects[0].sop_class_uid, [objects[0].transfer_syntax])]
    with dicomnet.associate(_peer(port), calling_ae="SCU", contexts=contexts) as assoc:
        result = timed(
            lambda number: assoc.c_store(objects[number % len(objects)]).raise_for_status(), seconds=seconds, most=most
        )
    sent = [bytes(data_set) for data_set in objects]
    total = result["total"]
    report(**result, stored=total, digest=digest(sent[number % len(sent)] for number in range(total)))


def associations(port: int, seconds: float, most: int) -> None:
    """Connect, associate with one context, C-ECHO, release; again and again."""

    def whole_association(_: int) -> None:
        with dicomnet.associate(_peer(port), calling_ae="SCU") as assoc:
            assoc.c_echo().raise_for_status()

    report(**timed(whole_association, seconds=seconds, most=most))


def _peer(port: int) -> str:
    return f"BENCH@127.0.0.1:{port}"


if __name__ == "__main__":
    main()
