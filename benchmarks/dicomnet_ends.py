"""Programs: SCU and SCP on dicomnet's blocking face. Written against its public API alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pydicom

import dicomnet
from benchmarks.program import (
    allow_many_connections,
    announce,
    digest,
    load_arguments,
    report,
    run_verb,
    timed,
    timed_by_threads,
    wait_for_end,
)
from benchmarks.studies import MODEL, Archive, digest_of_datasets

SECONDS_TO_LIVE = dicomnet.Timeouts(idle=None)  # an association here may say nothing for as long as it likes


def main() -> None:
    """Run one of the programs."""
    run_verb("dicomnet_ends", serve, echo, store, associations, discard, answer, find, options=_options)


def _options(verbs: Any) -> None:
    load_arguments(*(verbs[name] for name in ("echo", "store", "associations")))
    for name in ("serve", "discard"):
        verbs[name].add_argument("--associations", type=int, default=64)
    for name in ("serve", "echo"):
        verbs[name].add_argument("--window", type=int, default=1)
    verbs["store"].add_argument("paths", type=Path, nargs="+")
    verbs["discard"].add_argument("folder", type=Path)
    verbs["answer"].add_argument("studies", type=Path)
    verbs["find"].add_argument("port", type=int)


def entity(associations: int, window: int = 1, **options: Any) -> dicomnet.AE:
    """An application entity that supports all storage SOP classes and lets so many in."""
    allow_many_connections()
    return dicomnet.AE(
        "BENCH",
        contexts=[dicomnet.Verification, *dicomnet.StorageClasses],
        max_associations=associations,
        max_associations_per_peer=associations,
        async_ops=(window, window),
        timeouts=SECONDS_TO_LIVE,
        limits=dicomnet.Limits(associations_per_address=associations),
        **options,
    )


def serve(associations: int, window: int) -> None:
    """Answer C-ECHOs; keep what C-STOREs bring in memory."""
    kept: list[dicomnet.EncodedDataset] = []
    ae = entity(associations, window)

    @ae.on_c_store
    def keep(request: Any) -> dicomnet.Status:
        kept.append(request.dataset)
        return dicomnet.Status.SUCCESS

    with dicomnet.serve(ae, "127.0.0.1", 0) as server:
        announce(server.port)
        wait_for_end()
    report(stored=len(kept), digest=digest(bytes(data_set) for data_set in kept))


def discard(associations: int, folder: Path) -> None:
    """Take data sets of any size, count them and their bytes, and keep none; they wait in `folder` meanwhile."""
    sizes: list[int] = []
    ae = entity(associations, spool_folder=folder)

    @ae.on_c_store
    def count(request: Any) -> dicomnet.Status:
        sizes.append(request.dataset.size)
        return dicomnet.Status.SUCCESS

    with dicomnet.serve(ae, "127.0.0.1", 0) as server:
        announce(server.port)
        wait_for_end()
    report(stored=len(sizes), digest=str(sum(sizes)))


def echo(port: int, seconds: float, most: int, window: int) -> None:
    """C-ECHOs on one association: one after the other, or as many at once as the window allows."""
    with dicomnet.associate(_peer(port), calling_ae="SCU", async_ops=(window, 1)) as assoc:
        if window == 1:
            report(**timed(lambda _: assoc.c_echo().raise_for_status(), seconds=seconds, most=most))
        elif assoc.async_ops[0] != window:
            raise SystemExit(f"the window is {assoc.async_ops[0]} instead of {window}")
        else:
            report(**timed_by_threads(lambda: assoc.c_echo().raise_for_status(), window, seconds=seconds))


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


def answer(studies: Path) -> None:
    """Answer C-FINDs with pydicom Datasets."""
    archive = Archive(studies)
    ae = dicomnet.AE("BENCH", contexts=[MODEL])

    @ae.on_c_find
    def matches(request: Any) -> Any:
        yield from archive.matches(request.dataset.decode())

    with dicomnet.serve(ae, "127.0.0.1", 0) as server:
        announce(server.port)
        wait_for_end()


def find(port: int) -> None:
    """One C-FIND for all studies, to pydicom Datasets, all of which are looked at."""
    query = pydicom.Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", ""
    with dicomnet.associate(_peer(port), calling_ae="SCU", contexts=[MODEL]) as assoc:
        started, cpu = time.perf_counter(), time.process_time()
        found = list(assoc.c_find(query, model="study"))
        elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    report(count=len(found), elapsed=elapsed, cpu=cpu, answers=digest_of_datasets(found))


def _peer(port: int) -> str:
    return f"BENCH@127.0.0.1:{port}"


if __name__ == "__main__":
    main()
