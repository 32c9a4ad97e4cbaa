"""The command line as it is run: in processes of its own where signals and pipes matter, else in this one."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dicomnet

COMMAND = [sys.executable, "-m", "dicomnet"]
HOST = "127.0.0.1"
CT, MR, SC = (f"1.2.840.10008.5.1.4.1.1.{last}" for last in ("2", "4", "7"))
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
JPEG_LS = "1.2.840.10008.1.2.4.80"
_PATIENCE = 60.0  # seconds for a program to end, on a busy machine


def dicomnet_command(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=_PATIENCE, **options
    )


@dataclass
class Receive:
    """A running ``dicomnet receive``."""

    process: subprocess.Popen[str]
    folder: Path
    first_line: str

    @property
    def port(self) -> int:
        if self.first_line.startswith("{"):
            return int(json.loads(self.first_line)["port"])
        found = re.search(r":(\d+),", self.first_line)
        assert found is not None, self.first_line
        return int(found[1])

    @property
    def peer(self) -> str:
        return f"STORE@{HOST}:{self.port}"

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """End it by a signal: its exit code, and the rest of what it printed and complained about."""
        self.process.send_signal(number)
        printed, complained = self.process.communicate(timeout=_PATIENCE)
        return self.process.returncode, printed, complained

    def files(self) -> list[str]:
        """Paths of what it has stored, below the folder."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*.dcm"))


@contextlib.contextmanager
def receiving(folder: Path, *options: Any) -> Iterator[Receive]:
    process = subprocess.Popen(
        [*COMMAND, "receive", str(folder), "--port", "0", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield Receive(process, folder, process.stdout.readline())
        finally:
            process.kill()


def instance(
    number: int = 1, *, sop_class: str = CT, syntax: str = EXPLICIT, size: int = 64, **attributes: Any
) -> dicomnet.EncodedDataset:
    """A small instance, of the patient ``P1`` unless ``attributes`` say otherwise."""
    from pydicom import Dataset, config

    with config.disable_value_validation():
        dataset = Dataset()
        dataset.SOPClassUID = sop_class
        dataset.SOPInstanceUID = f"1.2.3.{number}"
        dataset.PatientID = "P1"
        dataset.StudyInstanceUID = "1.2.3"
        dataset.SeriesInstanceUID = "1.2.3.0"
        for name, value in attributes.items():
            setattr(dataset, name, value)
        dataset.add_new(0x00420011, "OB", bytes(size))  # Encapsulated Document
        encoded = dicomnet.EncodedDataset.from_dataset(dataset, syntax if syntax != JPEG_LS else EXPLICIT)
    return dicomnet.EncodedDataset(bytes(encoded), syntax, sop_class, str(dataset.SOPInstanceUID))


def file(folder: Path, number: int = 1, **attributes: Any) -> Path:
    """The same as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number}.dcm"
    instance(number, **attributes).save(path)
    return path
