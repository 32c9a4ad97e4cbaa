"""Draws the README's pictures of the command line: ``python -m docs.screenshots [NAME...]``, from the root of the tree.

One idea: nothing is staged but the patients. Each picture is the screen of a real shell on a real terminal (the one of
the tests), in which the real program talks to a real peer on this machine; it becomes an SVG with text in it.

The peers are DCMTK's storescp and two of this process: an archive that answers queries, and a store that takes the time
for each instance that a PACS takes. ``make docs`` does not call this: pictures with times in them would change with
each run.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.cli.terminal import Terminal

import dicomnet

FOLDER = Path(__file__).parent / "images"
_HOST = "127.0.0.1"
_PACE = 0.02  # seconds that the store takes for an instance, as a PACS with a database does
_LARGEST = 60_000  # bytes of a picture

# --- a screen as SVG ------------------------------------------------------------------------------------------------

_CELL, _LINE, _EDGE, _BAR = 8.4, 18.0, 14.0, 30.0  # of a picture, in pixels
_GROUND, _INK = "#1b1f24", "#d6dae0"
_COLOURS = {
    "default": _INK, "black": "#3b4048", "red": "#ef6b73", "green": "#8ccf7e", "brown": "#e5c76b", "blue": "#67b0e8",
    "magenta": "#c47fd5", "cyan": "#6cbfbf", "white": "#d6dae0", "brightblack": "#8a929e", "brightred": "#ff8b92",
    "brightgreen": "#a5e695", "brightbrown": "#f2d98a", "brightblue": "#8cc8f7", "brightmagenta": "#d9a0e6",
    "brightcyan": "#8bd8d8", "brightwhite": "#ffffff",
}  # fmt: skip


def drawn(rows: list[list[Any]], title: str) -> str:
    """The cells of a screen as a picture."""
    columns = len(rows[0])
    width, height = columns * _CELL + 2 * _EDGE, len(rows) * _LINE + _BAR + 2 * _EDGE
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" role="img"'
        f' viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{_GROUND}"/>',
        *(
            f'<circle cx="{18 + 18 * at}" cy="16" r="5.5" fill="{c}"/>'
            for at, c in enumerate(("#ef6b73", "#e5c76b", "#8ccf7e"))
        ),
        '<text x="50%" y="20" text-anchor="middle" fill="#8a929e" font-family="sans-serif" font-size="12">'
        f"{escape(title)}</text>",
        '<g font-size="14" font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,\'DejaVu Sans Mono\',monospace">',
        *(part for number, row in enumerate(rows) for part in _line(row, _BAR + _EDGE + number * _LINE)),
        "</g></svg>",
    ]
    return "\n".join(parts) + "\n"


def _line(row: list[Any], y: float) -> Iterator[str]:
    """A text for each piece of one style, stretched to its cells whatever the font."""
    at = 0
    for (ink, ground, bold), cells in groupby(row, key=_style):
        text = "".join(cell.data for cell in cells)
        x, width = _EDGE + at * _CELL, len(text) * _CELL
        at += len(text)
        if ground != _GROUND:
            yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_LINE:g}" fill="{ground}"/>'
        weight = ' font-weight="bold"' if bold else ""
        for word in re.finditer(r"\S+( \S+)*", text):  # not every viewer keeps several blanks
            yield (
                f'<text x="{x + word.start() * _CELL:.1f}" y="{y + 13.5:.1f}" textLength="{len(word[0]) * _CELL:.1f}"'
                f' lengthAdjust="spacingAndGlyphs" fill="{ink}"{weight}>{escape(word[0])}</text>'
            )


def _style(cell: Any) -> tuple[str, str, bool]:
    ink = _COLOURS.get(cell.fg) or f"#{cell.fg}"
    ground = _GROUND if cell.bg == "default" else _COLOURS.get(cell.bg) or f"#{cell.bg}"
    return (ground, ink, cell.bold) if cell.reverse else (ink, ground, cell.bold)


# --- peers ----------------------------------------------------------------------------------------------------------

_PATIENTS = (
    ("ADAMS^EVE", "10007", "19580312", "20261102", "CT", "CT abdomen"),
    ("BAKER^SAM", "10012", "19830921", "20261102", "MR", "MR knee left"),
    ("BROWN^ZOË", "10031", "20010105", "20261103", "CT", "CT chest"),
    ("CHEN^LI", "10044", "19761130", "20261103", "US", "US thyroid"),
    ("COLE^MAX", "10058", "19660707", "20261104", "CT", "CT head"),
    ("DIAZ^ANA", "10063", "19920228", "20261104", "MR", "MR brain"),
)


@contextlib.contextmanager
def archive() -> Iterator[int]:
    """Answers study queries; its port."""
    from pydicom import Dataset

    from dicomnet.services.matching import Query

    find = dicomnet.models.query_class("study", "find")
    ae = dicomnet.AE("PACS", contexts=[dicomnet.Verification, find])

    @ae.on_c_find
    def studies(request: Any) -> Iterator[Dataset]:
        query = Query(request.dataset.decode())
        for number, (name, patient, born, date, modality, text) in enumerate(_PATIENTS, start=1):
            study = Dataset()
            study.SpecificCharacterSet = "ISO_IR 192"
            study.QueryRetrieveLevel = "STUDY"
            study.PatientName, study.PatientID, study.PatientBirthDate = name, patient, born
            study.StudyDate, study.ModalitiesInStudy, study.StudyDescription = date, modality, text
            study.StudyInstanceUID = f"1.2.826.0.1.{number}"
            study.NumberOfStudyRelatedInstances = str(37 * number)
            if query.matches(study):
                yield query.response(study)

    with dicomnet.serve(ae, _HOST, 0) as server:
        yield server.port


@contextlib.contextmanager
def store() -> Iterator[int]:
    """Takes instances at the pace of a PACS; its port."""
    ae = dicomnet.AE("PACS", contexts=[dicomnet.Verification, *dicomnet.StorageClasses], max_associations=16)

    @ae.on_c_store
    def keep(_request: Any) -> int:
        time.sleep(_PACE)
        return 0

    with dicomnet.serve(ae, _HOST, 0) as server:
        yield server.port


@contextlib.contextmanager
def storescp(folder: Path) -> Iterator[int]:
    """DCMTK's, which must be installed; its port."""
    program = shutil.which("storescp", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    assert program is not None, "the picture of probe needs DCMTK (apt-get install dcmtk)"
    with socket.create_server((_HOST, 0)) as free:
        port: int = free.getsockname()[1]
    command = [program, "--aetitle", "PACS", "--output-directory", str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not _listens(port):
                assert process.poll() is None, "storescp has ended"
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((_HOST, port), 1):
        return True
    return False


# --- scenes ---------------------------------------------------------------------------------------------------------


class Stage:
    """A folder with the program on the path, names for peers, and terminals."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        program = self.folder / "bin" / "dicomnet"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dicomnet "$@"\n')
        program.chmod(0o755)
        (self.folder / "work").mkdir()

    def name(self, name: str, peer: str) -> None:
        names = self.folder / ".config" / "dicomnet" / "dicomnet.toml"
        names.parent.mkdir(parents=True, exist_ok=True)
        with open(names, "a", encoding="utf-8") as file:
            file.write(f'[peers.{name}]\naddress = "{peer}"\n')

    def study(self, files: int) -> None:
        """A folder ``study`` of CT images, each of half a megabyte."""
        from tests.cli.programs import file

        for number in range(files):
            file(self.folder / "work" / "study", number, size=526_000)

    def terminal(self, columns: int = 90, lines: int = 60) -> Terminal:
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        shell = [shutil.which("bash") or "sh", "--norc", "--noprofile"]
        environment: dict[str, str | None] = {"PATH": path, "PS1": "$ ", "HOME": str(self.folder)}
        environment |= {"DICOMNET_CONFIG": None, "XDG_CONFIG_HOME": None}
        terminal = Terminal(shell, columns=columns, lines=lines, environment=environment, folder=self.folder / "work")
        self._stack.enter_context(terminal)
        terminal.wait_for(r"\$ $|^\$")
        return terminal


def run(terminal: Terminal, line: str, until: str) -> None:
    terminal.type(line + "\n")
    terminal.wait_for(until)


def send(stage: Stage) -> Terminal:
    with store() as port:
        stage.name("pacs", f"PACS@{_HOST}:{port}")
        stage.study(240)
        terminal = stage.terminal()
        run(terminal, "dicomnet echo pacs", r"success[^\n]*\n\$")
        run(terminal, "dicomnet send pacs study", r"[6-9]\d%")
    return terminal


def receive(stage: Stage) -> Terminal:
    terminal = stage.terminal()
    stage.study(4)
    run(terminal, "dicomnet receive incoming --ae STORE --port 0", r"listening as")
    port = terminal.wait_for(r"STORE@127\.0\.0\.1:(\d+)")[1]
    assert all(outcome.ok for outcome in dicomnet.send([stage.folder / "work" / "study"], f"STORE@{_HOST}:{port}"))
    terminal.wait_for(r"(?s)(stored.*){4}")
    terminal.press("ctrl-c")
    terminal.wait_for(r"\n\$")
    return terminal


def find(stage: Stage) -> Terminal:
    with archive() as port:
        stage.name("pacs", f"PACS@{_HOST}:{port}")
        terminal = stage.terminal()
        run(
            terminal,
            "dicomnet find pacs -k StudyDate=20261101-20261130 \\\n"
            "    --columns PatientName,PatientID,StudyDate,ModalitiesInStudy,StudyDescription",
            r"(?s)MR brain.*\n\$",
        )
    return terminal


def probe(stage: Stage) -> Terminal:
    with storescp(stage.folder) as port:
        stage.name("pacs", f"PACS@{_HOST}:{port}")
        terminal = stage.terminal(columns=100)
        run(terminal, "dicomnet probe pacs", r"(?s)probe pacs.*\n\$")
    return terminal


def trace(stage: Stage) -> Terminal:
    with store() as port:
        stage.study(3)
        terminal = stage.terminal(columns=100)
        run(terminal, f"dicomnet trace 0 PACS@{_HOST}:{port} --count 1", r"(?i)listening|forwarding")
        there = terminal.wait_for(rf"127\.0\.0\.1:(?!{port})(\d+)")[1]
        sent = dicomnet.send(
            [stage.folder / "work" / "study"], f"PACS@{_HOST}:{there}", associations=1, calling_ae="CT1"
        )
        assert all(outcome.ok for outcome in sent)
        terminal.wait_for(r"\n\$")
    return terminal


def peers(stage: Stage) -> Terminal:
    with store() as port, archive() as other:
        terminal = stage.terminal()
        run(terminal, f"dicomnet peers add pacs PACS@{_HOST}:{port} --calling CT1", r"pacs is [^$]*\n\$")
        run(
            terminal, f"dicomnet peers add archive ARCHIVE@{_HOST}:{other} --timeout connect=3", r"archive is [^$]*\n\$"
        )
        run(terminal, "dicomnet peers add old OLD@192.0.2.7:104 --timeout connect=1", r"old is [^$]*\n\$")
        run(terminal, "dicomnet peers test", r"FAILED[^$]*\n\$")
    return terminal


SCENES: dict[str, Callable[[Stage], Terminal]] = {
    "send": send,
    "receive": receive,
    "find": find,
    "probe": probe,
    "trace": trace,
    "peers": peers,
}


def picture(name: str) -> str:
    """The screen at the moment that the scene ends with."""
    with contextlib.ExitStack() as stack:
        stage = Stage(stack)
        terminal = SCENES[name](stage)
        rows = terminal.rows
        while rows and not "".join(cell.data for cell in rows[-1]).strip(" $"):
            rows.pop()
        svg = drawn(rows, f"dicomnet {name}")
        for private in (str(stage.folder), str(Path.home())):
            assert private not in svg, f"{name}: the picture shows {private}"
    assert len(svg) <= _LARGEST, f"{name}: {len(svg)} bytes"
    return re.sub(r"(?m) +$", "", svg)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.screenshots")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCENES)}; all if none is given")
    for name in parser.parse_args().names or SCENES:
        path = FOLDER / f"dicomnet-{name}.svg"
        path.write_text(picture(name), encoding="utf-8")
        print(f"{path.relative_to(Path.cwd())}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
