"""The options of commands that store what comes: where, what if it is there, how safe, and what to run then."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dicomnet.cli.options import USAGE, Body, Failure, Section

if TYPE_CHECKING:
    from dicomnet.inbox import Inbox, KeepFree, Layout
    from dicomnet.inbox.commands import CommandLine


def layout_value(text: str) -> Layout:
    """A template, see ``dicomnet.inbox.layout``."""
    from dicomnet.inbox import Layout

    try:
        return Layout(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def keep_free_value(text: str) -> KeepFree:
    """``5GB`` or ``5%``."""
    from dicomnet.inbox import KeepFree

    try:
        return KeepFree.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def command_value(text: str) -> CommandLine:
    """A command line with placeholders."""
    from dicomnet.inbox.commands import CommandLine

    try:
        return CommandLine(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} cannot be run: {error}") from error


def network_value(text: str) -> str:
    """``192.0.2.0/24`` or one address."""
    from dicomnet.ae import network

    try:
        network(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}. Example: 192.0.2.0/24") from error
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Storing:
    """The values of the options that say how instances are stored."""

    layout: Layout | None
    duplicates: Any
    sync: bool
    keep_free: KeepFree | None

    def inbox(self, folder: str, workers: int) -> Inbox:
        from dicomnet.inbox import Inbox, KeepFree

        keep_free = self.keep_free or KeepFree()
        options = {"duplicates": self.duplicates, "sync": self.sync, "keep_free": keep_free, "processes": workers}
        try:
            return Inbox(folder, layout=self.layout, **options)
        except OSError as error:
            raise Failure(f"cannot store into {folder}: {error.strerror}; choose another FOLDER", USAGE) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """The values of the options that say what runs when a study is complete."""

    command: CommandLine | None
    after: float
    jobs: int
    limit: float


def _option(section: str, *names: str, **attributes: Any) -> Callable[[Body], Body]:
    return click.option(*names, cls=Section, section=section, **attributes)


_stored, _run = (functools.partial(_option, section) for section in ("Storing", "When a study is complete"))
_OPTIONS = (
    _stored(
        "--layout", type=layout_value, metavar="TEMPLATE",
        help="Where an instance goes below FOLDER: names of elements, {CallingAE}, {CalledAE}, {Date}; {StudyDate:4} is"
        " the first four characters. {SOPInstanceUID} has to be there. If not given: --layout"
        " '{PatientID}/{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm'",
    ),
    _stored(
        "--duplicates", type=click.Choice(["replace", "keep", "compare"]), default="replace", show_default=True,
        help="If an instance's file is there already: put the new one in its place once it is on the disk, keep the old"
        " one, or compare them and keep both if they differ: --duplicates compare",
    ),
    _stored(
        "--sync", is_flag=True,
        help="Answer only when an instance is on the disk, so that no power cut loses it; slow: --sync",
    ),
    _stored(
        "--keep-free", type=keep_free_value, metavar="AMOUNT", show_default="1%, at most 1GB",
        help="Refuse instances (A700) rather than leave less than this of the disk free: --keep-free 5GB,"
        " --keep-free 5%",
    ),
    _run(
        "--exec", "exec_command", type=command_value, metavar="COMMAND",
        help="A command, without a shell: --exec 'import-study {folder} --patient {PatientID}'. Known: {folder},"
        " {StudyInstanceUID}, {PatientID}, {CallingAE}, {count}, {bytes}; the same, as they came, in DICOMNET_FOLDER,"
        " DICOMNET_STUDY_INSTANCE_UID and so on.",
    ),
    _run(
        "--exec-after", type=click.FloatRange(min=0), default=10.0, show_default=True, metavar="SECONDS",
        help="How long nothing of the study may have come, its associations having ended: --exec-after 60",
    ),
    _run(
        "--exec-jobs", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N",
        help="How many may run at once; others wait: --exec-jobs 1",
    ),
    _run(
        "--exec-timeout", type=click.FloatRange(min=0, min_open=True), default=600.0, show_default=True,
        metavar="SECONDS", help="How long one may run before it is ended: --exec-timeout 30",
    ),
)  # fmt: skip


def storing(body: Body) -> Body:
    """A command that stores: gets ``storing`` and ``execution``."""

    @functools.wraps(body)
    def gathered(**arguments: Any) -> int:
        stored = Storing(**{name: arguments.pop(name) for name in Storing.__slots__})
        execution = Execution(
            command=arguments.pop("exec_command"),
            after=arguments.pop("exec_after"),
            jobs=arguments.pop("exec_jobs"),
            limit=arguments.pop("exec_timeout"),
        )
        return body(storing=stored, execution=execution, **arguments)

    command: Body = gathered
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
