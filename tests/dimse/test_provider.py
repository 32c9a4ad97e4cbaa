"""What handlers see and what they may return (api.md §2)."""

import pytest

from dicomnet.config import Identity
from dicomnet.dimse.messages import Response
from dicomnet.dimse.provider import as_response
from dicomnet.dimse.status import Status
from tests.dimse.memory import association_request, describe


@pytest.mark.parametrize("result", [Status.SUCCESS, 0, 0xB000, 0xC123])
def test_a_handler_returns_a_status_or_its_number(result):
    """N-35: any 16-bit number, named or not."""
    assert as_response(result) == Response(Status(result))


def test_a_handler_returns_a_response_which_stays_as_it_is():
    """The library fills in a copy: a handler may return the same one each time."""
    given = Response(Status.WARNING, error_comment="coerced")
    returned = as_response(given)
    assert returned == given
    assert returned is not given


@pytest.mark.parametrize("result", [None, True, "success", 0.0, object()])
def test_anything_else_is_nonsense(result):
    """K3."""
    with pytest.raises(TypeError, match=f"returned {type(result).__name__}; it must return"):
        as_response(result)


@pytest.mark.parametrize("result", [-1, 0x10000])
def test_a_number_that_is_no_status_is_nonsense(result):
    """K3."""
    with pytest.raises(ValueError, match="not a valid Status"):
        as_response(result)


def test_the_identity_is_that_of_the_request():
    """N-30, PS3.7 D.3.3.7."""
    identity = Identity.username("somebody")
    assert describe(association_request(identity=identity)).identity == identity
    assert describe(association_request()).identity is None
