"""``--exec``: what ``dicomnet receive`` runs when a study is complete, and what it says of it."""

from __future__ import annotations

from typing import Final

import click

from dicomnet.cli.output import Output
from dicomnet.cli.storing import Execution
from dicomnet.inbox import Inbox
from dicomnet.inbox.commands import Ran, Runner
from dicomnet.inbox.studies import MOST, Channel, Collector, Study

_WHY: Final = {"too long": "ended, it ran too long", "stopped": "ended with dicomnet", "not run": "not run any more"}


def channel_for(workers: int, execution: Execution) -> Channel | None:
    """What the workers tell of studies; None where they cannot, which is an error only for ``--exec``."""
    try:
        if execution.command is not None:
            execution.command.check_program()
        return Channel(workers)
    except ValueError as error:
        if execution.command is None:
            return None
        raise click.UsageError(f"--exec: {error}") from error


class Completion:
    """Follows the studies; with a command, runs it for those that are complete."""

    def __init__(self, channel: Channel, execution: Execution, inbox: Inbox, output: Output) -> None:
        self._output = output
        self._runner: Runner | None = None
        self._counts = {"done": 0, "failed": 0}
        if execution.command is not None:
            self._runner = Runner(
                execution.command, inbox.folder, jobs=execution.jobs, limit=execution.limit, tell=self._tell
            )
        self._collector = Collector(channel, execution.after, self._complete, self._lost)
        self.studies = self._collector.studies

    def start(self) -> None:
        """After the workers have been forked: there are threads from now on."""
        self._collector.start()

    def close(self) -> None:
        """All associations are over: run what is left to run, and wait for it."""
        self._collector.close()
        if self._runner is not None:
            self._runner.finish()

    def stop(self) -> None:
        """End what runs, at once, and tell what will not be run. Safe after ``close``."""
        if self._runner is not None:
            self._runner.stop()
        self._collector.close()

    def _complete(self, study: Study) -> None:
        if self._runner is not None:
            self._runner.submit(study)

    def _lost(self, study: Study) -> None:
        if self._runner is not None:
            self._output.problem(f"--exec will not run for {study.folder}: {MOST} studies are under way")

    def _tell(self, ran: Ran) -> None:
        study, output = ran.study, self._output
        output.detail(
            "exec",
            f"ran for {study.folder} ({study.count} new, {ran.seconds:.1f} s)" if ran.outcome == "done" else "",
            folder=study.folder,
            study_instance_uid=study.uid,
            count=study.count,
            outcome=ran.outcome,
            exit_code=ran.exit_code,
            seconds=round(ran.seconds, 3),
            said=ran.said,
        )
        if ran.outcome != "done":
            why = _WHY.get(ran.outcome) or (f"exit code {ran.exit_code}" if ran.exit_code is not None else "no start")
            said = ran.said.splitlines()
            output.problem(f"--exec failed for {study.folder}: {why}" + (f": {said[-1]}" if said else ""))
