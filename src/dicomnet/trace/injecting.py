"""Does what the rules of ``faults`` say to the PDUs of a connection.

One idea: a PDU is held until it is whole and it is decided what becomes of it: on, later, changed, in part, or not at
all. Who sent it is recorded as sending it all the same, and each fault has a record. A PDU of more than 1 MiB is not
held: it passes, and only rules for bytes, and for what follows it, apply to it.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from dicomnet.config import Limits
from dicomnet.dimse import command as c
from dicomnet.dimse.command import CommandSet
from dicomnet.dimse.messages import RESPONSE
from dicomnet.dimse.status import Status
from dicomnet.trace.decoding import Decoder, message_name
from dicomnet.trace.faults import FOR_EVER, PDU_NAMES, Rule
from dicomnet.trace.pdus import NO_PDU, PduStream, Piece
from dicomnet.trace.records import Fault, Message, Record
from dicomnet.trace.relay import Act
from dicomnet.ul import pdu
from dicomnet.ul.wire import InvalidPdu

_HELD: Final = Limits().pdu_length + pdu.HEADER_LENGTH  # bytes
_PDV_HEADER: Final = 6  # length 4, context ID, message control header


class Rules:
    """The rules of a proxy, and how often what they name was seen on all connections. ``seed``: for random bits."""

    def __init__(self, rules: Sequence[Rule], seed: int = 0) -> None:
        self.rules = tuple(rules)
        self.seed = seed
        self._lock = threading.Lock()
        self._seen: Counter[int] = Counter()

    def count(self, index: int, own: Counter[int]) -> int:
        """One more of what rule ``index`` names; ``own``: the counts of its connection."""
        if self.rules[index].in_each:
            own[index] += 1
            return own[index]
        with self._lock:
            self._seen[index] += 1
            return self._seen[index]


class Injector:
    """One connection (``relay.Step``)."""

    def __init__(self, rules: Rules, decoder: Decoder, put: Callable[[list[Record]], None]) -> None:
        self._rules, self._decoder, self._put = rules, decoder, put
        self._random = random.Random(rules.seed * 1_000_003 + decoder.connection)
        self._counts: Counter[int] = Counter()
        self._streams = (PduStream(decoder.limits), PduStream(decoder.limits))
        self._held = (bytearray(), bytearray())
        self._passed = [0, 0]  # bytes
        self._waits_for_data: list[list[Rule]] = [[], []]  # cut and flip: for the data set of the message
        self._dropped: tuple[set[int], set[int]] = (set(), set())  # message IDs whose responses are swallowed
        self._swallows = [False, False]  # until the message has ended
        self._acts: list[Act] = []
        self._over = False

    def take(self, from_requestor: bool, data: memoryview, when: float) -> Sequence[Act]:
        """What becomes of ``data``, now or when its PDU is whole."""
        self._acts = []
        for piece in self._streams[from_requestor].split(data):
            if self._over:
                break
            self._take(from_requestor, piece, when)
        return self._acts

    def end(self, from_requestor: bool) -> Sequence[Act]:
        """What is held goes on: it will not become whole."""
        self._acts = []
        held = self._held[from_requestor]
        rest = bytes(held) + self._streams[from_requestor].take_header()
        held.clear()
        if rest and not self._over:
            self._put(self._decoder.feed(from_requestor, rest, 0.0))
            self._forward(from_requestor, rest, 0.0)
        return self._acts

    def _take(self, from_requestor: bool, piece: Piece, when: float) -> None:
        if piece.type == NO_PDU or piece.length > _HELD:
            self._put(self._decoder.feed(from_requestor, piece.data, when))
            self._forward(from_requestor, bytes(piece.data), when)
            return
        held = self._held[from_requestor]
        held += piece.data
        if piece.ends:
            whole = bytes(held)
            held.clear()
            self._decide(from_requestor, piece.type, whole, when)

    # --- a whole PDU ------------------------------------------------------------------------------------------------

    def _decide(self, from_requestor: bool, kind: int, whole: bytes, when: float) -> None:
        records = self._decoder.feed(from_requestor, whole, when)
        began = [one.command for one in self._decoder.began]
        self._put(records)
        name = PDU_NAMES.get(kind, "")
        ended = [message_name(one.command) for one in records if isinstance(one, Message)]
        before, after = self._fired([name, *map(message_name, began)], [name, *ended])
        self._note_responses(from_requestor, began, before, when)
        self._act(from_requestor, whole, before, began, when)
        if ended:
            self._swallows[from_requestor] = False
        for rule in after:
            if not self._over:
                self._wait_or_end(from_requestor, rule, when)

    def _fired(self, begun: list[str], ended: list[str]) -> tuple[list[Rule], list[Rule]]:
        """The rules whose turn it is, before and after the PDU goes on."""
        before, after = [], []
        for index, rule in enumerate(self._rules.rules):
            late = rule.when == "after" and not rule.needs_one
            for name in ended if late else begun:
                if not rule.matches(name):
                    continue
                count = self._rules.count(index, self._counts)
                if late and count == rule.count:
                    after.append(rule)
                elif (
                    rule.when == "on"
                    or (rule.when == "every" and count % rule.count == 0)
                    or (rule.when == "after" and not late and count == rule.count + 1)
                ):
                    before.append(rule)
        return before, after

    def _note_responses(self, from_requestor: bool, began: list[CommandSet], fired: list[Rule], when: float) -> None:
        for command in began:
            code, own, answers = (
                command.get(one) for one in (c.COMMAND_FIELD, c.MESSAGE_ID, c.MESSAGE_ID_BEING_RESPONDED_TO)
            )
            is_response = isinstance(code, int) and code & RESPONSE
            if is_response and isinstance(answers, int) and answers in self._dropped[from_requestor]:
                self._swallows[from_requestor] = True
                if not _is_pending(command):
                    self._dropped[from_requestor].discard(answers)
            for rule in fired:
                if rule.action != "drop-response" or not rule.matches(message_name(command)):
                    continue
                self._tell(rule, f"swallowed {'' if is_response else 'the response to '}{message_name(command)}", when)
                if is_response:
                    self._swallows[from_requestor] = True
                elif isinstance(own, int):
                    self._dropped[not from_requestor].add(own)

    def _act(self, from_requestor: bool, whole: bytes, fired: list[Rule], began: list[CommandSet], when: float) -> None:
        waiting = self._waits_for_data[from_requestor]
        now = [rule for rule in fired if not self._waits(rule, whole, began)]
        if waiting and _fragments(whole, of_commands=False):
            now += waiting
            waiting.clear()
        waiting += [rule for rule in fired if rule not in now and rule.action in ("cut", "flip")]
        data = whole
        for rule in now:
            match rule.action:
                case "flip":
                    data = self._flip(rule, data, when)
                case "refuse":
                    return self._refuse(rule, data, when)
                case "cut":
                    self._forward(from_requestor, data[: len(data) // 2], when)
                    return self._end_with(from_requestor, rule, "closed", "closed both ends in mid-PDU", when)
                case "delay" | "stall" | "reset":
                    self._wait_or_end(from_requestor, rule, when)
                    if self._over:
                        return None
        if not self._swallows[from_requestor]:
            self._forward(from_requestor, data, when)
        return None

    @staticmethod
    def _waits(rule: Rule, whole: bytes, began: list[CommandSet]) -> bool:
        """A cut or flip of a message is one of its data set, if it has one; that may come with a later PDU."""
        if rule.action not in ("cut", "flip") or not rule.is_for_message or _fragments(whole, of_commands=False):
            return False
        return any(
            rule.matches(message_name(command)) and command.get(c.DATA_SET_TYPE) != c.NO_DATA_SET for command in began
        )

    # --- what is done -----------------------------------------------------------------------------------------------

    def _tell(self, rule: Rule, what: str, when: float) -> None:
        self._put([Fault(self._decoder.connection, when, rule.text, what)])

    def _wait_or_end(self, from_requestor: bool, rule: Rule, when: float) -> None:
        if rule.action == "reset":
            self._end_with(from_requestor, rule, "reset", "reset both ends", when)
            return
        who = "requestor" if from_requestor else "acceptor"
        how_long = "for ever" if rule.seconds == FOR_EVER else f"for {rule.seconds:g} s"
        self._tell(rule, f"holds back what comes from the {who} {how_long}", when)
        self._acts.append(Act(from_requestor, wait=rule.seconds))

    def _end_with(self, from_requestor: bool, rule: Rule, how: str, what: str, when: float) -> None:
        self._over = True
        self._tell(rule, what, when)
        self._acts.append(Act(from_requestor, how="reset" if how == "reset" else "closed"))

    def _refuse(self, rule: Rule, request: bytes, when: float) -> None:
        self._tell(rule, f"answered A-ASSOCIATE-RJ {'/'.join(map(str, rule.refusal))} in the acceptor's place", when)
        answer = pdu.encode(pdu.AssociateRj(*rule.refusal))
        self._put(self._decoder.feed(False, answer, when))
        self._acts += [Act(True, request, hidden=True), Act(False, answer)]

    def _flip(self, rule: Rule, data: bytes, when: float) -> bytes:
        if rule.is_for_message:
            places = _fragments(data, of_commands=False) or _fragments(data, of_commands=True)
        else:
            places = [range(pdu.HEADER_LENGTH, len(data))]
        offsets = [offset for place in places for offset in place]
        number = self._random.randrange(len(offsets)) if rule.byte is None and offsets else (rule.byte or 1) - 1
        if number >= len(offsets):
            self._tell(rule, f"flipped nothing: there are {len(offsets)} bytes", when)
            return data
        return self._flipped(rule, data, offsets[number], f"byte {number + 1} of {len(offsets)}", when)

    def _flipped(self, rule: Rule, data: bytes, offset: int, which: str, when: float) -> bytes:
        bit = self._random.randrange(8)
        self._tell(rule, f"flipped bit {bit} of {which}", when)
        return data[:offset] + bytes((data[offset] ^ 1 << bit,)) + data[offset + 1 :]

    def _forward(self, from_requestor: bool, data: bytes, when: float) -> None:
        """On with it, but for what rules say of bytes in it."""
        start = self._passed[from_requestor]
        rules = [
            rule
            for rule in self._rules.rules
            if rule.when == "byte" and rule.from_requestor == from_requestor and 0 < rule.count - start <= len(data)
        ]
        self._passed[from_requestor] += len(data)
        done = 0
        for rule in sorted(rules, key=lambda one: one.count):
            at = rule.count - start
            if rule.action == "flip":
                data = self._flipped(rule, data, at - 1, f"byte {rule.count} of the connection", when)
                continue
            self._acts.append(Act(from_requestor, data[done:at]))
            done = at
            if rule.action == "cut":
                return self._end_with(from_requestor, rule, "closed", f"closed both ends after byte {rule.count}", when)
            self._wait_or_end(from_requestor, rule, when)
            if self._over:
                return None
        self._acts.append(Act(from_requestor, data[done:]))
        return None


def _fragments(whole: bytes, *, of_commands: bool) -> list[range]:
    """Where in a P-DATA-TF fragments of command sets, or of data sets, are; of another PDU: nowhere."""
    try:
        value = pdu.decode(whole)
    except InvalidPdu:
        return []
    places, position = [], pdu.HEADER_LENGTH
    for one in value.pdvs if isinstance(value, pdu.PDataTf) else ():
        start = position + _PDV_HEADER
        position = start + len(one.data)
        if one.is_command == of_commands and one.data:
            places.append(range(start, position))
    return places


def _is_pending(command: CommandSet) -> bool:
    status = command.get(c.STATUS)
    return isinstance(status, int) and Status(status).is_pending
