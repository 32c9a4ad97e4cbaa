"""The state machine (PS3.8 9.2.3, Table 9-10): all 247 cells, in both roles, walked on real associations.

The cells are written down here a second time, the way the standard's prose groups them, and not derived from ``fsm``.
"""

import copy

import pytest
from hypothesis import given, strategies as st

from dicomnet.config import Timeouts
from dicomnet.errors import LocalProtocolError
from dicomnet.ul import events, pdu
from dicomnet.ul.association import Association
from dicomnet.ul.fsm import ACTIONS, TABLE, Event, State
from tests.ul import dialogue as d, strategies
from tests.ul.dialogue import PATHS, Dialogue, Failed, in_state

RECEIVED = """
state              2    3    5    6    7    8    9    10    11   12   13
ASSOCIATE_AC       AA-1 AA-8 AE-3 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-6
ASSOCIATE_RJ       AA-1 AA-8 AE-4 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-6
ASSOCIATE_RQ       AE-6 AA-8 AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-7
P_DATA_TF          AA-1 AA-8 AA-8 DT-2 AR-6 AA-8 AA-8 AA-8  AA-8 AA-8 AA-6
RELEASE_RQ         AA-1 AA-8 AA-8 AR-2 AR-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-6
RELEASE_RP         AA-1 AA-8 AA-8 AA-8 AR-3 AA-8 AA-8 AR-10 AR-3 AA-8 AA-6
ABORT              AA-2 AA-3 AA-3 AA-3 AA-3 AA-3 AA-3 AA-3  AA-3 AA-3 AA-2
INVALID_PDU        AA-1 AA-8 AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-7
TRANSPORT_CLOSED   AA-5 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4  AA-4 AA-4 AR-5
"""

LOCAL = {
    Event.ASSOCIATE_REQUEST: {1: "AE-1"},
    Event.TRANSPORT_CONFIRMED: {4: "AE-2"},
    Event.TRANSPORT_INDICATED: {1: "AE-5"},
    Event.ASSOCIATE_RESPONSE_ACCEPT: {3: "AE-7"},
    Event.ASSOCIATE_RESPONSE_REJECT: {3: "AE-8"},
    Event.P_DATA_REQUEST: {6: "DT-1", 8: "AR-7"},
    Event.RELEASE_REQUEST: {6: "AR-1"},
    Event.RELEASE_RESPONSE: {8: "AR-4", 9: "AR-9", 12: "AR-4"},
    Event.ABORT_REQUEST: {3: "AA-1", 4: "AA-2", **dict.fromkeys(range(5, 13), "AA-1")},
    Event.TRANSPORT_CLOSED: {4: "AA-4"},
    Event.ARTIM_EXPIRED: {2: "AA-2", 13: "AA-2"},
}


def expected_cells() -> dict[tuple[Event, int], str]:
    (_, *states), *rows = (line.split() for line in RECEIVED.strip().splitlines())
    cells = {(event, state): action for event, row in LOCAL.items() for state, action in row.items()}
    for name, *actions in rows:
        cells |= {(Event[name], int(state)): action for state, action in zip(states, actions, strict=True)}
    return cells


CELLS = expected_cells()

# What the user and the peer do to make each event happen.
CAUSES = {
    Event.ASSOCIATE_REQUEST: Dialogue.associates,
    Event.TRANSPORT_CONFIRMED: Dialogue.opens,
    Event.ASSOCIATE_AC: lambda it: it.receives(d.AC),
    Event.ASSOCIATE_RJ: lambda it: it.receives(d.RJ),
    Event.TRANSPORT_INDICATED: Dialogue.opens,
    Event.ASSOCIATE_RQ: lambda it: it.receives(d.RQ),
    Event.ASSOCIATE_RESPONSE_ACCEPT: Dialogue.accepts,
    Event.ASSOCIATE_RESPONSE_REJECT: Dialogue.rejects,
    Event.P_DATA_REQUEST: lambda it: it.association.send([pdu.encode(d.P_DATA)]),
    Event.P_DATA_TF: lambda it: it.receives(d.P_DATA),
    Event.RELEASE_REQUEST: Dialogue.releases,
    Event.RELEASE_RQ: lambda it: it.receives(d.RELEASE_RQ),
    Event.RELEASE_RP: lambda it: it.receives(d.RELEASE_RP),
    Event.RELEASE_RESPONSE: Dialogue.responds_to_release,
    Event.ABORT_REQUEST: Dialogue.aborts,
    Event.ABORT: lambda it: it.receives(d.ABORT),
    Event.TRANSPORT_CLOSED: Dialogue.loses_its_peer,
    Event.ARTIM_EXPIRED: lambda it: it.association.handle_timer(it.now + 3600.0),
    Event.INVALID_PDU: lambda it: it.receives(b"\x08\0\0\0\0\0"),
}
PEERS_OWN = {
    Event.ASSOCIATE_AC,
    Event.ASSOCIATE_RJ,
    Event.ASSOCIATE_RQ,
    Event.P_DATA_TF,
    Event.RELEASE_RQ,
    Event.RELEASE_RP,
    Event.ABORT,
    Event.INVALID_PDU,
}
# These would need the other role: only the requestor asks for a connection, only the acceptor is told of one.
OTHER_ROLE = {
    ("requestor", Event.TRANSPORT_INDICATED, 1),
    ("requestor", Event.TRANSPORT_INDICATED, 4),
    ("acceptor", Event.TRANSPORT_CONFIRMED, 1),
    ("acceptor", Event.ASSOCIATE_REQUEST, 1),
}
WALKS = [(role, event, state) for role, state in PATHS for event in Event if (role, event, state) not in OTHER_ROLE]
ALLOWED = [walk for walk in WALKS if walk[1:] in CELLS]
BLANK = [walk for walk in WALKS if walk[1:] not in CELLS]

# Action: PDUs sent, what the user is told, the state that follows, and the time limit that starts, as far as they do
# not depend on the event.
T = Timeouts(artim=21.0, associate=22.0, release=23.0, closing=24.0, pdu=25.0)
USERS_WAITS = {5: T.associate, **dict.fromkeys((7, 9, 10, 11), T.release)}
EFFECTS = {
    "AE-1": ([], [], 4, None),
    "AE-2": ([d.RQ], [], 5, T.associate),
    "AE-3": ([], [d.ACCEPTED], 6, None),
    "AE-4": ([], [d.REJECTED], 1, None),
    "AE-5": ([], [], 2, T.artim),
    "AE-6": ([], [d.REQUESTED], 3, None),
    "AE-7": ([d.AC], [], 6, None),
    "AE-8": ([d.RJ], [], 13, T.closing),
    "DT-1": ([d.P_DATA], [], 6, None),
    "DT-2": ([], [d.DATA], 6, None),
    "AR-1": ([d.RELEASE_RQ], [], 7, T.release),
    "AR-2": ([], [d.RELEASE_REQUESTED], 8, None),
    "AR-3": ([], [d.RELEASE_CONFIRMED], 1, None),
    "AR-4": ([d.RELEASE_RP], [], 13, T.closing),
    "AR-5": ([], [], 1, None),
    "AR-6": ([], [d.DATA], 7, T.release),
    "AR-7": ([d.P_DATA], [], 8, None),
    "AR-8": ([], [d.RELEASE_COLLIDED], {"requestor": 9, "acceptor": 10}, T.release),
    "AR-9": ([d.RELEASE_RP], [], 11, T.release),
    "AR-10": ([], [d.RELEASE_CONFIRMED], 12, None),
    "AA-1": ([pdu.Abort(0, 0)], {True: [Failed(0, 0)], False: []}, 13, T.closing),
    "AA-2": ([], {False: []}, 1, None),
    "AA-3": ([], [d.ABORTED], 1, None),
    "AA-4": ([], [events.TransportClosed()], 1, None),
    "AA-5": ([], [], 1, None),
    "AA-6": ([], [], 13, T.closing),
    "AA-7": ([pdu.Abort(2, 2)], [], 13, T.closing),
    "AA-8": ([pdu.Abort(2, 2)], [Failed(2, 2)], 13, T.closing),
}


def effects(role: str, event: Event, state: int) -> tuple[list, list, int, float | None]:
    action = CELLS[event, state]
    sent, told, after, limit = EFFECTS[action]
    if isinstance(after, dict):
        after = after[role]
    if isinstance(told, dict):
        told = told.get(event in PEERS_OWN, [])
    if event is Event.ARTIM_EXPIRED:
        told = [events.TimerExpired("artim" if state == 2 else "closing")]
    if event is Event.INVALID_PDU and action in ("AA-7", "AA-8"):  # the A-ABORT says what kind of wrong it was
        sent, told = [pdu.Abort(2, 1)], [Failed(2, 1)] if action == "AA-8" else []
    return sent, told, after, limit


def snapshot(association: Association) -> dict[str, object]:
    """All there is to an association, but for the time of the last call."""
    inside = {name: copy.copy(value) for name, value in vars(association).items() if name != "_now"}
    inside["framer"] = {name: copy.copy(value) for name, value in vars(association.framer).items()}
    return inside


def identify(walk: tuple[str, Event, int]) -> str:
    role, event, state = walk
    return f"{role}-{event.name}-in-{state}"


def test_the_table_is_the_standards() -> None:
    """Table 9-10: 13 states × 19 events, each cell as the standard has it."""
    assert {(event, state.value): action.name for (event, state), action in TABLE.items()} == CELLS
    assert len(State) * len(Event) == 247


def test_each_cell_is_walked_in_each_role_that_can_be_there() -> None:
    """Table 9-10: nothing is left out by the tests below."""
    never = {(Event.TRANSPORT_INDICATED, 4)}  # connecting and being connected to: no association is both
    assert {walk[1:] for walk in WALKS} | never == {(event, state) for event in Event for state in range(1, 14)}
    assert never.isdisjoint(CELLS)
    assert {state for role, state in PATHS if role == "requestor"} == {1, 4, 5, 6, 7, 8, 9, 11, 13}
    assert {state for role, state in PATHS if role == "acceptor"} == {1, 2, 3, 6, 7, 8, 10, 12, 13}


def test_each_action_names_the_states_that_may_follow() -> None:
    """Tables 9-6 to 9-9: the next state; AE-6 and AR-8 choose between two."""
    expected = {name: {after} for name, (_, _, after, _) in EFFECTS.items() if isinstance(after, int)}
    expected |= {"AE-6": {3, 13}, "AR-8": {9, 10}}
    assert {name: set(action.next) for name, action in ACTIONS.items()} == expected


@pytest.mark.parametrize("walk", ALLOWED, ids=identify)
def test_a_cell_does_what_its_action_says(walk: tuple[str, Event, int]) -> None:
    """Table 9-10 with Tables 9-6 to 9-9: what is sent and told, the next state, the transport, the timers."""
    role, event, state = walk
    it = in_state(role, state, timeouts=T)
    sent, told, after, limit = effects(role, event, state)

    assert it.association.can(event)
    CAUSES[event](it)

    it.sends(*sent).tells(*told).is_in(after)
    assert it.association.deadline == (None if limit is None else it.now + limit)
    assert it.association.close_wanted == (after == 1)


@pytest.mark.parametrize("walk", BLANK, ids=identify)
def test_a_blank_cell_is_the_callers_error_and_changes_nothing(walk: tuple[str, Event, int]) -> None:
    """Table 9-10, blank cells: the local program's error, never a crash."""
    role, event, state = walk
    it = in_state(role, state, timeouts=T)
    before = snapshot(it.association)
    assert not it.association.can(event)

    if event is Event.ARTIM_EXPIRED:  # it does not run, so it cannot expire: what may run is the user's own wait
        limit = USERS_WAITS.get(state)
        assert it.association.deadline == (None if limit is None else it.now + limit)
    elif state == 1 and (event in PEERS_OWN or event is Event.TRANSPORT_CLOSED):  # nobody is there: nothing to say
        CAUSES[event](it)
    else:
        with pytest.raises(LocalProtocolError):
            CAUSES[event](it)
    assert snapshot(it.association) == before


def test_an_acceptor_does_not_request_an_association() -> None:
    """9.2.1: AE-1 is the requestor's."""
    it = d.acceptor()
    with pytest.raises(LocalProtocolError, match="acceptor"):
        it.associates()
    it.keeps_quiet().is_in(1)


@pytest.mark.parametrize(("role", "state"), [walk for walk in PATHS if walk[1] not in (1, 4)], ids=str)
def test_an_association_that_ended_does_not_begin_again(role: str, state: int) -> None:
    """N-01: one association per connection, and one object for each."""
    it = in_state(role, state).loses_its_peer().after().closes()
    before = snapshot(it.association)
    for event in Event:
        assert not it.association.can(event)
    for cause in (Dialogue.associates, Dialogue.opens):
        with pytest.raises(LocalProtocolError):
            cause(it)
    it.receives(d.RQ, d.P_DATA, b"\x01\0").loses_its_peer().waits(3600.0)
    assert snapshot(it.association) == before


# --- properties -----------------------------------------------------------------------------------------------------

USERS_OWN = set(Event) - PEERS_OWN - {Event.ARTIM_EXPIRED}
TIMES_OWN = {Event.ARTIM_EXPIRED, Event.ABORT_REQUEST}  # a wait of the user's that is over aborts

acts = (
    st.sampled_from(sorted(USERS_OWN)).map(lambda event: ("user", CAUSES[event]))
    | st.sampled_from([d.RQ, d.AC, d.RJ, d.P_DATA, d.RELEASE_RQ, d.RELEASE_RP, d.ABORT]).map(
        lambda value: ("peer", lambda it: it.receives(value))
    )
    | strategies.streams.map(lambda data: ("peer", lambda it: it.receives(data)))
    | st.floats(0.0, 40.0).map(lambda seconds: ("time", lambda it: it.waits(seconds)))
)


def reachable(state: State, whose: str) -> set[State]:
    """The states to which one act leads: one step for the user's, any number for what comes in one segment."""
    own = {"user": USERS_OWN, "peer": PEERS_OWN, "time": TIMES_OWN}[whose]
    found, new = {state}, {state}
    while new:
        cells = [TABLE[event, before] for event in own for before in new if (event, before) in TABLE]
        new = {after for cell in cells for after in cell.next} - found
        found |= new
        if whose == "user":
            break
    return found


@given(st.sampled_from(sorted(PATHS)), st.lists(acts, max_size=8))
def test_no_order_of_things_leaves_the_table(start: tuple[str, int], played: list) -> None:
    """9.2.3: whatever the user and the peer do, each step is a cell of the table or the caller's error."""
    it = in_state(*start)
    for whose, act in played:
        before = it.association.state
        try:
            act(it)
        except LocalProtocolError:
            assert whose == "user" or before is State.AWAITING_TRANSPORT
            assert it.association.state is before
        assert it.association.state in reachable(before, whose)
        assert all(isinstance(sent, pdu.Pdu) for sent in it.sent())
        if it.association.close_wanted:
            it.closes()
