"""A disk that is never filled (PS3.4 Table B.2-1: A700)."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet.inbox import Inbox, KeepFree, Layout, Room
from tests.cli.programs import CT, HOST, instance

GB = 10**9
Usage = namedtuple("Usage", "total used free")  # as shutil has it


@pytest.mark.parametrize(
    ("text", "total", "kept"),
    [("5GB", 100 * GB, 5 * GB), ("500MB", 100 * GB, GB // 2), ("5%", 100 * GB, 5 * GB), ("0", 100 * GB, 0),
     ("1.5 gb", 100 * GB, GB * 3 // 2), ("2TB", GB, GB), ("100%", GB, GB)],
)  # fmt: skip
def test_amounts(text: str, total: int, kept: int) -> None:
    assert KeepFree.parse(text).of(total) == kept


@pytest.mark.parametrize("text", ["", "much", "-1GB", "101%", "5 %%", "1e9", "GB"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"disk"):
        KeepFree.parse(text)


def test_the_default_suits_small_and_large_disks() -> None:
    assert KeepFree().of(10 * GB) == GB // 10
    assert KeepFree().of(50_000 * GB) == GB


class Disk:
    """One whose free space is known, and how often it was looked at."""

    def __init__(self, free: int, monkeypatch: Any) -> None:
        self.free, self.looks = free, 0
        monkeypatch.setattr(shutil, "disk_usage", self._usage)

    def _usage(self, _folder: str) -> Usage:
        self.looks += 1
        return Usage(100 * GB, 100 * GB - self.free, self.free)


def test_several_processes_never_promise_more_than_there_is(monkeypatch: Any) -> None:
    """Each of them looks now and then; none knows what the others are writing."""
    disk = Disk(GB + 100_000_000, monkeypatch)
    rooms = [Room("/", KeepFree(GB), 4) for _ in range(4)]
    written = 0
    with pytest.raises(OSError, match="no room") as caught:
        for turn in range(40_000):
            rooms[turn % 4].take(10_000)
            written += 14_096
            disk.free -= 14_096
    assert caught.value.errno == errno.ENOSPC
    assert 0.9 * 100_000_000 < written < 100_000_000 + 4 * 14_096
    assert disk.looks < 500


def test_it_is_not_looked_at_for_each_instance(monkeypatch: Any) -> None:
    disk = Disk(50 * GB, monkeypatch)
    room = Room("/", KeepFree(GB))
    for _ in range(1000):
        room.take(1000)
    assert disk.looks < 20


def test_an_inbox_without_room_stores_nothing(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, keep_free=KeepFree.parse("100%"))
    with pytest.raises(OSError, match="no room") as caught:
        inbox.keep(instance(1))
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.rglob("*.dcm")) == []


def test_what_comes_in_large_is_stopped_while_it_comes(tmp_path: Path) -> None:
    """What waits in a file counts while it is written; afterwards it is only renamed."""
    inbox = Inbox(tmp_path, layout=Layout("{SOPInstanceUID}"), keep_free=KeepFree())
    errors: list[OSError] = []
    inbox.spool_failed = errors.append
    ae = dicomnet.AE("STORE", contexts=[CT], spool_folder=inbox.spool_folder, limits=dicomnet.Limits(spool_size=1000))
    ae.on_c_store(lambda request: inbox.keep(request.dataset) and 0)
    with (
        dicomnet.serve(ae, HOST, 0) as server,
        dicomnet.associate(f"STORE@{HOST}:{server.port}", contexts=[CT]) as association,
    ):
        assert association.c_store(instance(1, size=3_000_000)).status == 0
        inbox._room = Room(str(tmp_path), KeepFree.parse("100%"))
        refused = association.c_store(instance(2, size=3_000_000))
    assert refused.status == 0xA700
    assert "no room" in refused.error_comment
    assert [error.errno for error in errors] == [errno.ENOSPC]
    assert os.listdir(tmp_path / ".incoming") == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounts a file system")
def test_a_disk_that_is_full_is_no_reason_to_leave_debris(tmp_path: Path) -> None:
    import subprocess

    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount here")
    try:
        inbox = Inbox(tmp_path, keep_free=KeepFree.parse("0"))
        inbox._room = None  # as if others had filled it since the last look
        inbox.keep(instance(1, size=100_000))
        with pytest.raises(OSError, match="No space"):
            inbox.keep(instance(2, size=300_000))
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["1.2.3.1.dcm"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
