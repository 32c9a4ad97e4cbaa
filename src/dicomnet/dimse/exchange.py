"""What a conversation keeps of a request of ours, and whom it tells of the peer's."""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from dicomnet.dimse.messages import CommandField, Response
from dicomnet.dimse.stream import Message


@dataclass(slots=True, eq=False)
class Exchange:
    """A request of ours and what came for it: responses, and for a C-GET the C-STORE requests too.

    ``strand``: whose it is. ``answered``: the final response is in the inbox, or was. ``abandoned``: nobody reads the
    inbox any more. ``freed``: the end of the association has given its place in the operations window to others.
    """

    message_id: int
    context_id: int
    command: CommandField
    strand: object
    inbox: deque[Response | Message] = field(default_factory=deque)
    answered: bool = False
    abandoned: bool = False
    freed: bool = False


class Orphan(Protocol):
    """An operation that has many responses."""

    def close(self) -> Coroutine[Any, Any, None]:
        """Cancel it, and do without its responses."""


class Performer(Protocol):
    """Performs the requests of the peer."""

    async def take_up(self, message: Message) -> None:
        """Perform a request, or see that it is performed."""

    def cancel(self, message_id: int) -> None:
        """The peer has sent a C-CANCEL for a request of its."""
