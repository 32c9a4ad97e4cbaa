"""Rules for doing harm to what a proxy forwards: ``after 3 C-STORE-RQ: reset``.

One idea: a rule reads like a sentence, and a rule that cannot be read is answered with the word that is wrong::

    rule    = trigger ":" action
    trigger = ("on" | "every" N | "after" N) NAME ["in each connection"]
            | "at byte" N ["from requestor" | "from acceptor"]
    action  = "delay" TIME | "stall" [TIME] | "cut" | "reset" | "flip" ["byte" N]
            | "refuse" [RESULT SOURCE REASON] | "drop-response"

NAME is a PDU (A-ASSOCIATE-RQ, P-DATA-TF, ...), a message (C-STORE-RQ, N-GET-RSP, ...), or ``*-RQ``, ``*-RSP`` for all
requests, all responses. TIME is a number with ms, s or min. Names are counted over all connections unless it says "in
each connection"; bytes are counted from 1, in each connection, and are by default those from the requestor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from dicomnet.dimse.messages import CommandField

When = Literal["on", "every", "after", "byte"]
Action = Literal["delay", "stall", "cut", "reset", "flip", "refuse", "drop-response"]

PDU_NAMES: Final = {
    1: "A-ASSOCIATE-RQ",
    2: "A-ASSOCIATE-AC",
    3: "A-ASSOCIATE-RJ",
    4: "P-DATA-TF",
    5: "A-RELEASE-RQ",
    6: "A-RELEASE-RP",
    7: "A-ABORT",
}
ANY_REQUEST: Final = "*-RQ"
ANY_RESPONSE: Final = "*-RSP"
_SERVICES: Final = [field.name.replace("_", "-") for field in CommandField]
MESSAGE_NAMES: Final = frozenset(
    {ANY_REQUEST, ANY_RESPONSE, *(f"{one}-RQ" for one in _SERVICES), *(f"{one}-RSP" for one in _SERVICES)}
) - {"C-CANCEL-RSP"}  # PS3.7 9.3.2.3: a C-CANCEL has no response
_NAMES: Final = MESSAGE_NAMES | frozenset(PDU_NAMES.values())
_ACTIONS: Final = ("delay", "stall", "cut", "reset", "flip", "refuse", "drop-response")
_AT_A_BYTE: Final = ("delay", "stall", "cut", "reset", "flip")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0}
_LONGEST: Final = 86_400.0  # seconds: more is no test
REFUSED: Final = (1, 1, 1)  # PS3.8 Table 9-21: permanent, by the service user, no reason given
FOR_EVER: Final = float("inf")


class InvalidRule(ValueError):
    """A rule that cannot be read; the message has the rule and a mark below the word."""

    def __init__(self, rule: str, start: int, length: int, problem: str) -> None:
        super().__init__(f"{problem}\n  {rule}\n  {' ' * start}{'^' * max(1, length)}")
        self.problem = problem
        self.start = start


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. ``text``: as it was written; ``count``: of names, or the byte; ``seconds``: of delay and stall."""

    text: str
    when: When
    count: int
    action: Action
    name: str = ""
    in_each: bool = False
    from_requestor: bool = True
    seconds: float = 0.0
    byte: int | None = None
    refusal: tuple[int, int, int] = REFUSED

    @property
    def is_for_message(self) -> bool:
        """Its name is that of messages, not of a PDU."""
        return self.name in MESSAGE_NAMES

    @property
    def needs_one(self) -> bool:
        """It does something to a PDU or message, so that after N it is the next one's turn."""
        return self.action in ("cut", "flip", "refuse", "drop-response")

    def matches(self, name: str) -> bool:
        """Whether it is about what has this name."""
        if self.name in (ANY_REQUEST, ANY_RESPONSE):
            return name in MESSAGE_NAMES and name.endswith(self.name[1:])
        return name == self.name


def parse_rule(text: str) -> Rule:
    """The rule that ``text`` says. Raises InvalidRule."""
    return _Parser(text).rule()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._words = [(match.group(), match.start()) for match in re.finditer(r":|[^\s:]+", text)]
        self._next = 0

    def rule(self) -> Rule:
        trigger = self._trigger()
        self._expect(":")
        action = self._action(trigger)
        if self._peek():
            self._fail("nothing is expected here")
        return Rule(self._text.strip(), **trigger, **action)  # type: ignore[arg-type]

    # --- words ------------------------------------------------------------------------------------------------------

    def _peek(self) -> str:
        return self._words[self._next][0] if self._next < len(self._words) else ""

    def _take(self) -> str:
        word = self._peek()
        self._next += 1
        return word

    def _expect(self, *words: str) -> None:
        for word in words:
            if self._peek().lower() != word:
                self._fail(f"{word!r} is expected here")
            self._take()

    def _fail(self, problem: str, *, back: int = 0) -> None:
        at = self._next - back
        word, start = self._words[at] if at < len(self._words) else ("", len(self._text.rstrip()))
        raise InvalidRule(self._text, start, len(word), problem)

    def _number(self, what: str, lowest: int = 1, highest: int = 1 << 40) -> int:
        word = self._peek()
        if not (word.isascii() and word.isdigit() and len(word) < 20 and lowest <= int(word) <= highest):
            self._fail(f"{what} is expected here: a number from {lowest} to {highest}")
        return int(self._take())

    # --- trigger ----------------------------------------------------------------------------------------------------

    def _trigger(self) -> dict[str, object]:
        word = self._peek().lower()
        if word == "at":
            self._take()
            self._expect("byte")
            return {"when": "byte", "count": self._number("the number of a byte"), "from_requestor": self._side()}
        if word not in ("on", "every", "after"):
            self._fail("a rule begins with on, every N, after N or at byte N")
        self._take()
        count = 1 if word == "on" else self._number("how many")
        return {"when": word, "count": count, "name": self._name(), "in_each": self._in_each()}

    def _name(self) -> str:
        name = self._peek().upper()
        if name not in _NAMES:
            self._fail("the name of a PDU or message is expected here, such as A-ASSOCIATE-RQ, C-STORE-RQ or *-RSP")
        self._take()
        return name

    def _in_each(self) -> bool:
        if self._peek().lower() != "in":
            return False
        self._expect("in", "each", "connection")
        return True

    def _side(self) -> bool:
        if self._peek().lower() != "from":
            return True
        self._take()
        side = self._peek().lower()
        if side not in ("requestor", "acceptor"):
            self._fail("requestor or acceptor is expected here")
        self._take()
        return side == "requestor"

    # --- action -----------------------------------------------------------------------------------------------------

    def _action(self, trigger: dict[str, object]) -> dict[str, object]:
        action = self._peek().lower()
        if action not in _ACTIONS:
            self._fail(f"an action is expected here: {', '.join(_ACTIONS)}")
        if trigger["when"] == "byte" and action not in _AT_A_BYTE:
            self._fail(f"at a byte there can be {', '.join(_AT_A_BYTE)}")
        if action == "refuse" and trigger.get("name") != "A-ASSOCIATE-RQ":
            self._fail("only an A-ASSOCIATE-RQ can be refused")
        if action == "drop-response" and trigger["name"] not in MESSAGE_NAMES:
            self._fail("drop-response needs the name of a message, such as C-STORE-RQ")
        self._take()
        return {"action": action, **self._details(action, at_byte=trigger["when"] == "byte")}

    def _details(self, action: str, *, at_byte: bool) -> dict[str, object]:
        if action == "delay" or (action == "stall" and self._peek()):
            return {"seconds": self._time()}
        if action == "stall":
            return {"seconds": FOR_EVER}
        if action == "flip" and self._peek() and not at_byte:
            self._expect("byte")
            return {"byte": self._number("the number of a byte")}
        if action == "refuse" and self._peek():
            result = self._number("the result (1 permanent, 2 transient)", 1, 2)
            source = self._number("the source (1 user, 2 ACSE, 3 presentation)", 1, 3)
            return {"refusal": (result, source, self._number("the reason", 0, 255))}
        return {}

    def _time(self) -> float:
        word = self._peek()
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|min)", word.lower())
        if match is None:
            self._fail("a time is expected here, such as 200ms, 1.5s or 2min")
        assert match is not None
        seconds = float(match[1]) * _UNITS[match[2]]
        if not 0 < seconds <= _LONGEST:
            self._fail("a time is more than nothing and no more than a day")
        self._take()
        return seconds
