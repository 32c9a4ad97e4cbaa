"""``dicomnet find``: what a peer has, or what is scheduled there (PS3.4 C.4.1, K, CC)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.interrupt import Interrupt
from dicomnet.cli.options import INTERRUPTED, PEER_FAILED, Command, peer_value, requestor
from dicomnet.cli.output import Output
from dicomnet.cli.querying import Asked, asks, tell_declined
from dicomnet.cli.settings import Settings
from dicomnet.models import query_class

if TYPE_CHECKING:
    from dicomnet import Association, EncodedDataset
    from dicomnet.blocking import Results
    from dicomnet.config import Peer
    from dicomnet.retrieval.paths import Path
    from dicomnet.retrieval.queries import Query

_MOST_UNREADABLE: Final = 10  # that are told of one by one
_EVENTS: Final = {
    "match": {
        "number": "of the match, from 1",
        "dataset": "the match in the DICOM JSON model (PS3.18 F)",
    },
    "unreadable": {
        "number": "of the match, from 1",
        "reason": "why it is no data set",
    },
    "summary": {
        "matches": "how many came",
        "unreadable": "how many of them were no data sets",
        "unsupported": "true if the peer said that it did not look at all of the keys",
        "seconds": "from the request to the end",
        "limited": "true if --limit ended it, so that there may be more",
        "interrupted": "true if a signal ended it",
    },
}


@click.command("find", cls=Command, events=_EVENTS, short_help="Ask a peer what it has, or what is scheduled (C-FIND).")
@click.argument("peer", type=peer_value, metavar="PEER")
@asks("find")
@click.option(
    "--columns", metavar="KEYS",
    help="What to return and show, with commas between them:"
    " --columns PatientID,StudyDate,ScheduledProcedureStepSequence[0].Modality",
)  # fmt: skip
@click.option(
    "--format", "how", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True,
    help="A table (in a pipe: values with tabs between them), CSV, or the same as --json: --format csv",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N",
    help="Cancel after N matches: --limit 100",
)  # fmt: skip
@click.option(
    "--fuzzy", is_flag=True, help="Ask the peer to match names by how they sound, if it can (PS3.4 C.2.2.2.1)."
)
@requestor
def command(
    peer: Peer,
    asked: Asked,
    columns: str | None,
    how: str,
    limit: int | None,
    fuzzy: bool,
    calling: str,
    settings: Settings,
    output: Output,
) -> int:
    """Ask PEER for what matches the keys, and show it as it comes.

    Wildcards are * and ?, ranges are written with a hyphen, lists with a backslash; dates may also be today and
    yesterday. If no key is there to be returned, those are that are usual at this level. On a terminal matches make a
    table, in a pipe lines with tabs. Ctrl-C cancels.

    \b
      dicomnet find PACS@192.0.2.7:11112 -k PatientName=DOE^* -k StudyDate=20240101-
      dicomnet find PACS@192.0.2.7:11112 -k StudyInstanceUID=1.2.3 --level SERIES --format csv
      dicomnet find RIS@192.0.2.7 --model worklist -k 'ScheduledProcedureStepSequence[0].Modality=CT'
      dicomnet find PACS@192.0.2.7:11112 -k StudyDate=today --columns PatientID,AccessionNumber --limit 10
      dicomnet find PACS@192.0.2.7:11112 -k StudyDate=today --json | jq -r '.dataset["0020000D"].Value[0] // empty'
    """
    from dicomnet.cli.associating import associated

    output.json = output.json or how == "json"
    query = asked.find_query(_columns(columns))
    uid = query_class(query.model, "find")
    with Interrupt("interrupted; cancelling (again: at once)", at_once=True) as interrupt:
        options: dict[str, Any] = {"contexts": [uid], "extended": asked.extended("find", fuzzy=fuzzy)}
        with associated(peer, calling, settings, interrupt, **options) as association:
            tell_declined(association, "find", asked, output, fuzzy=fuzzy)
            unreadable = _find(association, query, limit, how, interrupt, output)
    return INTERRUPTED if interrupt.is_set() else PEER_FAILED if unreadable else 0


def _columns(text: str | None) -> list[Path]:
    from dicomnet.retrieval.paths import parse

    columns, rest = [], text or ""
    while rest.strip():
        try:
            path, rest = parse(rest.lstrip(", "))
        except ValueError as error:
            raise click.UsageError(f"--columns: {error}") from error
        if rest.strip() and not rest.lstrip().startswith(","):
            raise click.UsageError(f"--columns: {rest!r} follows {path}; write a comma between them")
        columns.append(path)
    return columns


def _find(
    association: Association, query: Query, limit: int | None, how: str, interrupt: Interrupt, output: Output
) -> int:
    """Ask and show; returns how many matches could not be read."""
    from dicomnet import NoAcceptedContext, StatusError
    from dicomnet.cli.querying import not_accepted, refused

    started, failure = time.monotonic(), None
    try:
        results = association.c_find(query.identifier, model=query.model, encoded=True)
    except NoAcceptedContext:
        association.release()
        raise not_accepted(association.peer, query.model, "C-FIND") from None
    came = _Came()
    try:
        _show(results, query, limit, how, interrupt, output, came)
    except StatusError as error:
        failure = refused(error, association.peer, "C-FIND", query)
    _summarise(came, time.monotonic() - started, results.unsupported, interrupt.is_set(), output)
    if failure is not None and not interrupt.is_set():
        association.release()
        raise failure
    return came.unreadable


@dataclass(slots=True)
class _Came:
    """How many matches there were; ``limited``: the limit ended it."""

    count: int = 0
    unreadable: int = 0
    limited: bool = False


def _show(
    results: Results[EncodedDataset], query: Query, limit: int | None, how: str, interrupt: Interrupt, output: Output,
    came: _Came,
) -> None:  # fmt: skip
    from dicomnet import InvalidDataset
    from dicomnet.cli.matches import matches

    with matches(query, output, how) as shown, interrupt.calling(results.cancel):
        for match in results:
            if interrupt.is_set():
                continue  # to the final status, which the peer has been asked for
            came.count += 1
            try:
                shown.add(match)
            except InvalidDataset as error:
                came.unreadable += 1
                _tell_unreadable(came, error, output)
            came.limited = came.count == limit
            if came.limited or output.gone:
                results.close()
                break


def _tell_unreadable(came: _Came, error: Exception, output: Output) -> None:
    output.event("unreadable", number=came.count, reason=str(error))
    if not output.json and came.unreadable <= _MOST_UNREADABLE:
        output.problem(f"match {came.count} cannot be shown: {error}")


def _summarise(came: _Came, seconds: float, unsupported: bool, interrupted: bool, output: Output) -> None:
    text = f"{came.count} match{'es' * (came.count != 1)} in {seconds:.2f} s"
    if came.unreadable:
        text += f"; {came.unreadable} of them could not be read"
    if came.limited:
        text += f"; cancelled at --limit {came.count}, there may be more"
    if interrupted:
        text += "; interrupted, there may be more"
    if output.gone and not came.limited:
        text += "; nobody reads any more, there may be more"
    if unsupported:
        text += "; the peer does not support all of these keys, so that it may have ignored some"
    output.event(
        "summary", matches=came.count, unreadable=came.unreadable, unsupported=unsupported, seconds=round(seconds, 3),
        limited=came.limited, interrupted=interrupted,
    )  # fmt: skip
    if not (output.json or output.quiet):
        output.problem(text)
