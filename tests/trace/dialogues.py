"""Associations as bytes, and what is seen of them: written down as dialogues, decoded by the decoder of the trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from dicomnet.dimse import command as c, messages
from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.dimse.status import Status
from dicomnet.trace.decoding import Decoder
from dicomnet.trace.exchanges import Seen, Watcher
from dicomnet.trace.records import Address, Opened, Record
from dicomnet.ul import pdu

CT, MR, FIND = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
BEGAN = 1_700_000_000.0  # seconds since the epoch
PATIENT = "SECRET^NAME"


@dataclass
class Dialogue:
    """What passes on one connection: each method lets one thing pass, ``after`` seconds after the one before."""

    connection: int = 1
    keep_datasets: int = 0
    time: float = BEGAN
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._decoder = Decoder(self.connection, keep_datasets=self.keep_datasets)
        ends = Address("192.0.2.1", 50000 + self.connection), Address("192.0.2.7", 11112)
        self.records.append(Opened(self.connection, self.time, *ends))

    def bytes(self, from_requestor: bool, data: bytes, after: float = 0.001) -> Dialogue:
        self.time += after
        self.records += self._decoder.feed(from_requestor, data, self.time)
        return self

    def pdu(self, from_requestor: bool, value: pdu.Pdu, after: float = 0.001) -> Dialogue:
        return self.bytes(from_requestor, pdu.encode(value), after)

    def associate(
        self, *, calling: str = "MODALITY", product: str = "TEST_1", refused: tuple[int, ...] = ()
    ) -> Dialogue:
        """CT on 1, MR on 3, queries on 5; ``refused``: IDs of contexts that are not accepted."""
        proposed = tuple(
            pdu.ProposedContext(number, uid, (EXPLICIT, IMPLICIT)) for number, uid in ((1, CT), (3, MR), (5, FIND))
        )
        user = pdu.UserInformation(16384, "1.2.3.4", product)
        self.pdu(True, pdu.AssociateRq("PACS", calling, proposed, user))
        answered = tuple(pdu.AnsweredContext(one.id, 3 if one.id in refused else 0, EXPLICIT) for one in proposed)
        return self.pdu(False, pdu.AssociateAc("PACS", calling, answered, user))

    def message(
        self, message: Request | Response, *, context: int = 1, data: bytes | None = None, after: float = 0.001
    ) -> Dialogue:
        pdvs = [pdu.Pdv(context, True, True, messages.encode(message))]
        if data is not None:
            pdvs.append(pdu.Pdv(context, False, True, data))
        return self.pdu(isinstance(message, Request), pdu.PDataTf(tuple(pdvs)), after)

    def store(
        self, number: int, status: int = 0, *, comment: str = "", waited: float = 0.001, answered: bool = True
    ) -> Dialogue:
        request = Request(CommandField.C_STORE, number, CT, f"1.2.3.{number}", has_dataset=True)
        self.message(request, data=dataset())
        if answered:
            response = Response(Status(status), command=CommandField.C_STORE, message_id=number, sop_class_uid=CT)
            response.error_comment = comment or None
            self.message(response, after=waited)
        return self

    def find(self, number: int, matches: int) -> Dialogue:
        request = Request(CommandField.C_FIND, number, FIND, has_dataset=True)
        self.message(request, context=5, data=dataset())
        for _ in range(matches):
            match = Response(Status.PENDING, command=CommandField.C_FIND, message_id=number, has_dataset=True)
            self.message(match, context=5, data=dataset())
        return self.message(Response(Status.SUCCESS, command=CommandField.C_FIND, message_id=number), context=5)

    def release(self) -> Dialogue:
        return self.pdu(True, pdu.ReleaseRq()).pdu(False, pdu.ReleaseRp()).close()

    def close(self, how: Literal["closed", "reset"] = "closed", *, from_requestor: bool | None = True) -> Dialogue:
        self.records += self._decoder.end(from_requestor, how, self.time)
        return self

    def seen(self) -> Iterator[Seen]:
        """What a watcher says of it."""
        yield from map(Watcher().see, self.records)


def dataset() -> bytes:
    """A data set of a patient, in Explicit VR Little Endian."""

    def element(tag: bytes, vr: bytes, value: bytes) -> bytes:
        return tag + vr + len(value).to_bytes(2, "little") + value

    name = PATIENT.encode() + b" " * (len(PATIENT) % 2)
    return element(b"\x10\x00\x10\x00", b"PN", name) + element(b"\x10\x00\x20\x00", b"LO", b"P1")


def hostile() -> Dialogue:
    """All texts that a peer can choose are markup and control sequences."""
    dialogue = Dialogue().associate(calling="<b>&\"'\x1b[31m", product="</svg><i>\x07")
    dialogue.store(1, 0xA700, comment="<script>alert(1)</script>\x1b[2J\n  context 9: accepted")
    elements = {
        c.COMMAND_FIELD: 1,
        c.MESSAGE_ID: 2,
        c.DATA_SET_TYPE: c.NO_DATA_SET,
        c.AFFECTED_SOP_CLASS_UID: "<u>\x1b",
    }
    dialogue.pdu(True, pdu.PDataTf((pdu.Pdv(1, True, True, c.encode(elements)),)))
    return dialogue.bytes(True, b"G<script>&\x1b[31m\r\n\r\n" * 2).close("reset")
