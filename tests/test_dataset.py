"""``EncodedDataset`` (api.md §4): bytes that nobody touches, in memory or in a file; every file that pydicom ships."""

import copy
import errno
import gc
import os
import pickle
import shutil
import struct
import tempfile
import threading
import tracemalloc
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnet.config import Limits
from dicomnet.dataset import UNCOMPRESSED, EncodedDataset, Spool, encode_for, load_file, prepare, spools
from dicomnet.dimse.messages import CommandField, Request
from dicomnet.errors import InvalidDataset, NoAcceptedContext
from dicomnet.part10 import HEAD, header
from dicomnet.ul import negotiation
from dicomnet.ul.association import Association
from dicomnet.ul.negotiation import AcceptedContext
from dicomnet.views import inflate
from tests.pydicom_files import DICOM_FILES, OTHER_FILES, VARIED_FILES, WITHOUT_PREFIX, name, shipped
from tests.test_spool import full_disk

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.50"
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"


def read_with_remarks(test):
    """pydicom warns of what is wrong in some of its files, when they are read and when values are used."""
    for remark in ("Expected explicit VR, but found implicit VR", "Invalid value for VR"):
        test = pytest.mark.filterwarnings(f"ignore:{remark}:UserWarning")(test)
    return test


def received(dataset, folder, spool_size=1 << 20, titles=("SENDER", "RECEIVER"), limits=None):
    """``dataset`` as it comes over a network."""
    limits = limits or Limits(spool_size=spool_size)
    uids = (dataset.sop_class_uid, dataset.sop_instance_uid)
    spool = Spool(dataset.transfer_syntax, *uids, titles, limits, folder)
    for chunk in dataset.chunks(5000):
        spool.write(memoryview(chunk))
        spool.flush()
    return spool.close()


def deflate(data):
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def tree(folder):
    return sorted(os.listdir(folder))


# --- files in the field ---------------------------------------------------------------------------------------------


@read_with_remarks
@pytest.mark.parametrize("path", DICOM_FILES, ids=name)
def test_a_file_is_found_to_be_what_pydicom_reads(path, tmp_path):
    """PS3.10 7.1; N-33: the data set byte for byte, its UIDs, and every element; odd files, too."""
    dataset = EncodedDataset.from_file(path)
    read = pydicom.dcmread(path, force=True)
    data = path.read_bytes()
    encoded = bytes(dataset)
    assert dataset.size == len(dataset) == len(encoded)
    assert data.endswith(encoded)
    if "TransferSyntaxUID" in read.file_meta:
        assert dataset.transfer_syntax == read.file_meta.TransferSyntaxUID
    if "FileMetaInformationGroupLength" in read.file_meta:
        assert len(data) - len(encoded) == 132 + 12 + read.file_meta.FileMetaInformationGroupLength
    assert dataset.sop_class_uid == read.get("SOPClassUID", read.file_meta.get("MediaStorageSOPClassUID", ""))
    assert dataset.sop_instance_uid == read.get("SOPInstanceUID", read.file_meta.get("MediaStorageSOPInstanceUID", ""))
    decoded = dataset.decode()
    assert decoded == read
    assert decoded.file_meta.TransferSyntaxUID == dataset.transfer_syntax
    assert dataset.decode() is decoded
    with dataset.view() as view:
        assert bytes(view.data) == encoded


@read_with_remarks
@pytest.mark.parametrize("path", VARIED_FILES, ids=name)
@pytest.mark.parametrize("spool_size", [1, 1 << 30])
def test_what_is_received_is_saved_byte_for_byte(path, tmp_path, spool_size):
    """api.md §4, PS3.10 7.1: both AE titles in the file meta information; pydicom reads what is saved."""
    original = EncodedDataset.from_file(path)
    dataset = received(original, tmp_path, spool_size)
    assert bytes(dataset) == bytes(original)
    dataset.save(tmp_path / "saved.dcm")
    assert tree(tmp_path) == ["saved.dcm"]
    assert (tmp_path / "saved.dcm").read_bytes().endswith(bytes(original))
    meta = pydicom.filereader.read_file_meta_info(tmp_path / "saved.dcm")
    assert meta.TransferSyntaxUID == original.transfer_syntax
    assert (meta.SendingApplicationEntityTitle, meta.ReceivingApplicationEntityTitle) == ("SENDER", "RECEIVER")
    again = EncodedDataset.from_file(tmp_path / "saved.dcm")
    assert bytes(again) == bytes(original)
    assert (again.sop_class_uid, again.sop_instance_uid) == (original.sop_class_uid, original.sop_instance_uid)
    if original.sop_class_uid and original.transfer_syntax != DEFLATED:
        assert pydicom.dcmread(tmp_path / "saved.dcm") == pydicom.dcmread(path, force=True)


@pytest.mark.parametrize("path", OTHER_FILES, ids=name)
@pytest.mark.filterwarnings("ignore:VR lookup failed for the raw element:UserWarning")
def test_other_files_are_no_data_sets(path):
    """InvalidDataset, whatever is in them."""
    with pytest.raises(InvalidDataset, match="this is not a DICOM file"):
        EncodedDataset.from_file(path)


def test_files_without_prefix_are_among_them():
    """The lists above are not empty by mistake."""
    assert len(DICOM_FILES) > 150
    assert len(OTHER_FILES) > 10
    assert set(WITHOUT_PREFIX) < set(DICOM_FILES)


def test_what_is_no_file_is_an_os_error(tmp_path):
    """OSError, as ``open`` raises it."""
    with pytest.raises(FileNotFoundError):
        EncodedDataset.from_file(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        EncodedDataset.from_file(tmp_path)


def test_an_empty_file_is_no_data_set(tmp_path):
    """InvalidDataset."""
    (tmp_path / "empty").touch()
    with pytest.raises(InvalidDataset):
        EncodedDataset.from_file(tmp_path / "empty")


def test_a_file_whose_data_set_is_empty(tmp_path):
    """Zero bytes, of a data set that its meta information describes."""
    (tmp_path / "file").write_bytes(header(EXPLICIT, CT, "1.2.3", None))
    dataset = EncodedDataset.from_file(tmp_path / "file")
    assert (dataset.size, bytes(dataset), dataset.sop_instance_uid) == (0, b"", "1.2.3")
    assert len(dataset.decode()) == 0
    with dataset.view() as view:
        assert bytes(view.data) == b""
    dataset.save(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == (tmp_path / "file").read_bytes()


def test_the_data_set_says_what_it_is_not_its_meta_information(tmp_path):
    """PS3.10 7.1 only repeats it."""
    data = bytes(EncodedDataset.from_file(shipped("CT_small.dcm")))
    (tmp_path / "file").write_bytes(header(EXPLICIT, MR, "9.9", None) + data)
    assert EncodedDataset.from_file(tmp_path / "file").sop_class_uid == CT


def test_a_meta_information_longer_than_what_is_read_at_once(tmp_path):
    """PS3.10 7.1: private information may have any length; then pydicom finds where it ends."""
    original = shipped("CT_small.dcm").read_bytes()
    offset = len(original) - EncodedDataset.from_file(shipped("CT_small.dcm")).size
    private = struct.pack("<HH2sxxI", 2, 0x0102, b"OB", 2 * HEAD) + bytes(2 * HEAD)
    (tmp_path / "file").write_bytes(original[:offset] + private + original[offset:])
    dataset = EncodedDataset.from_file(tmp_path / "file")
    assert bytes(dataset) == original[offset:]
    assert (dataset.transfer_syntax, dataset.sop_class_uid) == (EXPLICIT, CT)


def test_a_small_file_to_be_sent_is_read_once(tmp_path):
    """``load_file``: kept in memory if one read takes it all."""
    small, large = shipped("MR_small.dcm"), shipped("CT_small.dcm")
    assert small.stat().st_size <= HEAD < large.stat().st_size
    copy = shutil.copy(small, tmp_path)
    dataset = load_file(copy)
    os.unlink(copy)
    assert bytes(dataset) == bytes(EncodedDataset.from_file(small))
    assert "in memory" in repr(dataset)
    assert "in a file" in repr(load_file(large))
    bare = shutil.copy(shipped("rtstruct.dcm"), tmp_path)
    dataset = load_file(bare)
    os.unlink(bare)
    assert bytes(dataset) == shipped("rtstruct.dcm").read_bytes()


# --- files that change ----------------------------------------------------------------------------------------------


@pytest.fixture
def in_file(tmp_path):
    return EncodedDataset.from_file(shutil.copy(shipped("CT_small.dcm"), tmp_path / "file"))


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_a_file_that_became_shorter_is_noticed(in_file, tmp_path, size):
    """InvalidDataset, before anything is sent; a copy is not made."""
    os.truncate(tmp_path / "file", size)
    with pytest.raises(InvalidDataset, match="shorter"), in_file.view():
        pass
    with pytest.raises(InvalidDataset, match="shorter"):
        bytes(in_file)
    with pytest.raises(InvalidDataset, match="shorter"):
        in_file.decode()
    with pytest.raises(InvalidDataset, match="shorter"):
        in_file.save(tmp_path / "copy")
    assert tree(tmp_path) == ["file"]


def test_a_file_that_is_gone_is_an_os_error(in_file, tmp_path):
    """OSError."""
    (tmp_path / "file").unlink()
    for use in (in_file.inner_uids, in_file.decode, in_file.__bytes__, lambda: in_file.view().__enter__()):
        with pytest.raises(FileNotFoundError):
            use()


def test_pieces_of_a_view_may_outlive_it(in_file):
    """Where sending failed, the traceback holds some; that must not hide why."""
    with pytest.raises(ZeroDivisionError), in_file.view() as view:
        piece = view.data[10:20]
        raise ZeroDivisionError
    assert bytes(piece) == bytes(in_file)[10:20]


def test_pages_that_were_sent_are_given_back(tmp_path):
    """Memory stays flat: what has gone need not stay resident; it can be read again all the same."""
    prefix = header(EXPLICIT, CT, "1.2.3", None)
    with open(tmp_path / "large", "wb") as file:
        file.write(prefix)
        file.truncate(len(prefix) + (20 << 20))
        file.seek(-4, os.SEEK_END)
        file.write(b"last")
    dataset = EncodedDataset.from_file(tmp_path / "large")
    with dataset.view() as view:
        for end in (1 << 20, 10 << 20, 11 << 20, dataset.size):
            assert not view.data[end - 5 : end - 4].tobytes().strip(b"\0")
            view.passed(end)
        assert view.data[-4:].tobytes() == b"last"
    with EncodedDataset(bytes(9 << 20), EXPLICIT).view() as view:
        view.passed(9 << 20)  # memory cannot be given back


# --- spooling and saving --------------------------------------------------------------------------------------------


def test_a_data_set_waits_in_memory_or_in_a_file(tmp_path):
    """Limits.spool_size: up to it in memory, above it in a file that goes with the object."""
    original = EncodedDataset.from_file(shipped("CT_small.dcm"))
    small = received(original, tmp_path, original.size)
    assert "in memory" in repr(small)
    assert tree(tmp_path) == []
    large = received(original, tmp_path, original.size - 1)
    assert "in a file" in repr(large)
    (waiting,) = tmp_path.iterdir()
    assert EncodedDataset.from_file(waiting).decode() == large.decode() == small.decode()
    assert small.inner_uids() == large.inner_uids() == (CT, original.sop_instance_uid)
    del large
    gc.collect()
    assert tree(tmp_path) == []


def test_a_data_set_can_be_dropped_at_once(tmp_path):
    """``close``: the temporary file goes now; there may be none."""
    original = EncodedDataset.from_file(shipped("CT_small.dcm"))
    for spool_size in (1, 1 << 30):
        dataset = received(original, tmp_path, spool_size)
        dataset.close()
        dataset.close()
        assert tree(tmp_path) == []


def test_saving_a_waiting_data_set_renames_its_file(tmp_path):
    """api.md §4: within a file system; afterwards it lies there, and stays when the object goes."""
    dataset = received(EncodedDataset.from_file(shipped("CT_small.dcm")), tmp_path, 1)
    (waiting,) = tmp_path.iterdir()
    inode = waiting.stat().st_ino
    dataset.save(tmp_path / "saved")
    assert (tmp_path / "saved").stat().st_ino == inode
    encoded = bytes(dataset)
    dataset.save(tmp_path / "second")  # a copy
    assert (tmp_path / "second").read_bytes() == (tmp_path / "saved").read_bytes()
    del dataset
    gc.collect()
    assert tree(tmp_path) == ["saved", "second"]
    assert bytes(EncodedDataset.from_file(tmp_path / "saved")) == encoded


def test_a_saved_data_set_is_found_when_the_working_folder_changes(tmp_path, monkeypatch):
    """The path is made absolute when it becomes the data set's own."""
    dataset = received(EncodedDataset.from_file(shipped("CT_small.dcm")), tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    dataset.save("saved")
    monkeypatch.chdir("/")
    assert len(bytes(dataset)) == dataset.size


def other_file_system(folder):
    """A folder in another file system than ``folder``, if this machine has one that can be written to."""
    for place in ("/dev/shm", "/tmp", "/var/tmp"):
        if os.access(place, os.W_OK) and os.stat(place).st_dev != os.stat(folder).st_dev:
            return tempfile.mkdtemp(dir=place)
    pytest.skip("this machine has one file system that can be written to")


def test_saving_into_another_file_system_copies(tmp_path):
    """api.md §4."""
    other = other_file_system(tmp_path)
    try:
        dataset = received(EncodedDataset.from_file(shipped("CT_small.dcm")), other, 1)
        dataset.save(tmp_path / "saved")
        assert tree(tmp_path) == ["saved"]
        assert bytes(EncodedDataset.from_file(tmp_path / "saved")) == bytes(dataset)
        assert len(tree(other)) == 1
        del dataset
        gc.collect()
        assert tree(other) == []
    finally:
        shutil.rmtree(other)


@pytest.mark.parametrize("spool_size", [1, 1 << 30])
def test_saving_where_that_cannot_be_is_an_os_error(tmp_path, spool_size):
    """OSError; the data set is still there."""
    original = EncodedDataset.from_file(shipped("CT_small.dcm"))
    dataset = received(original, tmp_path, spool_size)
    with pytest.raises(FileNotFoundError):
        dataset.save(tmp_path / "missing" / "file")
    assert bytes(dataset) == bytes(original)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_save_that_fails_leaves_the_old_file(tmp_path, in_memory):
    """A file appears whole or not at all."""
    original = EncodedDataset.from_file(shipped("CT_small.dcm"))
    dataset = received(original, tmp_path) if in_memory else original
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="File too large") as raised, full_disk(4096):
        dataset.save(tmp_path / "file")
    assert raised.value.errno == errno.EFBIG
    assert (tmp_path / "file").read_bytes() == b"old"
    assert tree(tmp_path) == ["file"]


def test_a_full_disk_is_what_the_sink_returns(tmp_path):
    """A value: the association lives, and A700 is answered."""
    original = EncodedDataset.from_file(shipped("CT_small.dcm"))
    with full_disk(4096):
        failed = received(original, tmp_path, 1)
    assert isinstance(failed, OSError)
    assert tree(tmp_path) == []


def test_several_threads_save_under_one_name(tmp_path):
    """Whole files only, and nothing left beside them."""
    names = ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm"]
    datasets = [EncodedDataset.from_file(shipped(file)) for file in names]
    start = threading.Barrier(len(datasets))

    def save(dataset):
        start.wait()
        for _ in range(20):
            dataset.save(tmp_path / "file")

    threads = [threading.Thread(target=save, args=(dataset,)) for dataset in datasets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tree(tmp_path) == ["file"]
    assert bytes(EncodedDataset.from_file(tmp_path / "file")) in [bytes(dataset) for dataset in datasets]


@given(st.binary(max_size=100), st.integers(1, 40))
def test_chunks_are_the_data_set(data, size):
    """No chunk is longer than asked for, none is empty."""
    chunks = list(EncodedDataset(data, EXPLICIT).chunks(size))
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= size for chunk in chunks)


# --- elements by their keywords --------------------------------------------------------------------------------------


@pytest.mark.parametrize("spool_size", [1, 1 << 30])
def test_an_element_is_an_attribute_by_its_keyword(tmp_path, spool_size):
    """api.md §4: ``request.dataset.PatientID``, whether it waits in memory or in a file."""
    dataset = received(EncodedDataset.from_file(shipped("CT_small.dcm")), tmp_path, spool_size)
    assert (dataset.PatientID, dataset.Rows) == ("1CT1", 128)
    assert len(dataset.PixelData) == 128 * 128 * 2
    assert dataset.PatientID == dataset.decode().PatientID
    assert hasattr(dataset, "PatientName")
    assert not hasattr(dataset, "PatientComments")


@pytest.mark.parametrize("attribute", ["NoSuchThing", "patient_id", "_PatientID", "OverlayData", "__array__"])
def test_what_is_no_keyword_is_no_attribute(attribute):
    """AttributeError, and nothing is decoded for it."""
    with pytest.raises(AttributeError, match=attribute):
        getattr(EncodedDataset(b"nothing that could be read", DEFLATED), attribute)


def test_an_element_of_what_cannot_be_read_is_an_error():
    """InvalidDataset, as ``decode`` raises it."""
    with pytest.raises(InvalidDataset):
        EncodedDataset(b"\xff" * 100, DEFLATED).PatientID  # noqa: B018


@pytest.fixture
def sparse(tmp_path):
    """A data set of 256 MB in a file."""
    head = header(EXPLICIT, CT, "1.2.3", None) + bytes(EncodedDataset.from_dataset(new_dataset(PatientID="P")))
    pixels = struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OW", 256 << 20)
    with open(tmp_path / "large", "wb") as file:
        file.write(head + pixels)
        file.truncate(len(head + pixels) + (256 << 20))
    return EncodedDataset.from_file(tmp_path / "large")


def test_what_lies_in_a_file_is_not_loaded_for_a_few_elements(sparse):
    """A handler that looks at a name does not cost the memory that the pixels would."""
    tracemalloc.start()
    try:
        assert sparse.PatientID == "P"
        assert "PixelData" not in sparse.decode(stop_before_pixels=True)
        assert sparse.decode(specific_tags=["PatientID"]).PatientID == "P"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_data_set_from_a_file_can_be_copied_and_pickled(tmp_path):
    """What pydicom read it from is no part of it."""
    dataset = EncodedDataset.from_file(shutil.copy(shipped("CT_small.dcm"), tmp_path))
    for copied in (copy.deepcopy(dataset.decode()), pickle.loads(pickle.dumps(dataset.decode()))):
        assert copied == dataset.decode()


# --- memory ---------------------------------------------------------------------------------------------------------


def test_what_is_kept_in_memory_is_known(tmp_path):
    """The received data sets of one association are bounded together."""
    original = EncodedDataset.from_file(shipped("CT_small.dcm"))
    assert original.in_memory == 0
    assert received(original, tmp_path, 1).in_memory == 0
    assert received(original, tmp_path).in_memory == original.size
    assert load_file(shipped("MR_small.dcm")).in_memory > 9000


def test_data_sets_share_what_memory_there_is(tmp_path):
    """Limits.spool_size: for all that one association holds, also while they grow."""
    association = Association(requestor=False)
    association.request = negotiation.request("TO", "FROM", [CT])
    held = 0
    open_sink = spools(association, Limits(spool_size=100), tmp_path, lambda: held)
    request = Request(CommandField.C_STORE, 1, CT, "1.2.3", has_dataset=True)
    results = []
    for others, size in ((0, 100), (0, 101), (60, 40), (60, 41), (200, 1)):
        sink = open_sink(request, AcceptedContext(1, CT, EXPLICIT))
        held = others
        sink.write(memoryview(bytes(size)))
        results.append(sink.close().in_memory)
    assert results == [100, 0, 40, 0, 0]
    sink = open_sink(request, AcceptedContext(1, CT, EXPLICIT))
    held = 0
    sink.write(memoryview(bytes(50)))
    sink.flush()
    held = 60
    sink.write(memoryview(b"\1" * 10))
    dataset = sink.close()
    assert dataset.in_memory == 0
    assert bytes(dataset) == bytes(50) + b"\1" * 10
    dataset.save(tmp_path / "saved")
    meta = pydicom.filereader.read_file_meta_info(tmp_path / "saved")
    assert (meta.SendingApplicationEntityTitle, meta.ReceivingApplicationEntityTitle) == ("FROM", "TO")


@pytest.mark.parametrize("size", [0, 1, 100, 16 * 1024, 1 << 20])
@pytest.mark.parametrize("spool_size", [1, 1 << 30])
def test_the_first_bytes(tmp_path, spool_size, size):
    """``head``: as many as were asked for, or all; those of a received file from memory as far as they are there."""
    original = EncodedDataset.from_file(shipped("CT_small.dcm"))
    dataset = received(original, tmp_path, spool_size)
    assert dataset.head(size) == bytes(original)[:size]
    assert EncodedDataset(bytearray(b"abc"), EXPLICIT).head(size) == b"abc"[:size]


# --- hostile input --------------------------------------------------------------------------------------------------


@given(st.binary(max_size=400), st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG, "1.2.3", ""]))
def test_random_bytes_decode_or_are_invalid(data, transfer_syntax):
    """Nothing but InvalidDataset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pydicom makes of noise is its business
        try:
            EncodedDataset(data, transfer_syntax).decode()
        except InvalidDataset as error:
            assert str(error)  # noqa: PT017


@given(st.binary(min_size=1, max_size=400))
def test_random_files_are_data_sets_or_invalid(data):
    """Nothing but InvalidDataset."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in (data, bytes(128) + b"DICM" + data):
            path = Path(folder, "file")
            path.write_bytes(content)
            try:
                dataset = EncodedDataset.from_file(path)
            except InvalidDataset:
                continue
            assert content.endswith(bytes(dataset))


def test_damaged_files_decode_or_are_invalid():
    """Nothing but InvalidDataset: each byte among the first elements changed, and the end cut off anywhere."""
    data = bytes(EncodedDataset.from_file(shipped("rtplan.dcm")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for at in range(400):
            for damaged in (data[:at] + b"\xff" + data[at + 1 :], data[: 2 * at]):
                try:
                    EncodedDataset(damaged, IMPLICIT).decode()
                except InvalidDataset:
                    continue


def test_a_bare_file_that_pydicom_fails_on_is_invalid(tmp_path):
    """InvalidDataset, whatever pydicom raises."""
    (tmp_path / "file").write_bytes(nested(10_000, EXPLICIT, undefined=True))
    with pytest.raises(InvalidDataset, match="this is not a DICOM file"):
        EncodedDataset.from_file(tmp_path / "file")


def nested(levels, transfer_syntax, *, undefined):
    """Sequences in sequences, written from the outside to the inside."""
    order = ">" if transfer_syntax == BIG_ENDIAN else "<"
    explicit = transfer_syntax != IMPLICIT
    size = 20 if explicit else 16
    parts, ends = [], b""
    for level in range(levels):
        inner = 0 if undefined else size * (levels - level - 1)
        length, item = (0xFFFFFFFF, 0xFFFFFFFF) if undefined else (inner + 8, inner)
        if explicit:
            parts.append(struct.pack(f"{order}HH2sxxI", 0x0040, 0xA730, b"SQ", length))
        else:
            parts.append(struct.pack(f"{order}HHI", 0x0040, 0xA730, length))
        parts.append(struct.pack(f"{order}HHI", 0xFFFE, 0xE000, item))
    if undefined:
        ends = struct.pack(f"{order}HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * levels
    return b"".join(parts) + ends


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_sequences_nest_as_deep_as_the_limit_and_no_deeper(transfer_syntax, undefined):
    """Limits.sequence_nesting: 64 levels by default; ten thousand do not end the process."""
    for levels, allowed in ((64, True), (65, False), (10_000, False)):
        data = nested(levels, transfer_syntax, undefined=undefined)
        dataset = EncodedDataset(deflate(data) if transfer_syntax == DEFLATED else data, transfer_syntax)
        if allowed:
            assert len(dataset.decode().ContentSequence) == 1
        else:
            with pytest.raises(InvalidDataset):
                dataset.decode()


def test_a_sequence_that_hides_as_unknown_is_counted(recwarn):
    """PS3.5 6.2.2: VR UN of a known element is what the dictionary says; an empty one is none."""
    inner = nested(70, IMPLICIT, undefined=False)[8:]
    hidden = struct.pack("<HH2sxxI", 0x0040, 0xA730, b"UN", len(inner)) + inner
    with pytest.raises(InvalidDataset, match="too deep"):
        EncodedDataset(hidden, EXPLICIT).decode()
    for vr in (b"UN", b"SQ"):
        empty = EncodedDataset(struct.pack("<HH2sxxI", 0x0040, 0xA730, vr, 0), EXPLICIT)
        assert len(empty.decode().ContentSequence or ()) == 0


def test_decoding_reads_no_more_values_than_it_must():
    """A data set is decoded when a user touches it: the check of the nesting leaves the values alone."""
    decoded = EncodedDataset.from_file(shipped("CT_small.dcm")).decode()
    assert decoded.get_item("PatientName").is_raw
    assert decoded.get_item("PixelData").is_raw


@pytest.mark.parametrize(
    "limits", [Limits(inflation_ratio=200), Limits(inflated_size=1 << 20), Limits(inflation_ratio=1, inflated_size=1)]
)
def test_a_bomb_is_not_inflated(limits):
    """Limits: 200:1 and 1 GiB, streamed: memory never holds more than that, nor more than a piece above it."""
    bomb = deflate(bytes(30 << 20))
    dataset = EncodedDataset(bomb, DEFLATED, limits=limits)
    with pytest.raises(InvalidDataset, match="inflate to more than"):
        dataset.decode()
    inflated = 0
    with pytest.raises(InvalidDataset):
        for piece in inflate(iter([bomb]), len(bomb), limits):
            inflated += len(piece)
    assert inflated <= min(limits.inflated_size, limits.inflation_ratio * len(bomb))


def test_what_is_no_deflated_stream_is_invalid():
    """PS3.5 A.5: garbage, and a stream that is cut off."""
    whole = bytes(EncodedDataset.from_file(shipped("image_dfl.dcm")))
    for data in (b"\xff\xff\xff", whole[:-1000], whole[:10]):
        with pytest.raises(InvalidDataset, match="cannot be inflated"):
            EncodedDataset(data, DEFLATED).decode()
    assert len(EncodedDataset(b"", DEFLATED).decode()) == 0


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(0, 3))
def test_inflating_gives_what_was_deflated(data, size, padding):
    """PS3.5 A.5: whatever the chunks; what follows the stream is padding."""
    deflated = deflate(data * 100) + bytes(padding)
    chunks = [deflated[start : start + size] for start in range(0, len(deflated), size)]
    assert b"".join(inflate(iter(chunks), len(deflated), Limits(inflation_ratio=10**6))) == data * 100


def test_options_are_those_of_dcmread():
    """api.md §4: with options nothing is kept."""
    dataset = EncodedDataset.from_file(shipped("CT_small.dcm"))
    short = dataset.decode(stop_before_pixels=True)
    assert "PixelData" not in short
    assert "PixelData" in dataset.decode()
    assert "PatientID" not in dataset.decode(specific_tags=["PatientName"])
    assert dataset.decode(defer_size=1000).PixelData == dataset.decode().PixelData


# --- from pydicom ---------------------------------------------------------------------------------------------------


@read_with_remarks
@pytest.mark.parametrize("path", [path for path in VARIED_FILES if path.name != "SC_rgb_jpeg.dcm"], ids=name)
def test_a_pydicom_data_set_is_encoded_in_its_own_transfer_syntax(path):
    """Value-equal when it is read again, but for what the standard retired: group lengths (PS3.5 7.2)."""
    read = pydicom.dcmread(path, force=True)
    before = read.copy()
    dataset = EncodedDataset.from_dataset(read)
    assert dataset.transfer_syntax == EncodedDataset.from_file(path).transfer_syntax
    assert read == before
    assert dataset.decode() == without_group_lengths(read)


def without_group_lengths(dataset):
    kept = dataset[:]
    for tag in [tag for tag in kept.keys() if tag.element == 0]:  # noqa: SIM118
        del kept[tag]
    return kept


def new_dataset(**elements):
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, "1.2.3"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def test_a_new_data_set_is_encoded_in_explicit_vr():
    """Unless its meta information or the caller says otherwise."""
    dataset = new_dataset(PatientName="A^B")
    encoded = EncodedDataset.from_dataset(dataset)
    assert (encoded.transfer_syntax, encoded.sop_class_uid, encoded.sop_instance_uid) == (EXPLICIT, CT, "1.2.3")
    assert encoded.decode() == dataset
    assert EncodedDataset.from_dataset(dataset, IMPLICIT).decode() == dataset
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = BIG_ENDIAN
    assert EncodedDataset.from_dataset(dataset).transfer_syntax == BIG_ENDIAN
    identifier = EncodedDataset.from_dataset(Dataset())
    assert (identifier.sop_class_uid, identifier.sop_instance_uid, identifier.size) == ("", "", 0)


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_a_data_set_that_was_read_without_meta_information_keeps_its_encoding(transfer_syntax):
    """As ``pydicom.filereader.read_dataset`` gives it, or an item of a sequence."""
    encoded = EncodedDataset.from_dataset(new_dataset(PatientName="A^B"), transfer_syntax)
    item = encoded.decode()[:]
    assert EncodedDataset.from_dataset(item).transfer_syntax == transfer_syntax


def test_group_2_does_not_belong_to_a_data_set():
    """PS3.10 7.1; some programs put it there."""
    dataset = new_dataset()
    dataset.add_new(0x00020010, "UI", EXPLICIT)
    assert EncodedDataset.from_dataset(dataset).decode() == new_dataset()
    assert 0x00020010 in dataset


@pytest.mark.filterwarnings("ignore:A value of type 'str' cannot be assigned:UserWarning")
def test_what_pydicom_cannot_encode_is_invalid():
    """InvalidDataset."""
    dataset = new_dataset()
    dataset.add_new(0x00280010, "US", "no number")
    with pytest.raises(InvalidDataset, match="cannot encode"):
        EncodedDataset.from_dataset(dataset)


def test_sequences_that_nest_for_ever_are_invalid():
    """InvalidDataset, no RecursionError."""
    dataset = new_dataset()
    for _ in range(2000):
        outer = Dataset()
        outer.ContentSequence = Sequence([dataset])
        dataset = outer
    with pytest.raises(InvalidDataset, match="cannot encode"):
        EncodedDataset.from_dataset(dataset)


def test_compressed_pixel_data_is_encapsulated():
    """PS3.5 A.4: of undefined length if and only if compressed, whatever the element says of itself."""
    dataset = pydicom.dcmread(shipped("JPEG2000.dcm"))
    expected = bytes(EncodedDataset.from_dataset(dataset))
    dataset["PixelData"].is_undefined_length = False
    assert bytes(EncodedDataset.from_dataset(dataset)) == expected
    assert dataset["PixelData"].is_undefined_length is False  # the user's own data set is not changed
    with pytest.raises(InvalidDataset, match="cannot be written as"):
        EncodedDataset.from_dataset(dataset, EXPLICIT)
    del dataset.PixelData
    assert EncodedDataset.from_dataset(dataset, EXPLICIT).decode() == dataset


def test_native_pixel_data_is_not_encapsulated():
    """PS3.5 A.4."""
    dataset = pydicom.dcmread(shipped("CT_small.dcm"))
    with pytest.raises(InvalidDataset, match="encapsulated"):
        EncodedDataset.from_dataset(dataset, JPEG)
    dataset["PixelData"].is_undefined_length = True
    assert EncodedDataset.from_dataset(dataset, IMPLICIT).decode().PixelData == dataset.PixelData


# --- from one uncompressed transfer syntax to another ---------------------------------------------------------------

_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


def values(dataset, *, swapped):
    """Path of an element → its value; words that pydicom leaves as bytes in one byte order; empty is empty.

    Group lengths are not compared, nor what implicit VR cannot say of elements that no dictionary knows.
    """
    found = {}
    for element in dataset:
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                inner = values(item, swapped=swapped)
                found.update({(int(element.tag), number, *path): value for path, value in inner.items()})
        elif element.tag.element and element.VR != "UN":
            value = element.value
            if swapped and element.VR in _WORDS and value:
                size = _WORDS[element.VR]
                value = b"".join(value[at : at + size][::-1] for at in range(0, len(value), size))
            found[(int(element.tag),)] = value or None
    return found


def uncompressed_files():
    return [path for path in VARIED_FILES if EncodedDataset.from_file(path).transfer_syntax in UNCOMPRESSED]


@read_with_remarks
@pytest.mark.parametrize("path", uncompressed_files(), ids=name)
def test_uncompressed_data_sets_are_written_anew_without_loss(path):
    """PS3.5 A.1 to A.5: each transfer syntax from each; equal values as pydicom reads them."""
    original = EncodedDataset.from_file(path)
    expected = values(original.decode(), swapped=original.transfer_syntax == BIG_ENDIAN)
    for transfer_syntax in UNCOMPRESSED:
        transcoded = original.transcoded(transfer_syntax)
        assert transcoded.transfer_syntax == transfer_syntax
        assert transcoded.size % 2 == 0 or original.size % 2  # only of what was odd (PS3.5 7.1.1)
        assert transcoded.inner_uids() in (None, (original.sop_class_uid, original.sop_instance_uid))
        got = values(transcoded.decode(), swapped=transfer_syntax == BIG_ENDIAN)
        for path_, value in expected.items():
            if path_ in got or transfer_syntax != IMPLICIT:
                assert got[path_] == value, path_


@pytest.mark.parametrize(
    ("little", "big"),
    [("MR_small.dcm", "MR_small_bigendian.dcm"), ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm")],
)
def test_pixel_data_is_swapped_as_others_do_it(little, big):
    """PS3.5 7.3: the words of OW; these files are the same image in both byte orders."""
    little, big = (EncodedDataset.from_file(shipped(file)) for file in (little, big))
    assert little.transcoded(BIG_ENDIAN).decode().PixelData == big.decode().PixelData
    assert big.transcoded(EXPLICIT).decode().PixelData == little.decode().PixelData
    assert big.transcoded(IMPLICIT).decode().PixelData == little.decode().PixelData


def test_words_of_every_size_are_swapped_also_in_items():
    """PS3.5 7.3."""
    item = Dataset()
    item.add_new(0x00281201, "OW", b"\1\2\3\4")
    dataset = new_dataset(ContentSequence=[item])
    dataset.add_new(0x00660016, "OF", b"\1\2\3\4")
    dataset.add_new(0x00660040, "OL", b"\1\2\3\4")
    dataset.add_new(0x00720073, "OD", b"\1\2\3\4\5\6\7\10")
    dataset.add_new(0x00720082, "OV", b"")
    dataset.add_new(0x00420011, "OB", b"\1\2\3\4")
    decoded = EncodedDataset.from_dataset(dataset, BIG_ENDIAN).decode()
    assert decoded.ContentSequence[0][0x00281201].value == b"\2\1\4\3"
    assert decoded[0x00660016].value == decoded[0x00660040].value == b"\4\3\2\1"
    assert decoded[0x00720073].value == b"\10\7\6\5\4\3\2\1"
    assert decoded[0x00420011].value == b"\1\2\3\4"
    assert dataset[0x00660016].value == b"\1\2\3\4"  # the user's own data set is not changed


def test_compressed_data_sets_are_not_written_anew():
    """Only what loses nothing is done unasked."""
    dataset = EncodedDataset.from_file(shipped("JPEG2000.dcm"))
    assert dataset.transcoded(dataset.transfer_syntax) is dataset
    with pytest.raises(InvalidDataset, match="cannot be written as"):
        dataset.transcoded(EXPLICIT)
    with pytest.raises(InvalidDataset, match="cannot be written as"):
        EncodedDataset.from_file(shipped("CT_small.dcm")).transcoded(JPEG)


# --- what to send ---------------------------------------------------------------------------------------------------


def contexts(*syntaxes, sop_class=CT):
    return [AcceptedContext(2 * index + 1, sop_class, syntax) for index, syntax in enumerate(syntaxes)]


@pytest.mark.parametrize("kind", ["path", "string", "encoded", "pydicom"])
def test_a_data_set_goes_out_in_its_own_transfer_syntax_if_that_was_accepted(kind):
    """PS3.8 9.3.3.2: the context of its class and of its transfer syntax, wherever it stands."""
    path = shipped("CT_small.dcm")
    data = {"path": path, "string": str(path), "encoded": load_file(path), "pydicom": pydicom.dcmread(path)}[kind]
    offered = contexts(EXPLICIT, sop_class=MR) + contexts(IMPLICIT, JPEG, EXPLICIT)
    context, dataset = prepare(data, offered)
    assert context == offered[3]
    assert bytes(dataset) == bytes(EncodedDataset.from_file(path))


@pytest.mark.parametrize("kind", ["path", "encoded", "pydicom"])
@pytest.mark.parametrize("accepted", [IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_an_uncompressed_data_set_is_written_in_another_uncompressed_transfer_syntax(kind, accepted):
    """PS3.5 10.1: the first one that was accepted."""
    path = shipped("CT_small.dcm")
    data = {"path": path, "encoded": load_file(path), "pydicom": pydicom.dcmread(path)}[kind]
    context, dataset = prepare(data, contexts(JPEG, accepted, IMPLICIT))
    assert (context.id, dataset.transfer_syntax) == (3, accepted)
    assert dataset.decode().PatientName == "CompressedSamples^CT1"


@pytest.mark.parametrize(
    ("file", "accepted"),
    [
        ("CT_small.dcm", contexts(EXPLICIT, sop_class=MR)),  # another class
        ("CT_small.dcm", contexts(JPEG)),
        ("CT_small.dcm", []),
        ("JPEG2000.dcm", contexts(EXPLICIT, JPEG, sop_class="1.2.840.10008.5.1.4.1.1.7")),
        ("nested_priv_SQ.dcm", contexts(IMPLICIT)),  # which does not say what it is
    ],
)
def test_what_no_context_carries_is_not_sent(file, accepted):
    """NoAcceptedContext says what would have been needed and what there is."""
    with pytest.raises(NoAcceptedContext, match="was not accepted by the peer, or not proposed"):
        prepare(shipped(file), accepted)
    with pytest.raises(NoAcceptedContext):
        prepare(pydicom.dcmread(shipped(file)), accepted)


def test_what_cannot_be_read_is_not_sent(tmp_path):
    """InvalidDataset and OSError."""
    with pytest.raises(FileNotFoundError):
        prepare(tmp_path / "missing", contexts(EXPLICIT))
    with pytest.raises(InvalidDataset):
        prepare(shipped("README.txt"), contexts(EXPLICIT))


@pytest.mark.parametrize("kind", ["path", "encoded", "pydicom"])
def test_who_has_chosen_the_context_gets_the_bytes_for_it(kind):
    """``encode_for``: of any class, but only without loss."""
    path = shipped("CT_small.dcm")
    data = {"path": path, "encoded": load_file(path), "pydicom": pydicom.dcmread(path)}[kind]
    for syntax in UNCOMPRESSED:
        (context,) = contexts(syntax, sop_class=MR)
        dataset = encode_for(data, context)
        assert dataset.transfer_syntax == syntax
        assert dataset.decode().PatientID == "1CT1"
    with pytest.raises(NoAcceptedContext, match="does not fit presentation context 1"):
        encode_for(data, contexts(JPEG)[0])
