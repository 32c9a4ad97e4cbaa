"""``dicomnet get``: instances from a peer into a folder, on the association that asks for them (PS3.4 C.4.3)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.interrupt import Interrupt
from dicomnet.cli.options import HALF_WAY, INTERRUPTED, Command, Failure, peer_value, requestor
from dicomnet.cli.output import Output
from dicomnet.cli.querying import Asked, asks, tell_declined
from dicomnet.cli.retrieving import EVENTS, stores
from dicomnet.cli.settings import Settings
from dicomnet.models import query_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

    from dicomnet import Association
    from dicomnet.cli.retrieving import Retrieval
    from dicomnet.config import Peer
    from dicomnet.retrieval.contexts import Find
    from dicomnet.retrieval.queries import Query

_SPOOL_SIZE: Final = 64 * 1024  # bytes of an instance that may wait in memory; larger ones are renamed into their place

_MOST_MATCHES: Final = 10_000  # to one question for SOP classes: more instances do not tell more


@click.command("get", cls=Command, events=EVENTS, short_help="Retrieve instances into a folder (C-GET).")
@click.argument("peer", type=peer_value, metavar="PEER")
@click.argument("folder", metavar="FOLDER", type=click.Path(file_okay=False))
@asks("get")
@click.option(
    "--sop-class", multiple=True, metavar="UID",
    help="A storage SOP class that may come, by its UID or keyword; can be repeated. If not given, the peer is asked"
    " which ones there are; if it does not tell, common ones: --sop-class CTImageStorage",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N",
    help="Cancel after N instances; those under way still come: --limit 10",
)  # fmt: skip
@stores
@requestor
def command(
    peer: Peer,
    folder: str,
    asked: Asked,
    sop_class: tuple[str, ...],
    limit: int | None,
    layout: str | None,
    duplicates: str,
    calling: str,
    settings: Settings,
    output: Output,
) -> int:
    """Retrieve from PEER what the keys name, into FOLDER.

    What is wanted is named by UIDs, which dicomnet find finds out. All comes on the association that asks for it, so
    that PEER need not know how to reach us. Instances are stored byte for byte as they come. Ctrl-C cancels.

    \b
      dicomnet get PACS@192.0.2.7:11112 inbox -k StudyInstanceUID=1.2.3
      dicomnet get PACS@192.0.2.7:11112 inbox -k StudyInstanceUID=1.2.3 -k SeriesInstanceUID=1.2.3.1 --duplicates keep
      dicomnet get PACS@192.0.2.7:11112 inbox --model patient --level PATIENT -k PatientID=4711
      dicomnet get PACS@192.0.2.7:11112 inbox -k StudyInstanceUID=1.2.3 --json | jq 'select(.event == "failed")'
    """
    from dicomnet import Limits
    from dicomnet.cli.associating import associated
    from dicomnet.cli.retrieving import Retrieval, make_inbox
    from dicomnet.retrieval.contexts import contexts

    query = asked.retrieve_query("C-GET")
    named = [_sop_class(text) for text in sop_class]
    inbox = make_inbox(folder, layout, duplicates)
    with Interrupt("interrupted; cancelling (again: at once)", at_once=True) as interrupt:
        classes = named or _classes(peer, query, calling, settings, interrupt, output)
        if interrupt.is_set():
            return INTERRUPTED
        options: dict[str, Any] = {
            "contexts": [query_class(query.model, "get"), *_checked(contexts, classes)],
            "extended": asked.extended("get"),
            "spool_folder": inbox.spool_folder,
            "limits": Limits(spool_size=_SPOOL_SIZE),
        }
        with associated(peer, calling, settings, interrupt, **options) as association:
            tell_declined(association, "get", asked, output)
            retrieval = Retrieval(peer, "C-GET", output, inbox, query.identifier)
            code = _get(association, query, retrieval, limit, interrupt)
    return INTERRUPTED if interrupt.is_set() else code


def _get(association: Association, query: Query, retrieval: Retrieval, limit: int | None, interrupt: Interrupt) -> int:
    """Retrieve and store; returns the exit code."""
    from dicomnet import NoAcceptedContext
    from dicomnet.cli.querying import not_accepted
    from dicomnet.cli.retrieving import run

    try:
        results = association.c_get(query.identifier, model=query.model)
    except NoAcceptedContext:
        association.release()
        raise not_accepted(association.peer, query.model, "C-GET") from None

    def keep(instance: Any) -> int:
        results.answer(retrieval.keep(instance))
        return retrieval.stored

    with retrieval.shown(), interrupt.calling(results.cancel):
        run(results, retrieval, keep, limit, query)
    association.release()
    return retrieval.finish(results.response, interrupted=interrupt.is_set())


def _sop_class(text: str) -> str:
    """A UID, or the keyword of one."""
    from pydicom.uid import UID_dictionary

    if text[:1].isdecimal():
        return text
    for uid, entry in UID_dictionary.items():
        if entry[4] == text:
            return uid
    raise click.UsageError(f"--sop-class: there is no SOP class {text!r}; write a UID or a keyword: CTImageStorage")


def _checked(contexts: Any, classes: Sequence[str]) -> Any:
    try:
        return contexts(classes)
    except ValueError as error:
        raise click.UsageError(f"--sop-class: {error}") from error


def _classes(
    peer: Peer, query: Query, calling: str, settings: Settings, interrupt: Interrupt, output: Output
) -> tuple[str, ...]:
    """The SOP classes that will come, if the peer tells; a peer that cannot be asked is no reason to give up."""
    from dicomnet import InvalidDataset, NoAcceptedContext, StatusError
    from dicomnet.cli.associating import associated
    from dicomnet.retrieval.contexts import classes_at, find_class

    uid = find_class(query.model)
    if uid is None or "StudyInstanceUID" not in query.identifier:
        return ()
    try:
        with associated(peer, calling, settings, interrupt, contexts=[uid]) as association:
            try:
                return classes_at(_asker(association, query.model, interrupt), query.identifier)
            except (NoAcceptedContext, StatusError, InvalidDataset):
                return ()
    except Failure as failure:
        if failure.exit_code != HALF_WAY:
            raise
        output.problem(f"asking for the SOP classes did not work: {failure.format_message()}; going on without")
        return ()


def _asker(association: Association, model: str, interrupt: Interrupt) -> Find:
    """What asks, and stops at a signal, or where there is no end of matches."""

    def find(identifier: Dataset) -> Iterator[Dataset]:
        if interrupt.is_set():
            return
        with association.c_find(identifier, model=model) as results, interrupt.calling(results.cancel):
            for match in itertools.islice(results, _MOST_MATCHES):
                if interrupt.is_set():
                    return
                yield match

    return find
