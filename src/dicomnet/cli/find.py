"""``dicomnet find``: what a peer has, or what is scheduled there (PS3.4 C.4.1, K, CC)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.interrupt import Interrupt
from dicomnet.cli.options import INTERRUPTED, Command, peer_value, requestor
from dicomnet.cli.output import Output
from dicomnet.cli.querying import Asked, asks
from dicomnet.cli.settings import Settings
from dicomnet.models import query_class

if TYPE_CHECKING:
    from dicomnet import Association
    from dicomnet.config import Peer
    from dicomnet.retrieval.paths import Path
    from dicomnet.retrieval.queries import Query


_EVENTS: Final = {
    "match": {
        "number": "of the match, from 1",
        "dataset": "the match in the DICOM JSON model (PS3.18 F)",
    },
    "summary": {
        "matches": "how many came",
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
      dicomnet find PACS@192.0.2.7:11112 -k StudyDate=today --json | jq -r '.dataset["0020000D"].Value[0]'
    """
    from dicomnet.cli.associating import associated

    output.json = output.json or how == "json"
    query = asked.find_query(_columns(columns))
    uid = query_class(query.model, "find")
    with Interrupt("interrupted; cancelling (again: at once)", at_once=True) as interrupt:
        options: dict[str, Any] = {"contexts": [uid], "extended": asked.extended("find", fuzzy=fuzzy)}
        with associated(peer, calling, settings, interrupt, **options) as association:
            _find(association, query, limit, how, interrupt, output)
    return INTERRUPTED if interrupt.is_set() else 0


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
) -> None:
    """Ask and show."""
    from dicomnet import NoAcceptedContext, StatusError
    from dicomnet.cli.matches import matches
    from dicomnet.cli.querying import not_accepted, refused

    started, count, limited, failure = time.monotonic(), 0, False, None
    try:
        results = association.c_find(query.identifier, model=query.model)
    except NoAcceptedContext:
        association.release()
        raise not_accepted(association.peer, query.model, "C-FIND") from None
    with matches(query, output, how) as shown, interrupt.calling(results.cancel):
        try:
            for match in results:
                if interrupt.is_set():
                    continue  # to the final status, which the peer has been asked for
                shown.add(match)
                count += 1
                limited = count == limit
                if limited or output.gone:
                    results.close()
                    break
        except StatusError as error:
            failure = refused(error, association.peer, "C-FIND", query)
    _summarise(count, time.monotonic() - started, limited, interrupt.is_set(), output)
    if failure is not None and not interrupt.is_set():
        association.release()
        raise failure


def _summarise(count: int, seconds: float, limited: bool, interrupted: bool, output: Output) -> None:
    text = f"{count} match{'es' * (count != 1)} in {seconds:.2f} s"
    if limited:
        text += f"; cancelled at --limit {count}, there may be more"
    if interrupted:
        text += "; interrupted, there may be more"
    output.event("summary", matches=count, seconds=round(seconds, 3), limited=limited, interrupted=interrupted)
    if not (output.json or output.quiet):
        output.problem(text)
