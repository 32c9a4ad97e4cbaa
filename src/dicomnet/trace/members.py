"""What a record is as an object for programs: its members, and what they mean. ``jsonable`` makes them."""

from __future__ import annotations

from typing import Final

_OF_ALL: Final = {
    "connection": "its number, from 1",
    "time": "seconds since the epoch",
    "text": "the same in words",
}
_FROM: Final = {"from": '"requestor" or "acceptor"'}
MEMBERS: Final[dict[str, dict[str, str]]] = {
    "opened": {**_OF_ALL, "requestor": "its host and port", "acceptor": "its host and port"},
    "pdu": {
        **_OF_ALL,
        **_FROM,
        "type": "number of the PDU",
        "name": "of the PDU, such as A-ASSOCIATE-RQ",
        "length": "of all of it, in bytes",
        "value": "object: what it says; null for P-DATA-TF and for what cannot be read",
        "problem": "why it cannot be read, or what is wrong with it; else empty",
    },
    "message": {
        **_OF_ALL,
        **_FROM,
        "began": "when its first byte passed",
        "name": "of the message, such as C-STORE-RQ",
        "context_id": "of its presentation context",
        "abstract_syntax": "UID, empty if not known",
        "transfer_syntax": "UID, empty if not known",
        "pdus": "how many carried it",
        "command": "object: its command set, by keyword",
        "status": "number, of a response; else null",
        "meaning": "of the status, in words",
        "seconds": "from the request to this response; null if it is none",
        "dataset_size": "bytes, null if there is no data set",
        "dataset": "the data set in the DICOM JSON model (PS3.18 F); only with --phi",
    },
    "garbage": {**_OF_ALL, **_FROM, "reason": "why it is none", "data": "how it begins, as hexadecimal digits"},
    "fault": {**_OF_ALL, "rule": "as it was given", "what": "was done"},
    "closed": {
        **_OF_ALL,
        "from": '"requestor" or "acceptor"; "proxy" if it was neither',
        "how": "closed, reset, unreachable, or incomplete (of a capture)",
        "unanswered": "messages that got no response: their names and message IDs",
    },
}
