"""An SCP behind a proxy."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from pydicom import Dataset

import dicomnet
from dicomnet.models import MODELS
from dicomnet.trace.proxy import Proxy
from dicomnet.trace.records import Closed, Opened, Record

FEWER = settings(max_examples=settings.default.max_examples * 2 // 5)  # for what takes milliseconds an example
FIND = MODELS["study"][0]


class Records(list[Record]):
    """Records as they come, for who waits for the end of connections."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def take(self, record: Record) -> None:
        with self._changed:
            self.append(record)
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, 20)

    def all_ended(self) -> bool:
        return sum(isinstance(one, Opened) for one in self) == sum(isinstance(one, Closed) for one in self)


class Bench:
    """``ae`` is the SCP's, ``stored`` what has arrived; ``through`` puts a proxy in front of it."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.contents: dict[str, bytes] = {}
        self.ae = dicomnet.AE("SCP", contexts=[dicomnet.Verification, *dicomnet.StorageClasses, FIND])
        self.ae.on_c_store(self._keep)
        self.ae.on_c_find(self._matches)

    def _keep(self, request: Any) -> int:
        self.stored.append(request.sop_instance_uid)
        self.contents[request.sop_instance_uid] = b"".join(request.dataset.chunks())
        return 0

    def _matches(self, request: Any) -> Iterator[Dataset]:
        for number in range(3):
            match = Dataset()
            match.PatientName = f"DOE^{number}"
            match.StudyInstanceUID = f"1.2.{number}"
            yield match

    @contextlib.contextmanager
    def through(self, records: Records, **options: Any) -> Iterator[str]:
        """The peer to connect to. All connections have ended, and all records are there, when the block is left."""
        with dicomnet.serve(self.ae, "127.0.0.1", 0) as server:
            self.port = server.port
            with Proxy("127.0.0.1", 0, "127.0.0.1", server.port, on_record=records.take, **options) as proxy:
                yield f"SCP@127.0.0.1:{proxy.port}"
                records.wait_until(records.all_ended)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def exchange(bench: Bench) -> Callable[[str], None]:
    """C-ECHO and C-FIND; C-STORE of files that are not compressed; C-STORE of compressed ones; an abort.

    One association for each, one operation at a time.
    """

    def run(peer: str) -> None:
        from tests.pydicom_files import shipped

        with dicomnet.associate(peer, contexts=[dicomnet.Verification, FIND]) as association:
            association.c_echo()
            query = Dataset()
            query.QueryRetrieveLevel = "STUDY"
            query.PatientName = "DOE*"
            assert len(list(association.c_find(query))) == 3
        for names in (("CT_small.dcm", "MR_small.dcm"), ("JPEG2000.dcm", "JPEG-lossy.dcm", "MR_small_RLE.dcm")):
            files = [shipped(name) for name in names]
            assert all(one.error is None for one in dicomnet.send(files, peer, associations=1, window=1))
        dicomnet.associate(peer, contexts=[dicomnet.Verification]).abort()

    return run
