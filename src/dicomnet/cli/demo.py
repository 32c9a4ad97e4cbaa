"""``dicomnet demo``: an SCP and an SCU on ``DicomNet`` in one process, and who called what and was told what."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.options import HALF_WAY, NO_ASSOCIATION, PEER_FAILED, Command, Failure, requestor
from dicomnet.cli.output import Output, size_text
from dicomnet.cli.settings import Settings

if TYPE_CHECKING:
    from dicomnet.callbacks import DicomNet
    from dicomnet.callbacks.recorder import Entry, Recorder
    from dicomnet.cli.ladder import Line
    from dicomnet.dataset import EncodedDataset

_FILES: Final = {  # of those that pydicom's package brings along
    "CT_small.dcm": "CT",
    "MR_small.dcm": "MR",
    "MR_small_implicit.dcm": "MR, Implicit VR",
    "MR_small_bigendian.dcm": "MR, big endian",
    "MR_small_RLE.dcm": "MR, RLE",
    "MR_small_jpeg_ls_lossless.dcm": "MR, JPEG-LS",
    "examples_palette.dcm": "US, palette colour",
    "examples_ybr_color.dcm": "US, multi-frame, JPEG",
    "examples_jpeg2k.dcm": "US, JPEG 2000, lossless",
    "JPEG2000.dcm": "SC, JPEG 2000",
    "SC_rgb_rle.dcm": "SC, colour, RLE",
    "image_dfl.dcm": "SC, deflated",
    "rtplan.dcm": "RT plan",
    "rtdose.dcm": "RT dose",
    "rtstruct.dcm": "RT structure set, a file without preamble",
}
_PATIENCE: Final = 30.0  # seconds for what takes less than one
_WIDTH: Final = 132  # columns in a pipe
_QUIET: Final = ("on_send", "on_before_send_command_set")  # left out without --all


_OF_A_CALL: Final = {
    "number": "in order of time",
    "who": "SCU, SCP, listener or client",
    "name": "of the method",
    "arguments": "list",
    "depth": "of calls in callbacks",
    "ms": "since the beginning",
    "thread": "name of the thread",
}
_EVENTS: Final = {
    "call": _OF_A_CALL,
    "told": _OF_A_CALL,
    "file": {
        "name": "of the file",
        "what": "it is, in words",
        "transfer_syntax": "UID",
        "bytes": "of the data set",
        "identical": "whether it arrived byte for byte",
    },
    "summary": {
        "files": "how many there were",
        "identical": "how many arrived byte for byte",
        "bytes": "of all that arrived",
        "ms": "that it took",
    },
}


@click.command(
    "demo", cls=Command, events=_EVENTS, short_help="Show who calls what and who is told what, on real files."
)
@click.option(
    "--all", "show_all", is_flag=True, help="Draw every C-STORE, and on_send. Without it like ones are folded."
)
@requestor
def command(show_all: bool, calling: str, settings: Settings, output: Output) -> int:
    """Start an SCP and an SCU in this process, store CT, MR, US, RT and compressed files, release.

    Both are written on the DicomNet class, and talk through real sockets on 127.0.0.1. What arrives is compared with
    what was sent, byte for byte. Then the dialogue is drawn as it happened: time goes down, the SCU is on the left, the
    SCP on the right. "calls" is the program calling the library; "told" is the library calling it back, on a
    connection's own thread; indented is what is called inside a callback; an arrow ends where its PDU is received. The
    listening object of the SCP is "listener", the object of its one connection "client".

    \b
      dicomnet demo
      dicomnet demo --all | less
      dicomnet demo --json | jq 'select(.who == "client")'

    The exit code is 0 only if every file arrived intact.
    """
    from dicomnet.callbacks.recorder import Recorder

    files = [_load(name, what) for name, what in _FILES.items()]
    recorder = Recorder()
    stored, problem = _play(files, recorder, calling, settings)
    intact = _report(files, stored, recorder, output, show_all=show_all)
    if problem is not None:
        raise problem
    return 0 if intact else PEER_FAILED


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    what: str
    path: Path
    data: EncodedDataset


@dataclass(frozen=True, slots=True)
class _Stored:
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    data: bytes


def _load(name: str, what: str) -> _File:
    from pydicom.data import get_testdata_file

    from dicomnet.dataset import EncodedDataset

    path = Path(str(get_testdata_file(name, download=False)))
    return _File(name, what, path, EncodedDataset.from_file(path))


# --- the two programs -----------------------------------------------------------------------------------------------


def _scu_class(files: Sequence[_File], calling: str, settings: Settings, done: threading.Event) -> type[DicomNet]:
    """The SCU: one method for each line of its part."""
    from dicomnet.callbacks import DicomAssociate, DicomNet, NetError, Security

    class Scu(DicomNet):
        def on_connect(self, error: NetError) -> None:
            if error:
                done.set()
            elif self.security is Security.NONE:
                self.send_associate_request(_proposal(files, calling, settings))

        def on_secure_link_ready(self, error: NetError) -> None:
            if not error:
                self.send_associate_request(_proposal(files, calling, settings))

        def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
            self.store(0)

        def store(self, index: int) -> None:
            file = files[index]
            uids = file.data.sop_class_uid, file.data.sop_instance_uid
            self.send_c_store_request(2 * index + 1, index + 1, *uids, 0, "", 0, file.path)

        def on_receive_c_store_response(self, pid: int, mid: int, cls: str, inst: str, st: int) -> None:
            if mid < len(files):
                self.store(mid)
            else:
                self.send_release_request()

        def on_receive_release_response(self) -> None:
            self.close()

        def on_close(self, error: Any, net: DicomNet) -> None:
            done.set()

    return Scu


def _proposal(files: Sequence[_File], calling: str, settings: Settings) -> Any:
    from dicomnet.callbacks import DicomAssociate

    associate = DicomAssociate(True)
    associate.default()
    associate.called, associate.calling = "DEMO_SCP", calling
    associate.user_identity = settings.identity()
    for index, file in enumerate(files):
        associate.add_presentation_context(2 * index + 1, 0, file.data.sop_class_uid)
        associate.add_transfer(2 * index + 1, file.data.transfer_syntax)
    return associate


def _scp_class(
    files: Sequence[_File], make_client: Any, stored: dict[int, _Stored], done: threading.Event
) -> type[DicomNet]:
    """The SCP, for the listening object and for the connection."""
    from dicomnet.callbacks import DicomAssociate, DicomNet, NetError

    class Scp(DicomNet):
        def on_accept(self, error: NetError) -> None:
            self.accept(make_client())

        def on_receive_associate_request(self, associate: DicomAssociate) -> None:
            supported = [file.data.sop_class_uid for file in files]
            self.send_associate_accept(DicomAssociate.accepting(associate, supported))

        def on_receive_c_store_request(self, pid: int, mid: int, cls: str, inst: str, *rest: Any) -> None:
            ds: EncodedDataset = rest[-1]
            stored[mid] = _Stored(cls, inst, ds.transfer_syntax, bytes(ds))
            self.send_c_store_response(pid, mid, cls, inst, 0)

        def on_receive_release_request(self) -> None:
            self.send_release_response()

        def on_close(self, error: Any, net: DicomNet) -> None:
            done.set()

    return Scp


def _play(
    files: Sequence[_File], recorder: Recorder, calling: str, settings: Settings
) -> tuple[dict[int, _Stored], Failure | None]:
    """Let them talk; returns what the SCP stored, by message ID, and what went wrong, if anything did."""
    stored: dict[int, _Stored] = {}
    scu_done, scp_done = threading.Event(), threading.Event()
    timeouts, client_tls, server_tls = settings.timeouts(), settings.client_tls(), settings.server_tls()
    clients: list[type[DicomNet]] = []

    def make_client() -> DicomNet:
        return clients[0](timeouts=timeouts)

    # The SCP's part of the walk-through, and the SCU's; each calls by its own name.
    scp = _scp_class(files, make_client, stored, scp_done)
    clients.append(recorder.watch(scp, "client"))
    scp_program = recorder.watch(scp, "SCP")
    scp_program.startup()
    listener = recorder.watch(scp, "listener")(timeouts=timeouts, tls=server_tls)
    listener.listen("127.0.0.1", 0, 5)
    scu_class = recorder.watch(_scu_class(files, calling, settings, scu_done), "SCU")
    scu_class.startup()
    scu = scu_class(timeouts=timeouts, tls=client_tls)
    scu.connect("", 0, "127.0.0.1", listener.host_port)
    over = scu_done.wait(_PATIENCE)
    if over and any(entry.name == "accept" for entry in recorder.entries):
        scp_done.wait(_PATIENCE)
    scu_class.shutdown()
    listener.close()
    scp_program.shutdown()
    if over and scu.last_error is None:
        return stored, None
    why = f"not done within {_PATIENCE:.0f} s" if scu.last_error is None else str(scu.last_error)
    return stored, Failure(why, NO_ASSOCIATION if scu.association is None else HALF_WAY)


# --- what came of it ------------------------------------------------------------------------------------------------


def _report(
    files: Sequence[_File], stored: dict[int, _Stored], recorder: Recorder, output: Output, *, show_all: bool
) -> bool:
    """Tell it; True if every file arrived intact."""
    entries = [entry for entry in recorder.entries if show_all or output.json or entry.name not in _QUIET]
    if output.json:
        _tell_entries(entries, output)
    elif not output.quiet:
        _draw(entries, output, show_all=show_all)
    intact, total = 0, 0
    for mid, file in enumerate(files, start=1):
        same = _is_intact(file, stored.get(mid))
        intact += same
        total += file.data.size if same else 0
        text = f"  {file.name:30} {file.what:42} {size_text(file.data.size):>10}  "
        output.detail(
            "file",
            text + ("byte-identical" if same else "DID NOT ARRIVE INTACT"),
            name=file.name,
            what=file.what,
            transfer_syntax=file.data.transfer_syntax,
            bytes=file.data.size,
            identical=same,
        )
    milliseconds = recorder.entries[-1].when * 1000
    output.event(
        "summary",
        f"{intact} of {len(files)} data sets arrived byte-identical: {total:,} bytes, in {milliseconds:.0f} ms",
        files=len(files),
        identical=intact,
        bytes=total,
        ms=round(milliseconds, 3),
    )
    return intact == len(files)


def _is_intact(file: _File, stored: _Stored | None) -> bool:
    """What arrived is what stands in the file, from the data set's first byte to the file's last."""
    if stored is None:
        return False
    named = (stored.sop_class_uid, stored.sop_instance_uid, stored.transfer_syntax)
    expected = (file.data.sop_class_uid, file.data.sop_instance_uid, file.data.transfer_syntax)
    return named == expected and stored.data == bytes(file.data) and file.path.read_bytes().endswith(stored.data)


def _tell_entries(entries: Sequence[Entry], output: Output) -> None:
    from dicomnet.cli.ladder import argument_text

    for number, entry in enumerate(entries, start=1):
        output.event(
            "call" if entry.is_call else "told",
            number=number,
            who=entry.who,
            name=entry.name,
            arguments=[
                argument
                if isinstance(argument, str) or type(argument) in (int, type(None))
                else argument_text(argument)
                for argument in entry.arguments
            ],
            depth=entry.depth,
            ms=round(entry.when * 1000, 3),
            thread=entry.thread,
        )


def _draw(entries: Sequence[Entry], output: Output, *, show_all: bool) -> None:
    from dicomnet.cli.ladder import Ladder, fold
    from dicomnet.trace.drawing import ASCII, BOXES

    drawn: Sequence[Entry | int] = entries if show_all else fold(entries, "send_c_store_request")
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        fancy = not console.legacy_windows and console.encoding.lower().startswith("utf")
        for line in Ladder(console.width - 1, BOXES if fancy else ASCII).draw(drawn, "C-STORE"):
            _paint(console, line)
        console.print()
    else:
        width = shutil.get_terminal_size((_WIDTH, 0)).columns
        for line in Ladder(width, ASCII).draw(drawn, "C-STORE"):
            output.event("ladder", (line.time + line.left + line.arrow + line.right).rstrip())
        output.event("ladder", " ")


_STYLES: Final = {"call": "bold cyan", "told": "green", "wrong": "bold red", "fold": "dim", "rule": "bold"}


def _paint(console: Any, line: Line) -> None:
    from rich.text import Text

    style = _STYLES[line.kind]
    parts = ((line.time, "dim"), (line.left, style), (line.arrow, "yellow"), (line.right, style))
    console.print(Text.assemble(*parts), soft_wrap=True)
