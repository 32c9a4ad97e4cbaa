"""What the tests of queries and retrieval share: SOP classes, identifiers, an archive's instances."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset

import dicomnet
from dicomnet import DicomNet, EncodedDataset, StatusError
from dicomnet.models import query_class
from tests.callbacks.recorder import Stage
from tests.faces.conftest import Scp
from tests.faces.wire import CT, EXPLICIT, GIVEN_UP

MakeScp = Callable[..., Scp]
FIND, MOVE, GET = (query_class("study", operation) for operation in ("find", "move", "get"))
MPPS = "1.2.840.10008.3.1.2.3.3"
UPS_PUSH, UPS_PULL = "1.2.840.10008.5.1.4.34.6.1", "1.2.840.10008.5.1.4.34.6.3"
CONTEXTS: list[Any] = [dicomnet.Verification, FIND, MOVE, GET, MPPS, (CT, [EXPLICIT])]


def study(number: int | str = 0, **attributes: Any) -> Dataset:
    """An identifier or a match: patient ``P<number>``."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel = "STUDY"
    dataset.PatientID = f"P{number}"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def image(number: int, size: int = 100) -> EncodedDataset:
    """The CT image 1.2.3.``number``."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, f"1.2.3.{number}"
    dataset.PatientID = f"P{number}"
    dataset.PixelData = bytes([number % 256]) * (size // 2 * 2)
    dataset["PixelData"].VR = "OW"
    return EncodedDataset.from_dataset(dataset)


def ids(matches: Any) -> list[str]:
    return [match.PatientID for match in matches]


def counts(steps: Any) -> list[tuple[int, ...]]:
    return [tuple(step) for step in steps]


def failure(loop: Any) -> StatusError:
    """What a loop over ``loop`` ends with."""
    with pytest.raises(StatusError) as error:
        list(loop)
    return error.value


def reached(event: threading.Event) -> None:
    assert event.wait(GIVEN_UP)


class Beside:
    """Calls ``function`` in a thread; ``result`` waits for it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._outcome: list[Any] = []
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._outcome.append(function())
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="beside", daemon=True)
        self._thread.start()

    def result(self) -> Any:
        self._thread.join(GIVEN_UP)
        assert not self._thread.is_alive(), "it has not ended"
        if self._error is not None:
            raise self._error
        return self._outcome[0]


@contextlib.contextmanager
def callbacks() -> Iterator[Stage]:
    """The callback class is started, and what it is told is recorded."""
    with DicomNet.session():
        stage = Stage()
        yield stage
        stage.end()
    stage.recorder.entries.clear()
