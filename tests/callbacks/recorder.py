"""A stage for ``DicomNet`` objects: everything that they call and are told is recorded, in one transcript.

``Scu`` requests an association as soon as it can; ``Scp`` accepts and answers what it is asked. Tests derive from them,
or drive them from their own thread and ``wait`` for what is told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from dicomnet.callbacks import DicomAssociate, DicomNet, NetError
from dicomnet.callbacks.recorder import Entry, Recorder
from dicomnet.config import Timeouts

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
MPPS = "1.2.840.10008.3.1.2.3.3"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
INSTANCE = "1.2.3.4"
CONTEXTS = {1: (VERIFICATION, IMPLICIT), 3: (CT, EXPLICIT), 5: (MPPS, EXPLICIT), 7: (STUDY_FIND, IMPLICIT)}

GIVEN_UP = 20.0  # seconds: a test that waits longer has found a hang
QUICK = 0.15  # seconds: a time limit that a test waits for


def quick(*names: str, **others: float | None) -> Timeouts:
    """Time limits of which the named ones pass soon."""
    return Timeouts(**{"closing": 0.5, **dict.fromkeys(names, QUICK), **others})


def eventually(holds: Callable[[], object], what: str) -> None:
    """For what has no event to wait for."""
    deadline = time.monotonic() + GIVEN_UP
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def proposal(contexts: dict[int, tuple[str, str]] | None = None) -> DicomAssociate:
    associate = DicomAssociate(True)
    associate.default()
    associate.called, associate.calling = "SCP", "SCU"
    for id, (abstract, transfer) in (contexts or CONTEXTS).items():
        associate.add_presentation_context(id, 0, abstract)
        associate.add_transfer(id, transfer)
    return associate


class Scu(DicomNet):
    """Requests ``request()`` when the connection is ready for it."""

    def request(self) -> DicomAssociate:
        return proposal()

    def on_connect(self, error: NetError) -> None:
        if not error and self.security == 0:
            self.send_associate_request(self.request())

    def on_secure_link_ready(self, error: NetError) -> None:
        if not error:
            self.send_associate_request(self.request())


class Scp(DicomNet):
    """Accepts every connection and every context, answers success to C-ECHO and C-STORE, and to a release."""

    make_client: Callable[[], DicomNet]  # given by the stage

    def on_accept(self, error: NetError) -> None:
        self.accept(self.make_client())

    def answer(self, associate: DicomAssociate) -> DicomAssociate:
        ids = map(associate.presentation_context_id, range(associate.presentation_context_count))
        return DicomAssociate.accepting(associate, list(map(associate.abstract, ids)))

    def on_receive_associate_request(self, associate: DicomAssociate) -> None:
        self.send_associate_accept(self.answer(associate))

    def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
        self.send_c_echo_response(pid, mid, cls, 0)

    def on_receive_c_store_request(
        self, pid: int, mid: int, cls: str, inst: str, prio: int, move_ae: str, move_message_id: int, ds: Any
    ) -> None:
        self.send_c_store_response(pid, mid, cls, inst, 0)

    def on_receive_release_request(self) -> None:
        self.send_release_response()


class Stage:
    """Makes recorded objects and waits for what they are told. They are "SCU", "listener" and "client" by default."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self._gates: list[Gate] = []

    def gate(self) -> Gate:
        gate = Gate()
        self._gates.append(gate)
        return gate

    def end(self) -> None:
        for gate in self._gates:
            gate.open()

    # --- the cast ---------------------------------------------------------------------------------------------------

    def listener(
        self, cls: type[DicomNet] = Scp, address: str = "", names: str = "listener client", **options: Any
    ) -> Any:
        """A listening object and its clients are of the class ``cls``."""
        listener = self.listening(cls, names, **options)
        listener.listen(address, 0, 5)
        return listener

    def listening(self, cls: type[DicomNet] = Scp, names: str = "listener client", **options: Any) -> Any:
        name, client_name = names.split()
        client_class = self.recorder.watch(cls, client_name)
        listener = self.recorder.watch(cls, name)(**options)
        client_options = {key: value for key, value in options.items() if key != "max_clients"}
        listener.make_client = lambda: client_class(**client_options)
        return listener

    def scu(self, cls: type[DicomNet] = Scu, name: str = "SCU", **options: Any) -> Any:
        return self.recorder.watch(cls, name)(**options)

    def connected(self, port: int, cls: type[DicomNet] = Scu, name: str = "SCU", **options: Any) -> Any:
        scu = self.scu(cls, name, **options)
        scu.connect("", 0, "127.0.0.1", port)
        return scu

    def associated(self, port: int, cls: type[DicomNet] = Scu, name: str = "SCU", **options: Any) -> Any:
        before = len(self.entries(name, "on_receive_associate_accept"))
        scu = self.connected(port, cls, name, **options)
        self.wait(name, "on_receive_associate_accept", before + 1)
        return scu

    def pair(self, scp: type[DicomNet] = Scp, scu: type[DicomNet] = Scu, **options: Any) -> tuple[Any, Any]:
        """An associated SCU and the client at the other end."""
        listener = self.listener(scp, **options)
        return self.associated(listener.host_port, scu, **options), listener.clients[0]

    # --- the transcript ---------------------------------------------------------------------------------------------

    def entries(self, who: str, name: str) -> list[Entry]:
        with self.recorder.changed:
            return [entry for entry in self.recorder.entries if (entry.who, entry.name) == (who, name)]

    def wait(self, who: str, name: str, count: int = 1) -> Any:
        """The arguments of ``who``'s ``count``-th ``name``, once it has come."""
        with self.recorder.changed:
            arrived = self.recorder.changed.wait_for(lambda: len(self.entries(who, name)) >= count, GIVEN_UP)
        assert arrived, f"{who} {name} number {count} did not come; there is:\n" + "\n".join(self.lines())
        return self.entries(who, name)[count - 1].arguments

    def lines(self, *whose: str, hide: tuple[str, ...] = ("on_send",)) -> list[str]:
        """The transcript: ``who name`` or ``who name(PDU type)``; calls are written ``who: name``."""
        with self.recorder.changed:
            entries = list(self.recorder.entries)
        return [line(entry) for entry in entries if (not whose or entry.who in whose) and entry.name not in hide]

    def told(self, who: str, *hide: str) -> list[str]:
        """What ``who`` was told, without what it called and without ``on_send``."""
        with self.recorder.changed:
            entries = list(self.recorder.entries)
        hidden = ("on_send", "on_before_send_command_set", *hide)
        return [
            line(entry).partition(" ")[2]
            for entry in entries
            if entry.who == who and not entry.is_call and entry.name not in hidden
        ]


def line(entry: Entry) -> str:
    detail = ""
    if entry.name == "on_receive":
        error, pdu_type = entry.arguments[:2]
        detail = f"({getattr(error or pdu_type, 'name', '?')})"
    elif entry.name in ("on_connect", "on_close", "on_secure_link_ready", "on_accept") and entry.arguments[0]:
        error = entry.arguments[0]
        detail = f"({getattr(error, 'name', type(error).__name__)})"
    return f"{entry.who}{':' if entry.is_call else ''} {entry.name}{detail}"


class Gate:
    """Lets a callback wait until the test has seen enough: ``pass_`` blocks until ``open``."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def pass_(self) -> None:
        self._reached.set()
        assert self._opened.wait(GIVEN_UP)

    def wait_until_reached(self) -> None:
        assert self._reached.wait(GIVEN_UP)

    def open(self) -> None:
        self._opened.set()
