"""The stage of each test, and the check that nothing is left of it."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest

from dicomnet.callbacks import DicomNet
from tests.callbacks.recorder import Stage, eventually


@pytest.fixture
def stage() -> Iterator[Stage]:
    """The library is started, objects are recorded; at the end all that is open is closed, and nothing is left."""
    before = threading.active_count(), descriptors()
    with DicomNet.session():
        stage = Stage()
        yield stage
        stage.end()
    eventually(lambda: threading.active_count() <= before[0], f"threads end: {threading.enumerate()}")
    stage.recorder.entries.clear()
    del stage
    if descriptors() > before[1]:  # what exceptions and their tracebacks still hold
        gc.collect()
    eventually(lambda: descriptors() <= before[1], "descriptors are closed")


def descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:  # not on this platform
        return 0
