"""``dicomnet move``: have a peer send instances to somebody, or to this computer (PS3.4 C.4.2)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.interrupt import Interrupt
from dicomnet.cli.options import (
    INTERRUPTED,
    USAGE,
    Command,
    Failure,
    ae_title_value,
    peer_value,
    requestor,
)
from dicomnet.cli.output import Output
from dicomnet.cli.querying import Asked, asks, tell_declined
from dicomnet.cli.retrieving import EVENTS, stores
from dicomnet.cli.settings import Settings
from dicomnet.models import query_class

if TYPE_CHECKING:
    from dicomnet import Association, Server
    from dicomnet.cli.retrieving import Retrieval
    from dicomnet.config import Peer
    from dicomnet.inbox import Inbox
    from dicomnet.retrieval.queries import Query

_SPOOL_SIZE: Final = 64 * 1024  # bytes of an instance that may wait in memory; larger ones are renamed into their place
_WINDOW: Final = 16  # instances that the peer may have on their way before the first is answered, if it asks for it

_EVENTS: Final = {
    "listening": {
        "ae": "the AE title that instances are to be sent to",
        "host": "the address, or *",
        "port": "the TCP port",
        "folder": "where instances go",
        "tls": "true if it listens with TLS",
    },
    **EVENTS,
}


@click.command("move", cls=Command, events=_EVENTS, short_help="Have a peer send instances to a destination (C-MOVE).")
@click.argument("peer", type=peer_value, metavar="PEER")
@click.argument("destination", type=ae_title_value, metavar="DESTINATION")
@asks("move")
@click.option(
    "--receive-here", metavar="FOLDER", type=click.Path(file_okay=False),
    help="Be the destination: listen as DESTINATION, and store below this folder: --receive-here inbox",
)  # fmt: skip
@click.option(
    "--host", metavar="H",
    help="With --receive-here, the address to listen on, '*' for all; if not given, the one that PEER is reached from:"
    " --host '*'",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535), default=11112, show_default=True, metavar="P",
    help="With --receive-here, the port to listen on, which PEER has to know: --port 104",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N",
    help="Cancel after N instances; those under way are still sent: --limit 10",
)  # fmt: skip
@stores
@requestor
def command(
    peer: Peer,
    destination: str,
    asked: Asked,
    receive_here: str | None,
    host: str | None,
    port: int,
    limit: int | None,
    layout: str | None,
    duplicates: str,
    calling: str,
    settings: Settings,
    output: Output,
) -> int:
    """Have PEER send what the keys name to the AE title DESTINATION.

    PEER has to know DESTINATION, with its address and port. With --receive-here that is this computer: what comes is
    stored, until PEER says that it is done. Ctrl-C cancels.

    \b
      dicomnet move PACS@192.0.2.7:11112 WORKSTATION7 -k StudyInstanceUID=1.2.3
      dicomnet move PACS@192.0.2.7:11112 ME --receive-here inbox --port 11113 -k StudyInstanceUID=1.2.3 --calling ME
      dicomnet move PACS@192.0.2.7:11112 ARCHIVE2 -k StudyInstanceUID=1.2.3 --json | jq 'select(.event == "failed")'
    """
    from dicomnet.cli.associating import associated
    from dicomnet.cli.retrieving import Retrieval, make_inbox

    query = asked.retrieve_query("C-MOVE")
    inbox = None if receive_here is None else make_inbox(receive_here, layout, duplicates)
    options: dict[str, Any] = {
        "contexts": [query_class(query.model, "move")],
        "extended": asked.extended("move"),
    }
    retrieval = Retrieval(peer, "C-MOVE", output, inbox, query.identifier)
    with Interrupt("interrupted; cancelling (again: at once)", at_once=True) as interrupt:
        with contextlib.ExitStack() as stack:
            server = None
            if inbox is not None:
                server = stack.enter_context(_receiver(peer, destination, host, port, inbox, retrieval, settings))
                _tell(server, host, destination, inbox, settings, output)
            with associated(peer, calling, settings, interrupt, **options) as association:
                tell_declined(association, "move", asked, output)
                response = _move(association, query, destination, retrieval, limit, interrupt)
                association.release()
        # The receiver has ended, too: what was under way is stored.
        _explain_unknown(retrieval, response, server, destination)
        code = retrieval.finish(response, interrupted=interrupt.is_set())
    return INTERRUPTED if interrupt.is_set() else code


def _move(
    association: Association,
    query: Query,
    destination: str,
    retrieval: Retrieval,
    limit: int | None,
    interrupt: Interrupt,
) -> Any:
    """Ask, and tell how far it is; returns the final response."""
    from dicomnet import NoAcceptedContext
    from dicomnet.cli.querying import not_accepted
    from dicomnet.cli.retrieving import run

    try:
        results = association.c_move(query.identifier, destination=destination, model=query.model)
    except NoAcceptedContext:
        association.release()
        raise not_accepted(association.peer, query.model, "C-MOVE") from None
    with retrieval.shown(), interrupt.calling(results.cancel):
        run(results, retrieval, lambda step: step.completed + step.warning, limit, query)
    return results.response


def _explain_unknown(retrieval: Retrieval, response: Any, server: Server | None, destination: str) -> None:
    """A801: what the peer has to be told."""
    from dicomnet import Status

    if retrieval.failure is None or response is None or response.status != Status.MOVE_DESTINATION_UNKNOWN:
        return
    address = "its address and port"
    if server is not None:
        address = f"this computer's address{_address(server.host)} and port {server.port}"
    text = f"{retrieval.failure.message}; it has to know the AE title {destination} with {address}: add it there"
    retrieval.failure = Failure(text, retrieval.failure.exit_code)


def _address(host: str) -> str:
    return "" if host in ("", "*", "0.0.0.0", "::") else f" ({host})"


# --- the receiver ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _receiver(
    peer: Peer, title: str, host: str | None, port: int, inbox: Inbox, retrieval: Retrieval, settings: Settings
) -> Iterator[Server]:
    """A storage SCP; at the end of the block what is under way may finish."""
    from dicomnet import AE, Limits, StorageClasses, Verification, serve

    ae = AE(
        title,
        contexts=[Verification, *StorageClasses],
        require_called=True,
        async_ops=(_WINDOW, 1),
        spool_folder=inbox.spool_folder,
        timeouts=settings.timeouts(),
        limits=Limits(spool_size=_SPOOL_SIZE),
    )
    ae.on_c_store(lambda request: retrieval.keep(request.dataset))
    tls = settings.server_tls() if settings.tls_cert is not None else None
    address = host or _own_address(peer)
    try:
        server = serve(ae, address, port, tls=tls)
    except OSError as error:
        raise Failure(
            f"cannot listen on {address} port {port}: {error.strerror or error};"
            " choose an address of this computer with --host, or another port with --port",
            USAGE,
        ) from error
    with server:
        yield server


def _own_address(peer: Peer) -> str:
    """The address of this computer that is used towards ``peer``; nothing is sent to find out."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            own: str = probe.getsockname()[0]
            return own
    except OSError:  # the association will say what is wrong
        return "*"


def _tell(server: Server, host: str | None, title: str, inbox: Inbox, settings: Settings, output: Output) -> None:
    address = "*" if host == "*" else f"[{server.host}]" if ":" in server.host else server.host
    tls = settings.tls_cert is not None
    how = " with TLS" if tls else " without TLS, which needs --tls-cert and --tls-key," if settings.wants_tls else ""
    output.detail(
        "listening",
        f"listening as {title}@{address}:{server.port}{how}, storing below {inbox.folder}".replace(",,", ","),
        tls=tls,
        ae=title,
        host=host if host == "*" else server.host,
        port=server.port,
        folder=inbox.folder,
    )
