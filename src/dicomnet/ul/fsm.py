"""The state machine of PS3.8 9.2 as data: Tables 9-6 to 9-9 in words, Table 9-10 as a grid.

An association is in one of 13 states. An event (a service primitive of the local user, a PDU, the transport, the ARTIM
timer) looks up one cell of the grid: the action to take. The action says which state follows; five of them choose
between two, and a ``|`` lists both. An empty cell is an event that cannot occur in that state: if the local user makes
it occur, that is a ``LocalProtocolError``; nothing that a peer does can hit one.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple


class State(IntEnum):
    """PS3.8 9.2.2, Tables 9-1 to 9-5."""

    IDLE = 1
    AWAITING_REQUEST = 2  # transport open; a request must come before ARTIM
    AWAITING_LOCAL_ANSWER = 3  # accept or reject
    AWAITING_TRANSPORT = 4
    AWAITING_ANSWER = 5  # A-ASSOCIATE-AC or -RJ
    ESTABLISHED = 6  # ready for data transfer
    AWAITING_RELEASE_RP = 7
    AWAITING_LOCAL_RELEASE = 8
    COLLISION_REQUESTOR_LOCAL = 9  # requestor; local A-RELEASE response
    COLLISION_ACCEPTOR_PDU = 10  # acceptor; A-RELEASE-RP
    COLLISION_REQUESTOR_PDU = 11  # requestor; A-RELEASE-RP
    COLLISION_ACCEPTOR_LOCAL = 12  # acceptor; local A-RELEASE response
    AWAITING_CLOSE = 13  # nothing more is expected of this connection


class Event(IntEnum):
    """The rows of Table 9-10, numbered from top to bottom as the standard's event definitions are."""

    ASSOCIATE_REQUEST = 1
    TRANSPORT_CONFIRMED = 2
    ASSOCIATE_AC = 3
    ASSOCIATE_RJ = 4
    TRANSPORT_INDICATED = 5
    ASSOCIATE_RQ = 6
    ASSOCIATE_RESPONSE_ACCEPT = 7
    ASSOCIATE_RESPONSE_REJECT = 8
    P_DATA_REQUEST = 9
    P_DATA_TF = 10
    RELEASE_REQUEST = 11
    RELEASE_RQ = 12
    RELEASE_RP = 13
    RELEASE_RESPONSE = 14
    ABORT_REQUEST = 15
    ABORT = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU = 19


class Action(NamedTuple):
    """``next``: the states that may follow, in the order of the standard's wording."""

    name: str
    next: tuple[State, ...]


_ACTIONS = """
AE-1  4     issue a transport connection request
AE-2  5     send A-ASSOCIATE-RQ
AE-3  6     confirm the association (accepted)
AE-4  1     confirm the association (rejected) and close the transport
AE-5  2     accept the transport connection, start ARTIM
AE-6  3|13  stop ARTIM; indicate the request, or (provider refuses) send A-ASSOCIATE-RJ and start ARTIM
AE-7  6     send A-ASSOCIATE-AC
AE-8  13    send A-ASSOCIATE-RJ, start ARTIM
DT-1  6     send P-DATA-TF
DT-2  6     indicate the data
AR-1  7     send A-RELEASE-RQ
AR-2  8     indicate the release
AR-3  1     confirm the release, close the transport
AR-4  13    send A-RELEASE-RP, start ARTIM
AR-5  1     stop ARTIM
AR-6  7     indicate the data
AR-7  8     send P-DATA-TF
AR-8  9|10  indicate the release (collision): the requestor goes to 9, the acceptor to 10
AR-9  11    send A-RELEASE-RP
AR-10 12    confirm the release
AA-1  13    send A-ABORT (service user), start or restart ARTIM
AA-2  1     stop ARTIM if it runs, close the transport
AA-3  1     indicate the abort, close the transport
AA-4  1     indicate the provider's abort
AA-5  1     stop ARTIM
AA-6  13    ignore the PDU
AA-7  13    send A-ABORT
AA-8  13    send A-ABORT (service provider), indicate the provider's abort, start ARTIM
"""

_TABLE_9_10 = """
event  1     2     3     4     5     6     7     8     9     10    11    12    13
1      AE-1  .     .     .     .     .     .     .     .     .     .     .     .
2      .     .     .     AE-2  .     .     .     .     .     .     .     .     .
3      .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
4      .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
5      AE-5  .     .     .     .     .     .     .     .     .     .     .     .
6      .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
7      .     .     AE-7  .     .     .     .     .     .     .     .     .     .
8      .     .     AE-8  .     .     .     .     .     .     .     .     .     .
9      .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
10     .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
11     .     .     .     .     .     AR-1  .     .     .     .     .     .     .
12     .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
13     .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
14     .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
15     .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
16     .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
17     .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
18     .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
19     .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""


def _read_actions(text: str) -> dict[str, Action]:
    rows = (line.split()[:2] for line in text.strip().splitlines())
    return {name: Action(name, tuple(State(int(number)) for number in states.split("|"))) for name, states in rows}


def _read_table(text: str) -> dict[tuple[Event, State], Action]:
    _header, *rows = (line.split() for line in text.strip().splitlines())
    return {
        (Event(int(number)), State(column)): ACTIONS[name]
        for number, *cells in rows
        for column, name in enumerate(cells, start=1)
        if name != "."
    }


ACTIONS: Final = _read_actions(_ACTIONS)
TABLE: Final = _read_table(_TABLE_9_10)
