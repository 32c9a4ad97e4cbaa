"""``dicomnet receive``: what peers send, as files below a folder (PS3.4 Annex B, as SCP)."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.interrupt import Interrupt
from dicomnet.cli.options import DEFAULT_AE, USAGE, Command, Failure, acceptor, ae_title_value
from dicomnet.cli.output import Output
from dicomnet.cli.settings import Settings

if TYPE_CHECKING:
    from dicomnet import AE, Limits, Server
    from dicomnet.config import Identity
    from dicomnet.inbox import Inbox

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
    "failed": {"path": "where it should have gone", "reason": "why it could not be stored"},
    "summary": {
        "stored": "instances",
        "failed": "instances that could not be stored",
        "bytes": "that were stored",
        "associations": "that have ended",
        "replaced": "instances, of those stored, that took the place of an older one",
        "same": "instances that were there already, not stored again",
        "beside": "instances, of those stored, that another one had the name of",
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
@acceptor
def command(
    folder: str,
    host: str,
    port: int,
    title: str,
    max_associations: int | None,
    workers: int,
    window: int,
    calling: tuple[str, ...],
    settings: Settings,
    output: Output,
) -> int:
    """Listen, and store what peers send below FOLDER.

    Each instance becomes FOLDER/patient ID/study UID/series UID/instance UID.dcm, byte for byte as it was sent; one
    that is there already is replaced. Values that are no good as file names are changed. Ctrl-C and SIGTERM end it,
    after the transfers under way.

    \b
      dicomnet receive inbox
      dicomnet receive inbox --host '*' --port 11112 --ae STORE
      dicomnet receive inbox --port 0 --json | jq -r 'select(.event == "stored").path'
    """
    from dicomnet import AE, StorageClasses, Verification
    from dicomnet.cli.reception import Reception

    inbox = _inbox(folder)
    reception = Reception(inbox, output, workers)
    ae = AE(
        title,
        contexts=[Verification, *StorageClasses],
        accept_calling=calling or None,
        max_associations=max_associations,
        max_associations_per_peer=max_associations,
        async_ops=(window, 1),
        spool_folder=inbox.spool_folder,
        timeouts=settings.timeouts(),
        limits=_limits(max_associations),
    )
    ae.on_c_store(quick=True)(reception.store)
    ae.on_close(quick=True)(reception.count_association)
    if (identity := settings.identity()) is not None:
        _require(ae, identity)
    with Interrupt("ending; transfers under way may finish (again: at once)") as interrupt:
        server = _serve(ae, host, port, settings, workers)
        _tell(server, host, title, folder, output)
        # What is there now stays to the end: nothing that the garbage collector need look at, then least of all.
        gc.freeze()
        while not interrupt.wait():
            pass
        server.close()
        reception.summarise()
    return 0


def _limits(max_associations: int | None) -> Limits:
    """What does not come with one read or two goes to its file while it comes, not to memory first."""
    from dicomnet import Limits

    limits = Limits(spool_size=_SPOOL_SIZE)
    return replace(limits, associations_per_address=max_associations) if max_associations else limits


def _inbox(folder: str) -> Inbox:
    from dicomnet.inbox import Inbox

    try:
        return Inbox(folder)
    except OSError as error:
        raise Failure(f"cannot store into {folder}: {error.strerror}; choose another FOLDER", USAGE) from error


def _serve(ae: AE, host: str, port: int, settings: Settings, workers: int) -> Server:
    from dicomnet import serve

    try:
        return serve(ae, host, port, tls=settings.server_tls(), workers=workers)
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
