"""``send --commit`` and ``send --verify``: is it there? ``dicomnet.sender`` does the work."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.options import PEER_FAILED, USAGE, Failure, Section, peer_value
from dicomnet.cli.output import Output

if TYPE_CHECKING:
    from dicomnet.cli.settings import Settings
    from dicomnet.config import Peer, Timeouts
    from dicomnet.sender.confirmation import Answer
    from dicomnet.sender.confirming import Commitments
    from dicomnet.sender.ledger import Ledger
    from dicomnet.sender.outcome import Stop

EVENTS: Final = {
    "confirmed": {
        "sop_instance_uid": "the instance",
        "state": "committed (storage commitment) or verified (a query)",
    },
    "unconfirmed": {
        "sop_instance_uid": "the instance",
        "state": "failed, or unanswered: the same command with the same ledger asks again",
        "reason": "why, in words",
    },
    "confirmation": {
        "confirmed": "instances that the peer says it has",
        "failed": "that it says it has not",
        "unanswered": "of which it said nothing in time",
        "seconds": "that it took",
    },
}

_MOST_TOLD: Final = 20  # instances of which problems are told one by one, on stderr
_STEP: Final = 0.2  # seconds between two changes of the line that shows how far it is

_option = functools.partial(click.option, cls=Section, section="Confirmation")
_OPTIONS: Final = (
    _option(
        "--commit", is_flag=True,
        help="When all is sent, ask PEER to commit to it (storage commitment), and wait for the answer; of what an"
        " earlier run with the same ledger has sent, too: --commit --ledger 2024.ledger",
    ),
    _option(
        "--verify", is_flag=True,
        help="When all is sent, ask PEER for each instance whether it is there (C-FIND): --verify",
    ),
    _option(
        "--confirm-peer", type=peer_value, metavar="PEER",
        help="Whom to ask, if that is not who stores: --confirm-peer ARCHIVE@192.0.2.8:104",
    ),
    _option(
        "--confirm-wait", type=click.FloatRange(0, 86400), default=60.0, show_default=True, metavar="SECONDS",
        help="How long to wait for the report of a commitment, or until an instance is found: --confirm-wait 600",
    ),
    _option(
        "--commit-port", type=click.IntRange(0, 65535), metavar="PORT",
        help="Listen there for reports of commitments: many archives send them on a new association, to the address"
        " that they have for our AE title: --commit-port 11113",
    ),
    _option(
        "--commit-host", metavar="HOST", default="0.0.0.0", show_default=True,
        help="On which of our addresses to listen for them: --commit-host 192.0.2.20",
    ),
)  # fmt: skip


def confirmable(body: Callable[..., int]) -> Callable[..., int]:
    """A command that sends: gets ``confirm``, what to do when all is sent."""

    @functools.wraps(body)
    def called(**arguments: Any) -> int:
        names = ("commit", "verify", "confirm_peer", "confirm_wait", "commit_port", "commit_host")
        return body(confirm=Confirm(**{name: arguments.pop(name) for name in names}), **arguments)

    command: Callable[..., int] = called
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Confirm:
    """The options."""

    commit: bool
    verify: bool
    confirm_peer: Peer | None
    confirm_wait: float
    commit_port: int | None
    commit_host: str

    @contextlib.contextmanager
    def opened(
        self, ledger: str | None, peer: Peer, calling: str, settings: Settings, output: Output
    ) -> Iterator[Confirmation]:
        """While it lasts, reports are taken. Without ``ledger`` there is one for this run alone."""
        if self.commit and self.verify:
            raise click.UsageError("--commit or --verify: one of them says whether it is there")
        if self.commit_port is not None and not self.commit:
            raise click.UsageError("--commit-port is for --commit")
        with contextlib.ExitStack() as stack:
            confirmation = Confirmation(self, peer, calling, settings, output)
            if not (self.commit or self.verify):
                confirmation.ledger = ledger
            else:
                from dicomnet.sender.ledger import Ledger

                if ledger is None:
                    import tempfile  # not for a help

                    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dicomnet-"))
                    ledger = os.path.join(folder, "ledger")
                confirmation.ledger = confirmation.kept = stack.enter_context(Ledger(ledger))
                confirmation.prepare(stack)
            yield confirmation


class Confirmation:
    """``ledger``: for ``send``. ``kept``: the same, open, if something is to be confirmed."""

    def __init__(self, options: Confirm, peer: Peer, calling: str, settings: Settings, output: Output) -> None:
        self.ledger: str | Ledger | None = None
        self.kept: Ledger | None = None
        self._options = options
        self._peer = peer
        self._calling = calling
        self._settings = settings
        self._output = output
        self._commitments: Commitments | None = None
        self._ae: Any = None

    def prepare(self, stack: contextlib.ExitStack) -> None:
        """Listen for reports: that it cannot be done is to be known before hours of sending."""
        if not self._options.commit:
            return
        from dicomnet.ae import AE
        from dicomnet.sender.confirming import Commitments

        assert self.kept is not None
        self._ae = AE(self._calling)
        self._commitments = Commitments(self.kept, self._peer, self._ae)
        port = self._options.commit_port
        if port is None:
            return
        from dicomnet.blocking import serve

        tls = self._settings.server_tls() if self._settings.tls_cert is not None else None
        try:
            server = stack.enter_context(serve(self._ae, self._options.commit_host, port, tls=tls))
        except OSError as error:
            text = f"cannot listen on {self._options.commit_host}:{port}: {error.strerror or error}"
            raise Failure(f"--commit-port: {text}", USAGE) from error
        if port == 0:
            self._output.problem(f"reports of commitments are taken on port {server.port}")

    def run(self, stop: Stop, code: int) -> int:
        """Ask for all that has no answer. The exit code: ``code``, or 1 if something is not confirmed."""
        if self.kept is None or stop.is_set():
            return code
        from dicomnet.sender.confirmation import Patience

        patience = Patience(seconds=self._options.confirm_wait, stop=stop)
        report = _Report(self._output)
        with contextlib.closing(self._answers(patience)) as answers:
            for answer in answers:
                report.add(answer)
        report.summarise(interrupted=stop.is_set())
        return code or report.exit_code()

    def _answers(self, patience: Any) -> Any:
        from dicomnet.sender.confirming import verify_sent

        assert self.kept is not None
        if self._commitments is not None:
            reachable = self._options.commit_port is not None
            return self._commitments.answers(self._connect, patience, reachable=reachable)
        return verify_sent(self.kept, self._peer, self._connect, patience)

    def _connect(self) -> Any:
        from dicomnet.blocking import associate
        from dicomnet.sender.verifying import contexts
        from dicomnet.services.commitment import StorageCommitmentPushModel

        return associate(
            self._options.confirm_peer or self._peer,
            calling_ae=self._calling,
            contexts=[StorageCommitmentPushModel] if self._options.commit else contexts(),
            tls=self._settings.client_tls(),
            identity=self._settings.identity(),
            timeouts=_patient(self._settings.timeouts()),
            ae=self._ae,
        )


def _patient(timeouts: Timeouts | None) -> Timeouts:
    """A provider may take its time before it reports, on an association that is idle until then."""
    from dicomnet.config import Timeouts

    return replace(timeouts or Timeouts(), idle=None)


class _Report:
    """Tells each answer, and in the end what it came to."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._started = time.monotonic()
        self._states: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._shows = sys.stderr.isatty() and sys.stdout.isatty() and not (output.json or output.quiet)
        self._shown = 0.0

    def add(self, answer: Answer) -> None:
        self._states[answer.state] += 1
        uid = answer.subject.sop_instance_uid
        if answer.ok:
            self._output.event("confirmed", sop_instance_uid=uid, state=answer.state)
        else:
            self._reasons[answer.reason] += 1
            self._output.event("unconfirmed", sop_instance_uid=uid, state=answer.state, reason=answer.reason)
            self._complain(answer)
        self._show()

    def _complain(self, answer: Answer) -> None:
        """What failed, one by one as long as it is few; why there is no answer is the same for many, and told later."""
        failed = self._states["failed"]
        if not self._output.json and answer.state == "failed" and failed <= _MOST_TOLD:
            self._output.problem(f"not confirmed: {answer.subject.sop_instance_uid}: {answer.reason}")

    def _show(self) -> None:
        if self._shows and time.monotonic() - self._shown >= _STEP:
            self._shown = time.monotonic()
            print(f"\rconfirming: {self._states.total()} answers\x1b[K", end="", file=sys.stderr, flush=True)

    def summarise(self, *, interrupted: bool) -> None:
        if self._shows:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        states = self._states
        confirmed = states["committed"] + states["verified"]
        how = "committed" if states["committed"] else "confirmed"
        text = f"{confirmed} {how}, {states['failed']} failed, {states['unanswered']} without an answer"
        if not self._output.json:
            for reason, number in self._reasons.most_common(_MOST_TOLD):
                self._output.problem(f"{number} not confirmed: {reason}")
        self._output.event(
            "confirmation",
            text + ("; interrupted" if interrupted else ""),
            confirmed=confirmed,
            failed=states["failed"],
            unanswered=states["unanswered"],
            seconds=round(time.monotonic() - self._started, 3),
        )

    def exit_code(self) -> int:
        return PEER_FAILED if self._states["failed"] or self._states["unanswered"] else 0
