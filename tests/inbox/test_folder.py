"""Instances in a folder: whatever is there already, none that was confirmed is lost (PS3.4 B.2.3)."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet.inbox import Inbox, Layout
from dicomnet.spool import create_spool_file
from tests.cli.programs import JPEG_LS, instance

FLAT = Layout("{SOPInstanceUID}.dcm")
SPOOLED = 2 << 20  # bytes


def stored(folder: Path) -> list[bytes]:
    return sorted(bytes(dicomnet.EncodedDataset.from_file(path)) for path in folder.rglob("*.dcm"))


def debris(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*") if path.is_file()]


def test_the_last_one_replaces_the_others(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, layout=FLAT)
    assert [inbox.keep(instance(1, size=size)).what for size in (10, 20, 30)] == ["stored", "replaced", "replaced"]
    assert stored(tmp_path) == [bytes(instance(1, size=30))]


def test_an_old_one_goes_only_when_the_new_one_is_on_the_disk(tmp_path: Path, monkeypatch: Any) -> None:
    """The order is: write, fsync, rename, fsync of the folder. What has no older one waits for no disk."""
    steps: list[str] = []
    for name in ("fsync", "replace", "link"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=original, **o: steps.append(n) or f(*a, **o))
    inbox = Inbox(tmp_path, layout=FLAT)
    inbox.keep(instance(1))
    assert steps == ["link"]
    inbox.keep(instance(1))
    assert steps == ["link", "link", "fsync", "replace", "fsync"]


def test_the_first_one_stays(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, layout=FLAT, duplicates="keep")
    assert [inbox.keep(instance(1, size=size)).what for size in (10, 20)] == ["stored", "same"]
    assert stored(tmp_path) == [bytes(instance(1, size=10))]


def test_different_ones_of_one_name_are_put_beside_each_other_once(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, layout=FLAT, duplicates="compare")
    sent = [instance(1, size=10), instance(1, size=20), instance(1, size=10, syntax=JPEG_LS)]
    assert [inbox.keep(one).what for one in (*sent, *sent)] == ["stored", "beside", "beside", "same", "same", "same"]
    assert stored(tmp_path) == sorted(map(bytes, sent))
    assert inbox.keep(sent[0]).path == "1.2.3.1.dcm"
    assert inbox.keep(sent[1]).path.startswith("1.2.3.1~")


@pytest.mark.parametrize("duplicates", ["keep", "compare"])
def test_a_file_that_is_not_this_instance_stays_and_loses_nothing(tmp_path: Path, duplicates: Any) -> None:
    (tmp_path / "1.2.3.1.dcm").write_text("notes")
    kept = Inbox(tmp_path, layout=FLAT, duplicates=duplicates).keep(instance(1))
    assert kept.what == "beside"
    assert (tmp_path / "1.2.3.1.dcm").read_text() == "notes"
    assert bytes(dicomnet.EncodedDataset.from_file(tmp_path / kept.path)) == bytes(instance(1))


@pytest.mark.parametrize("duplicates", ["keep", "compare"])
def test_what_a_power_cut_left_empty_is_no_instance(tmp_path: Path, duplicates: Any) -> None:
    (tmp_path / "1.2.3.1.dcm").touch()
    os.utime(tmp_path / "1.2.3.1.dcm", (time.time() - 100,) * 2)
    Inbox(tmp_path, layout=FLAT, duplicates=duplicates).keep(instance(1))
    assert stored(tmp_path) == [bytes(instance(1))]


def test_a_place_that_another_one_holds_is_not_taken_from_it(tmp_path: Path) -> None:
    """Without links: its file is empty until it is renamed into its place, and would take ours away."""
    (tmp_path / "1.2.3.1.dcm").touch()
    kept = Inbox(tmp_path, layout=FLAT, duplicates="compare").keep(instance(1))
    assert kept.what == "beside"
    instance(1, size=10).save(tmp_path / "1.2.3.1.dcm")
    assert stored(tmp_path) == sorted([bytes(instance(1)), bytes(instance(1, size=10))])


def test_a_folder_that_was_moved_away_and_made_anew_takes_large_instances(tmp_path: Path) -> None:
    folder = tmp_path / "inbox"
    inbox = Inbox(folder, layout=FLAT)
    folder.rename(tmp_path / "full")
    with pytest.raises(FileNotFoundError):
        create_spool_file(inbox.spool_folder)
    assert not folder.exists(), "where a disk should be there is no disk: nothing goes beside it"
    folder.mkdir()
    descriptor, path = create_spool_file(inbox.spool_folder)
    os.close(descriptor)
    assert Path(path).parent == folder / ".incoming"


def _keep_all(folder: Path, duplicates: Any, sizes: list[int]) -> list[str]:
    inbox = Inbox(folder, layout=FLAT, duplicates=duplicates)
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda size: inbox.keep(instance(size % 5, size=size)).what, sizes))


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    with get_context("spawn").Pool(2) as pool:
        yield pool


@pytest.mark.parametrize("duplicates", ["keep", "replace", "compare"])
def test_processes_and_threads_may_store_the_same_at_once(tmp_path: Path, duplicates: Any, processes: Any) -> None:
    """None overwrites what another one was told is stored, and a name never has half a file."""
    sizes = list(range(10, 60)) * 2
    told = processes.starmap(_keep_all, [(tmp_path, duplicates, sizes)] * 2)
    said = Counter(what for whats in told for what in whats)
    expected = {bytes(instance(size % 5, size=size)) for size in sizes}
    assert set(stored(tmp_path)) <= expected
    if duplicates == "compare":
        assert set(stored(tmp_path)) == expected
        assert said["stored"] + said["beside"] == 50
    else:
        assert len(stored(tmp_path)) == 5
    if duplicates == "keep":
        assert said == {"stored": 5, "same": 195}
    assert debris(tmp_path) == []


@pytest.mark.parametrize("without", [False, True])
@pytest.mark.parametrize("sync", [False, True])
def test_a_name_is_taken_or_not_also_without_links(tmp_path: Path, monkeypatch: Any, without: bool, sync: bool) -> None:
    """As on FAT."""
    if without:

        def refuse(*_paths: Any, **_options: Any) -> None:
            raise PermissionError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "x.dcm"
    instance(1, size=10).save(path, replace=False, sync=sync)
    with pytest.raises(FileExistsError):
        instance(1, size=20).save(path, replace=False, sync=sync)
    assert stored(tmp_path) == [bytes(instance(1, size=10))]
    assert debris(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux what a descriptor is")
def test_what_is_synced_is_on_the_disk_with_all_its_folders(tmp_path: Path, monkeypatch: Any) -> None:
    synced: list[str] = []
    original = os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path)) or original(fd),
    )
    inbox = Inbox(tmp_path, sync=True)
    inbox.keep(instance(1))
    assert {".", "P1", "P1/1.2.3"} < set(synced)
    assert synced[-1] == "P1/1.2.3/1.2.3.0"
    assert synced[-2].startswith("P1/1.2.3/1.2.3.0/.saving-")


def test_a_path_that_is_no_folder_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "P1").touch()
    with pytest.raises(OSError, match="P1"):
        Inbox(tmp_path).keep(instance(1))
    assert debris(tmp_path) == []
