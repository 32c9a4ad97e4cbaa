"""Received bytes in memory or in a file, and files that appear whole or not at all; also where the disk is full."""

import contextlib
import errno
import os
import resource
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from dicomnet import spool
from dicomnet.spool import ByteSpool, SpooledFile, replacing, write_all, write_new, write_whole


@contextlib.contextmanager
def full_disk(size):
    """No file of this process may become longer than ``size`` bytes: the next byte fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Headed(ByteSpool):
    def header(self):
        return b"HEADER"


def filled(pieces, most, folder, kind=ByteSpool):
    spooling = kind(most, folder)
    for piece in pieces:
        buffer = bytearray(piece)
        spooling.write(memoryview(buffer))
        spooling.flush()
        buffer[:] = bytes(len(buffer))  # as a socket's buffer is used again
    return spooling


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(0, 60))
def test_bytes_stay_in_memory_up_to_the_limit_and_lie_in_a_file_above(pieces, most):
    """Limits.spool_size: exactly what came, behind the header if in a file."""
    whole = b"".join(pieces)
    with tempfile.TemporaryDirectory() as folder:
        finished = filled(pieces, most, folder, Headed).finish()
        if len(whole) <= most:
            assert finished == whole
            assert os.listdir(folder) == []
        else:
            assert finished[1:] == (6, len(whole))
            assert Path(finished.path).read_bytes() == b"HEADER" + whole


def test_pieces_may_be_written_together(tmp_path):
    """As they lie in one segment: many pieces, one system call, more than it takes at once."""
    spooling = ByteSpool(10, tmp_path)
    for _ in range(1100):
        spooling.write(memoryview(b"0123456789"))
    finished = spooling.finish()
    assert Path(finished.path).read_bytes() == b"0123456789" * 1100


def test_many_small_pieces_take_no_more_memory_than_their_bytes():
    """A peer that sends a byte at a time: no object for each."""
    spooling = filled([b"x"] * 20_000, 1 << 20, None)
    assert len(spooling._kept) <= 3
    assert spooling.finish() == b"x" * 20_000


@pytest.mark.parametrize("size", [1000, 40_000])
def test_the_beginning_of_a_file_is_known_without_reading_it(tmp_path, size):
    """As much as came until it was opened, 16 KiB at most."""
    pieces = [bytes([number]) * size for number in range(60)]
    spooling = filled(pieces, 3 * size, tmp_path)
    spooling.finish()
    assert spooling.beginning == b"".join(pieces)[: min(4 * size, 16 * 1024)]


@given(st.lists(st.integers(0, 30)), st.lists(st.integers(0, 30)))
def test_memory_is_shared_with_what_others_hold(sizes, held):
    """``held``: as it is when a piece is taken."""
    others = iter(held)
    with tempfile.TemporaryDirectory() as folder:
        spooling = ByteSpool(50, folder, lambda: next(others, 0))
        total, in_file = 0, False
        for index, size in enumerate(size for size in sizes if size):
            spooling.write(memoryview(bytes(size)))
            spooling.flush()
            total += size
            in_file = in_file or total + (held[index] if index < len(held) else 0) > 50
            assert len(os.listdir(folder)) == in_file
        spooling.discard()


@pytest.mark.parametrize("most", [1, 100])
def test_discarded_bytes_leave_nothing(tmp_path, most):
    """P6: no file left."""
    spooling = filled([b"half"], most, tmp_path)
    assert len(os.listdir(tmp_path)) == (most == 1)
    spooling.discard()
    spooling.discard()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_an_error_as_a_value(tmp_path):
    """A file system that fails ends nobody's association: nothing is raised, all is taken."""
    finished = filled([b"12345", b"678"], 3, tmp_path / "missing").finish()
    assert isinstance(finished, FileNotFoundError)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_full_disk_is_an_error_as_a_value(tmp_path, at_once):
    """A700 can be answered; the half-written file is gone."""
    spooling = ByteSpool(100, tmp_path)
    with full_disk(64 * 1024):
        for _ in range(10):
            spooling.write(memoryview(bytes(10_000)))
            if not at_once:
                spooling.flush()
        finished = spooling.finish()
    assert isinstance(finished, OSError)
    assert finished.errno == errno.EFBIG
    assert os.listdir(tmp_path) == []


def test_an_error_that_only_closing_shows_is_an_error_as_a_value(tmp_path):
    """As on NFS; here the descriptor is closed by somebody else."""
    spooling = filled([b"12345"], 1, tmp_path)
    os.close(spooling._descriptor)
    finished = spooling.finish()
    assert isinstance(finished, OSError)
    assert finished.errno == errno.EBADF
    assert os.listdir(tmp_path) == []


def test_discarding_what_cannot_be_closed_raises_nothing(tmp_path):
    """A sink keeps its failures."""
    spooling = filled([b"12345"], 1, tmp_path)
    os.close(spooling._descriptor)
    spooling.discard()
    assert os.listdir(tmp_path) == []


# --- the private folder ---------------------------------------------------------------------------------------------


def test_the_private_folder_is_for_its_user_alone_and_comes_again_when_it_was_removed():
    """Programs that tidy up the temporary folder do not end the reception of large data sets."""
    first = filled([b"12345"], 1, None).finish()
    folder = Path(first.path).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    Path(first.path).unlink()
    folder.rmdir()
    second = filled([b"12345"], 1, None).finish()
    assert isinstance(second, SpooledFile)
    assert Path(second.path).read_bytes() == b"12345"
    Path(second.path).unlink()


def test_the_private_folder_goes_with_the_process_and_not_with_its_children():
    """Nothing is left in the temporary folder."""
    program = """
        import os, sys
        from dicomnet.spool import ByteSpool
        spool = ByteSpool(1, None)
        spool.write(memoryview(b"12345"))
        path = spool.finish().path
        if os.fork() == 0:
            sys.exit()
        os.wait()
        print(os.path.exists(path))
        print(os.path.dirname(path))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    was_there, folder = done.stdout.split()
    assert was_there == "True"
    assert Path(folder).name.startswith("dicomnet-")
    assert not Path(folder).exists()


def test_names_of_temporary_files_are_each_process_own(tmp_path):
    """Also of one that was forked: two that receive into one folder never meet."""
    first = filled([b"12345"], 1, tmp_path).finish()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(writer, filled([b"12345"], 1, tmp_path).finish().path.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        second = Path(pipe.read().decode())
    assert Path(first.path).name.startswith(f".receiving-{os.getpid()}-")
    assert second.name.startswith(f".receiving-{child}-")
    assert second.name.split("-")[2] != first.path.split("-")[-2]


# --- files that appear whole ----------------------------------------------------------------------------------------


def test_a_file_appears_when_it_is_complete(tmp_path):
    """Readers see the old one or the new one."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as descriptor:
        os.write(descriptor, b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    """And nothing else."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="File too large"), full_disk(1024), replacing(path) as descriptor:
        write_all(descriptor, [bytes(4096)])
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_name_that_cannot_be_replaced_leaves_nothing(tmp_path):
    """Here it is a folder."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"), replacing(tmp_path / "folder") as descriptor:
        os.write(descriptor, b"new")
    assert os.listdir(tmp_path) == ["folder"]


def test_several_writers_of_one_name_do_not_mix(tmp_path):
    """The last one to finish wins, whole."""
    path = tmp_path / "file"
    start = threading.Barrier(8)

    def write(digit):
        start.wait()
        for _ in range(20):
            with replacing(path) as descriptor:
                write_all(descriptor, [digit * 1000] * 3)

    threads = [threading.Thread(target=write, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = path.read_bytes()
    assert written == written[:1] * 3000
    assert os.listdir(tmp_path) == ["file"]


def test_a_relative_name_is_one_in_the_working_folder(tmp_path, monkeypatch):
    """``os.path.dirname`` of it is empty."""
    monkeypatch.chdir(tmp_path)
    with replacing("file") as descriptor:
        os.write(descriptor, b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    write_whole("file", [b"newer"])
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"newer"


def test_what_is_all_here_is_written_at_once(tmp_path):
    """The same promise, with the fewest system calls."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="File too large"), full_disk(1024):
        write_whole(str(path), [bytes(4096)])
    assert path.read_bytes() == b"old"
    write_whole(str(path), [b"12", b"", memoryview(b"345")])
    assert path.read_bytes() == b"12345"
    with pytest.raises(FileNotFoundError):
        write_whole(str(tmp_path / "missing" / "file"), [b""])
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_whole(str(tmp_path / "folder"), [b""])
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_name_that_is_taken_stays_taken(tmp_path, monkeypatch, unnamed):
    """Also by a link to nowhere, which is not followed; on Linux by way of a file without a name, elsewhere not."""
    if not unnamed:
        monkeypatch.setattr(spool, "_UNNAMED", 0)
    write_new(str(tmp_path / "file"), [b"12", memoryview(b"3")])
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            write_new(str(tmp_path / name), [b"new"])
    with pytest.raises(OSError, match="File too large"), full_disk(1024):
        write_new(str(tmp_path / "large"), [bytes(4096)])
    with pytest.raises(FileNotFoundError):
        write_new(str(tmp_path / "missing" / "file"), [b""])
    assert (tmp_path / "file").read_bytes() == b"123"
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]
    monkeypatch.chdir(tmp_path)
    write_new("relative", [b"4"])
    assert (tmp_path / "relative").read_bytes() == b"4"


@pytest.mark.skipif(not spool._UNNAMED, reason="Linux has files without a name")
def test_a_file_system_without_unnamed_files_is_asked_once(tmp_path, monkeypatch):
    asked, original = [], os.open

    def refuse(path, flags, *rest, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            asked.append(path)
            raise OSError(errno.EOPNOTSUPP, "not here")
        return original(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(spool, "_named_only", [])
    for name in ("1", "2"):
        write_new(str(tmp_path / name), [name.encode()])
    assert asked == [str(tmp_path)]
    assert [(tmp_path / name).read_bytes() for name in ("1", "2")] == [b"1", b"2"]


# --- writing --------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=10), max_size=10), st.sampled_from([1, 2, 512]))
def test_all_buffers_are_written_however_little_goes_at_once(buffers, most):
    """A pipe whose reader takes little makes short writes; so does a signal."""
    before, spool._MOST_BUFFERS = spool._MOST_BUFFERS, most
    try:
        with tempfile.TemporaryFile() as file:
            write_all(file.fileno(), buffers)
            file.seek(0)
            assert file.read() == b"".join(buffers)
    finally:
        spool._MOST_BUFFERS = before


def test_a_write_that_takes_less_than_all_is_continued():
    """A short write of many buffers: what is left follows."""
    reader, writer = os.pipe()
    os.set_blocking(writer, True)
    received = []

    def read():
        while piece := os.read(reader, 5000):
            received.append(piece)

    thread = threading.Thread(target=read)
    thread.start()
    buffers = [b"%06d" % number for number in range(50_000)]
    try:
        write_all(writer, buffers)
    finally:
        os.close(writer)
        thread.join()
        os.close(reader)
    assert b"".join(received) == b"".join(buffers)


def test_the_disk_may_be_full():
    """ENOSPC."""
    with open("/dev/full", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        write_all(file.fileno(), [b"123", b"456"])


def test_platforms_without_writev(monkeypatch, tmp_path):
    """Windows."""
    monkeypatch.delattr(os, "writev")
    with open(tmp_path / "file", "wb", buffering=0) as file:
        write_all(file.fileno(), [b"123", memoryview(b""), bytearray(b"456")])
    assert (tmp_path / "file").read_bytes() == b"123456"
