"""What handlers see and what they may return (api.md §2), and how an identity is decided on."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pydicom import Dataset

from dicomnet.config import Identity
from dicomnet.dataset import EncodedDataset
from dicomnet.dimse.messages import Response
from dicomnet.dimse.provider import as_items, as_response, identify, identity_refused
from dicomnet.dimse.status import Status
from dicomnet.errors import Reject
from dicomnet.ul import negotiation
from dicomnet.ul.pdu import ExtendedNegotiation
from tests.dimse.memory import CT, association_request, describe

DATASET = Dataset()
ENCODED = EncodedDataset(b"", "1.2.840.10008.1.2")
WHO = Identity.passcode("somebody", "swordfish", response_requested=True)


@pytest.mark.parametrize("dataset_allowed", [False, True])
@pytest.mark.parametrize("result", [Status.SUCCESS, 0, 0xB000, 0xC123])
def test_a_handler_returns_a_status_or_its_number(result, dataset_allowed):
    """N-35: any 16-bit number, named or not."""
    assert as_response(result, dataset_allowed=dataset_allowed) == Response(Status(result))


@pytest.mark.parametrize("dataset_allowed", [False, True])
def test_a_handler_returns_a_response_which_stays_as_it_is(dataset_allowed):
    """The library fills in a copy: a handler may return the same one each time."""
    given = Response(Status.WARNING, error_comment="coerced")
    returned = as_response(given, dataset_allowed=dataset_allowed)
    assert returned == given
    assert returned is not given


@pytest.mark.parametrize("dataset", [DATASET, ENCODED], ids=["pydicom", "encoded"])
def test_a_handler_returns_a_data_set_where_the_service_has_one(dataset):
    """PS3.7 10.1: success with it, or with the status before it."""
    assert as_response(dataset, dataset_allowed=True) == Response(Status.SUCCESS, dataset)
    assert as_response((0x0107, dataset), dataset_allowed=True) == Response(Status(0x0107), dataset)
    assert as_response((Status.SUCCESS, dataset), dataset_allowed=True).dataset is dataset
    assert as_response((Status.SUCCESS, None), dataset_allowed=True) == Response(Status.SUCCESS)
    for result in (dataset, (0, dataset)):
        with pytest.raises(TypeError, match="it must return a Status, an int or a Response"):
            as_response(result)


@pytest.mark.parametrize("dataset_allowed", [False, True])
@pytest.mark.parametrize("result", [None, True, "success", 0.0, object(), b"", (0,), (0, "x"), (0, DATASET, 1)])
def test_anything_else_is_nonsense(result, dataset_allowed):
    """K3."""
    with pytest.raises(TypeError, match=f"returned {type(result).__name__}; it must return"):
        as_response(result, dataset_allowed=dataset_allowed)


def test_a_data_set_with_a_nonsense_status_is_nonsense():
    """K3."""
    with pytest.raises(TypeError, match="returned NoneType; it must return"):
        as_response((None, DATASET), dataset_allowed=True)


@pytest.mark.parametrize("result", [-1, 0x10000])
def test_a_number_that_is_no_status_is_nonsense(result):
    """K3."""
    with pytest.raises(ValueError, match="not a valid Status"):
        as_response(result)


@pytest.mark.parametrize(
    ("result", "items"),
    [
        (None, []),
        (DATASET, [DATASET]),
        (ENCODED, [ENCODED]),
        (0xA700, [0xA700]),
        (Response(Status.CANCEL), [Response(Status.CANCEL)]),
        ([], []),
        ((ENCODED, DATASET), [ENCODED, DATASET]),
        (iter([ENCODED]), [ENCODED]),
    ],
)
def test_a_handler_of_many_results_returns_them_in_several_ways(result, items):
    """PS3.4 C.4.1: a list, a generator; a single data set, although one can be iterated; nothing."""
    assert list(as_items(result)) == items


def test_a_handler_of_many_results_may_be_an_async_generator():
    """PS3.4 C.4.1."""

    async def find():
        yield DATASET

    results = find()
    assert as_items(results) is results


@pytest.mark.parametrize("result", [0.5, object()])
def test_what_cannot_be_iterated_is_nonsense(result):
    """K3."""
    with pytest.raises(TypeError, match="must yield data sets or return a list of them"):
        as_items(result)


def test_the_identity_is_that_of_the_request():
    """N-30, PS3.7 D.3.3.7."""
    identity = Identity.username("somebody")
    assert describe(association_request(identity=identity)).identity == identity
    assert describe(association_request()).identity is None


def test_extended_negotiation_is_seen_once_it_is_answered():
    """N-29, PS3.7 D.3.3.5."""
    info = describe(association_request(extended={CT: b"\1\1"}))
    assert info.extended == {}
    info.answer = negotiation.answer(info.request, negotiation.Policy({}, extended={CT: b"\1"}))
    assert info.answer.user.extended == (ExtendedNegotiation(CT, b"\1"),)
    assert info.extended == {CT: b"\1"}


# --- identities -----------------------------------------------------------------------------------------------------


class Door:
    """As much of an ``Io`` and of a provider as deciding on an identity takes."""

    def __init__(self, handler: Callable[..., Any] | None) -> None:
        self.handler = {"identity": handler}.get
        self.asked: list[Any] = []

    async def call(self, handler: Callable[..., Any], argument: Any) -> Any:
        self.asked.append(argument)
        return handler(argument)


def finish(operation: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits."""
    with pytest.raises(StopIteration) as stop:
        operation.send(None)
    return stop.value.value


@pytest.mark.parametrize(("result", "response"), [(None, b""), (True, b""), (b"ticket", b"ticket"), (b"", b"")])
def test_an_identity_is_accepted_with_a_response(result, response):
    """PS3.7 D.3.3.7.2: empty unless the handler has one; whether it goes out is the requestor's wish."""
    door, info = Door(lambda _: result), describe(association_request(identity=WHO))
    assert finish(identify(door, info, door)) == response
    assert door.asked == [info]


def test_an_identity_is_refused():
    """PS3.7 D.3.3.7: 1/2/1."""
    door, info = Door(lambda _: False), describe(association_request(identity=WHO))
    with pytest.raises(Reject) as caught:
        identify(door, info, door).send(None)
    assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 2, 1)
    assert str(caught.value) == str(identity_refused())


@pytest.mark.parametrize("result", [1, 0, "yes", object()])
def test_a_decision_that_is_none_is_nonsense(result):
    """K3: who is let in must not hang on what counts as true."""
    door, info = Door(lambda _: result), describe(association_request(identity=WHO))
    with pytest.raises(TypeError, match="on_identity handler returned"):
        identify(door, info, door).send(None)


@pytest.mark.parametrize("identity", [None, *(Identity(type, b"x", response_requested=True) for type in (0, 6, 255))])
def test_an_identity_that_is_not_there_or_unknown_is_ignored(identity):
    """N-30, W12: nobody is asked, and there is no response."""
    door, info = Door(lambda _: False), describe(association_request(identity=identity))
    assert finish(identify(door, info, door)) is None
    assert door.asked == []


def test_without_a_handler_an_identity_is_not_checked():
    """N-30: no response, because none is supported."""
    door = Door(None)
    assert finish(identify(door, describe(association_request(identity=WHO)), door)) is None
