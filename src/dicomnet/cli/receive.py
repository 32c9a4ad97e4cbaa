"""``dicomnet receive``: what peers send, as files below a folder (PS3.4 Annex B, as SCP)."""

from __future__ import annotations

import contextlib
import gc
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.interrupt import Interrupt
from dicomnet.cli.options import DEFAULT_AE, USAGE, Command, Failure, acceptor, ae_title_value
from dicomnet.cli.output import Output, show_status
from dicomnet.cli.settings import Settings
from dicomnet.cli.storing import Execution, Storing, network_value, storing as storing_options

if TYPE_CHECKING:
    import ssl

    from dicomnet import AE, Limits, Server
    from dicomnet.cli.execution import Completion
    from dicomnet.cli.reception import Reception
    from dicomnet.config import Identity
    from dicomnet.dataset import Path

_SPOOL_SIZE: Final = 64 * 1024  # bytes of what may wait in memory, of one association


_EVENTS: Final = {
    "listening": {
        "ae": "our AE title",
        "host": "the address, or *",
        "port": "the TCP port",
        "folder": "where instances go",
    },
    "stored": {
        "path": "below the folder",
        "what": "stored; replaced: an older one went; same: it was there already; beside: another one has its name",
        "size": "of the data set, in bytes",
        "sop_class_uid": "SOP class",
        "sop_instance_uid": "SOP instance",
        "transfer_syntax": "UID of its transfer syntax",
        "calling": "AE title of who sent it",
    },
    "failed": {
        "path": "where it should have gone; empty if that was not known yet",
        "reason": "why it could not be stored",
    },
    "exec": {
        "folder": "of the study, below the folder",
        "study_instance_uid": "the study",
        "count": "instances that came since it was complete the last time",
        "outcome": "done, failed, too long, stopped (with dicomnet), not run",
        "exit_code": "of the command, or null",
        "seconds": "that it ran",
        "said": "the end of its output and errors",
    },
    "summary": {
        "stored": "instances",
        "failed": "instances that could not be stored",
        "bytes": "that were stored",
        "bytes_per_second": "from the first instance to the last, or null",
        "studies": "that instances came of, or null where workers cannot tell",
        "associations": "that have ended",
        "replaced": "instances, of those stored, that took the place of an older one",
        "same": "instances that were there already, not stored again",
        "beside": "instances, of those stored, that another one had the name of",
        "no_room": "instances, of those failed, that the disk had no room for",
        "refused": "connections and associations that were not let in",
        "refused_why": "how many of them by network, limit, calling (AE title), identity, other",
    },
}


@click.command("receive", cls=Command, events=_EVENTS, short_help="Store what peers send into a folder.")
@click.argument("folder", metavar="FOLDER", type=click.Path(file_okay=False))
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="H",
    help="The address to listen on; '*' is all addresses, so that other computers can send: --host '*'",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535), default=11112, show_default=True, metavar="P",
    help="The port to listen on; 0 takes a free one and tells it: --port 104",
)  # fmt: skip
@click.option(
    "--ae", "title", type=ae_title_value, default=DEFAULT_AE, show_default=True, metavar="TITLE",
    help="Our AE title. Callers may use another one all the same: --ae STORE",
)  # fmt: skip
@click.option(
    "--max-associations", type=click.IntRange(min=1), metavar="N",
    help="How many may be open at once; more are told to come later: --max-associations 10",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, metavar="N",
    help="How many processes to receive in: for several senders at once, where one core is not enough: --workers 4",
)  # fmt: skip
@click.option(
    "--window", type=click.IntRange(1, 1000), default=16, show_default=True, metavar="N",
    help="How many instances a sender that asks for it may have on their way before the first is answered: --window 1",
)  # fmt: skip
@click.option(
    "--allow-from", type=network_value, metavar="NETWORK", multiple=True,
    help="Let only these addresses connect, others are closed unread; can be repeated: --allow-from 192.0.2.0/24",
)  # fmt: skip
@storing_options
@acceptor
def command(
    folder: str, settings: Settings, output: Output, storing: Storing, execution: Execution, **acceptance: Any
) -> int:
    """Listen, and store what peers send below FOLDER.

    Each instance becomes FOLDER/patient ID/study UID/series UID/instance UID.dcm, or what --layout says, byte for byte
    as it was sent. Values that are no good as file names are changed. Ctrl-C and SIGTERM end it, after the transfers
    under way.

    \b
      dicomnet receive inbox
      dicomnet receive inbox --host '*' --port 11112 --ae STORE
      dicomnet receive inbox --duplicates keep --exec 'import-study {folder}'
      dicomnet receive inbox --port 0 --json | jq -r 'select(.event == "stored").path'
    """
    from dicomnet.cli.execution import Completion, channel_for
    from dicomnet.cli.reception import Reception

    workers, host = acceptance["workers"], acceptance["host"]
    tls = settings.server_tls()  # before a folder is made: what is wrong with it is a matter of usage
    inbox = storing.inbox(folder, workers)
    channel = channel_for(workers, execution)
    reception = Reception(inbox, output, workers, channel, follow=execution.command is not None)
    completion = None if channel is None else Completion(channel, execution, inbox, output)
    ae = _application_entity(inbox.spool_folder, reception, settings, **acceptance)
    try:
        inbox.check_room()
    except OSError as error:
        output.problem(f"instances will be refused: {error.strerror}; see --keep-free")
    with Interrupt("ending; transfers under way may finish (again: at once)") as interrupt:
        live = not (output.json or output.quiet) and sys.stderr.isatty()
        if live:
            show_status("")  # workers, too, have to know that there is one
        server = _serve(ae, host, acceptance["port"], tls, workers)
        if completion is not None:
            completion.start()
        _tell(server, host, ae.title, folder, output)
        # What is there now stays to the end: nothing that the garbage collector need look at, then least of all.
        gc.freeze()
        _run(interrupt, server, reception, completion, live=live)
    return 0


def _run(
    interrupt: Interrupt, server: Server, reception: Reception, completion: Completion | None, *, live: bool
) -> None:
    """Until a signal, then all in order. A second one, whenever it comes, cuts that short, but what it cuts is told."""
    from dicomnet.cli.live import Live

    studies = None if completion is None else completion.studies
    try:
        with Live(lambda: reception.state(studies, server.associations)) if live else contextlib.nullcontext():
            while not interrupt.wait():
                pass
        server.close()
        if completion is not None:
            completion.close()
    finally:
        if completion is not None:
            completion.stop()
        reception.summarise(studies)


def _application_entity(
    spool_folder: Path,
    reception: Reception,
    settings: Settings,
    *,
    title: str,
    calling: tuple[str, ...],
    allow_from: tuple[str, ...],
    max_associations: int | None,
    window: int,
    **_listening: Any,
) -> AE:
    from dicomnet import AE, StorageClasses, Verification

    ae = AE(
        title,
        contexts=[Verification, *StorageClasses],
        accept_calling=calling or None,
        accept_from=allow_from or None,
        max_associations=max_associations,
        max_associations_per_peer=max_associations,
        async_ops=(window, 1),
        spool_folder=spool_folder,
        timeouts=settings.timeouts(),
        limits=_limits(max_associations),
    )
    ae.on_c_store(quick=True)(reception.store)
    ae.on_close(quick=True)(reception.end)
    ae.on_refusal(reception.refuse)
    if (identity := settings.identity()) is not None:
        _require(ae, identity)
    return ae


def _limits(max_associations: int | None) -> Limits:
    """What does not come with one read or two goes to its file while it comes, not to memory first."""
    from dicomnet import Limits

    limits = Limits(spool_size=_SPOOL_SIZE)
    return replace(limits, associations_per_address=max_associations) if max_associations else limits


def _serve(ae: AE, host: str, port: int, tls: ssl.SSLContext | None, workers: int) -> Server:
    from dicomnet import serve

    try:
        return serve(ae, host, port, tls=tls, workers=workers)
    except OSError as error:
        raise Failure(
            f"cannot listen on {host} port {port}: {error.strerror or error};"
            " choose an address of this computer with --host, or another port with --port",
            USAGE,
        ) from error


def _tell(server: Server, host: str, title: str, folder: str, output: Output) -> None:
    address = "*" if host == "*" else f"[{server.host}]" if ":" in server.host else server.host
    output.event(
        "listening",
        f"listening as {title}@{address}:{server.port}, storing below {folder}",
        ae=title,
        host=host if host == "*" else server.host,
        port=server.port,
        folder=folder,
    )


def _require(ae: AE, expected: Identity) -> None:
    """Let in only who presents this identity."""
    import hmac

    from dicomnet import Reject

    @ae.on_association
    def check(association: Any) -> None:
        given = association.identity
        if given is None or given.type != expected.type:
            raise Reject()
        right = hmac.compare_digest(given.primary, expected.primary)
        if not (hmac.compare_digest(given.secondary, expected.secondary) and right):
            raise Reject()
