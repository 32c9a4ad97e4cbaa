"""``dicomnet.send``: each file ends in exactly one outcome (PS3.4 Annex B, as SCU)."""

import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate

import dicomnet
from dicomnet.sender import Outcome, contexts, pool, send
from dicomnet.sender.stock import Stock
from dicomnet.transcoding import REVERSIBLE
from tests.cli.conftest import Scp
from tests.cli.programs import BIG_ENDIAN, CT, EXPLICIT, HOST, IMPLICIT, JPEG_LS, MR, SC, file, instance
from tests.pydicom_files import shipped

Serve = Callable[..., Scp]
JPEG_LS_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"


def outcomes(paths: Any, peer: Any, **options: Any) -> list[Outcome]:
    return list(send(paths, getattr(peer, "peer", peer), **{"backoff": 0.001, "calling_ae": "ME"} | options))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Whatever happens, a sender's threads end with it."""
    yield
    gc.collect()  # a generator that a traceback kept alive
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("dicomnet send")] == []


# --- what is sent ---------------------------------------------------------------------------------------------------


def test_files_and_folders_go_in_order_on_one_association(tmp_path: Path, serve: Serve) -> None:
    one = file(tmp_path, 1)
    two = file(tmp_path / "folder", 2, sop_class=MR)
    three = file(tmp_path / "folder" / "deeper", 3, syntax=IMPLICIT)
    scp = serve()
    done = outcomes([one, str(tmp_path / "folder")], scp)
    assert [(outcome.path, outcome.status, outcome.error, outcome.attempts) for outcome in done] == [
        (one, 0, None, 1),
        (str(two), 0, None, 1),
        (str(three), 0, None, 1),
    ]
    assert [bytes(dataset) for dataset in scp.received] == [
        bytes(dicomnet.EncodedDataset.from_file(path)) for path in (one, two, three)
    ]
    assert len(scp.associations) == 1
    ended = scp.ended()
    assert (ended.error, ended.calling_ae, ended.called_ae) == (None, "ME", "SCP")


def test_one_path_is_enough(tmp_path: Path, serve: Serve) -> None:
    (done,) = outcomes(file(tmp_path), serve())
    assert done.ok
    assert done.size == len(instance())


def test_in_folders_what_is_no_instance_is_skipped(tmp_path: Path, serve: Serve) -> None:
    sent = file(tmp_path)
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    instance(2, sop_class="1.2.840.10008.1.3.10").save(tmp_path / "DICOMDIR")
    instance(3).save(tmp_path / ".receiving-1-2-3")
    bare = tmp_path / "bare"
    bare.write_bytes(bytes(instance(4)))
    skipped: list[Any] = []
    done = outcomes(tmp_path, serve(), on_skipped=skipped.append)
    assert {outcome.path for outcome in done if outcome.ok} == {sent, bare}
    assert len(done) == 2
    assert {path.name for path in skipped} == {"notes.txt", "empty", "pipe", "DICOMDIR"}


def test_what_cannot_be_sent_has_an_outcome_with_the_reason(tmp_path: Path, serve: Serve) -> None:
    text, directory, fifo = tmp_path / "text", tmp_path / "DICOMDIR", tmp_path / "pipe"
    text.write_text("not DICOM")
    instance(2, sop_class="1.2.840.10008.1.3.10").save(directory)
    os.mkfifo(fifo)
    nameless = file(tmp_path, 3, SOPInstanceUID="")
    strange = file(tmp_path, 4, SOPInstanceUID="1.2.ä")
    paths = [text, directory, fifo, tmp_path / "missing", nameless, strange]
    done = outcomes([*paths, file(tmp_path, 5)], serve())
    assert {outcome.path: type(outcome.error) for outcome in done} == {
        text: dicomnet.InvalidDataset,
        directory: dicomnet.InvalidDataset,
        fifo: dicomnet.InvalidDataset,
        tmp_path / "missing": FileNotFoundError,
        nameless: dicomnet.InvalidDataset,
        strange: dicomnet.InvalidDataset,
        tmp_path / "5.dcm": type(None),
    }
    assert len(done) == 7


def test_no_files_are_no_association(tmp_path: Path) -> None:
    assert outcomes([tmp_path], "SCP@nowhere.invalid") == []


# --- contexts -------------------------------------------------------------------------------------------------------


def test_each_pair_of_sop_class_and_transfer_syntax_is_proposed_by_itself(tmp_path: Path, serve: Serve) -> None:
    """PS3.8 7.1.1.13: of several transfer syntaxes in one context the acceptor takes one alone."""
    for number, (sop_class, syntax) in enumerate([(CT, EXPLICIT), (CT, IMPLICIT), (CT, JPEG_LS), (MR, BIG_ENDIAN)]):
        file(tmp_path, number, sop_class=sop_class, syntax=syntax)
    scp = serve()
    assert all(outcome.ok for outcome in outcomes(tmp_path, scp))
    proposed = [(c.abstract_syntax, c.transfer_syntaxes) for c in scp.associations[0].request.contexts]
    assert proposed == [
        (CT, (EXPLICIT,)),
        (CT, (IMPLICIT,)),
        (CT, (JPEG_LS,)),
        (MR, (BIG_ENDIAN,)),
        (CT, (EXPLICIT, IMPLICIT)),
        (MR, (EXPLICIT, IMPLICIT)),
        (CT, REVERSIBLE),
        (MR, REVERSIBLE),
    ]
    assert {dataset.transfer_syntax for dataset in scp.received} == {EXPLICIT, IMPLICIT, JPEG_LS, BIG_ENDIAN}


@pytest.mark.parametrize(("transcode", "sizes"), [("never", [128, 71]), ("lossless", [126, 126, 126, 126, 93])])
def test_past_128_contexts_the_next_association_follows(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, transcode: Any, sizes: list[int]
) -> None:
    """PS3.8 9.3.2.2: there are 128 presentation context IDs; none that a file may need is left out."""
    monkeypatch.setattr(pool, "_MOMENT", 60.0)  # however slow this machine is, all files are looked at before
    classes = [f"1.2.840.10008.5.1.4.1.1.{number}" for number in range(1, 200)]
    for number, sop_class in enumerate(classes):
        file(tmp_path, number, sop_class=sop_class)
    scp = serve(contexts=classes)
    done = outcomes(tmp_path, scp, associations=1, transcode=transcode)
    assert [outcome.status for outcome in done] == [0] * len(classes)
    proposed = [len(association.request.contexts) for association in scp.associations]
    assert sorted(proposed, reverse=True) == sizes
    assert [scp.ended().error for _ in scp.associations] == [None] * len(sizes)


@pytest.mark.parametrize("transcode", ["never", "lossless", "any"])
def test_what_a_file_may_be_made_into_has_a_context_however_many_there_are(transcode: Any) -> None:
    """Each group of files fits one association, with all that each of its SOP classes falls back to."""
    stock = Stock(len(contexts.fallbacks(transcode)))
    pairs = [(f"1.2.{number // 3}", f"1.2.840.{number % 3}") for number in range(400)]
    groups = {id(group): group for pair in pairs for group in [stock.group_for(pair)]}
    assert [pair for group in groups.values() for pair in group.pairs] == pairs
    sizes = []
    for group in groups.values():
        proposed = contexts.proposed(group.pairs, transcode)
        sizes.append(len(proposed))
        for sop_class, _ in group.pairs:
            for syntaxes in contexts.fallbacks(transcode):
                assert (sop_class, syntaxes) in proposed
    assert max(sizes) <= 128
    assert min(sizes[:-1]) >= 124


def test_so_many_classes_that_they_do_not_come_one_after_the_other(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that fit the association go first, so that it is not changed for each."""
    monkeypatch.setattr(pool, "_MOMENT", 60.0)
    classes = [f"1.2.840.10008.5.1.4.1.1.{number}" for number in range(1, 140)]
    paths = [
        file(tmp_path, 1000 * turn + number, sop_class=one) for turn in range(3) for number, one in enumerate(classes)
    ]
    scp = serve(contexts=classes)
    done = outcomes(paths, scp, associations=1)
    assert sorted(outcome.path for outcome in done if outcome.ok) == sorted(paths)
    assert len(scp.associations) <= 4


def test_a_class_that_comes_later_opens_another_association(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_FOUND", 2)
    paths = [file(tmp_path, number, sop_class=one) for number, one in enumerate([CT, CT, CT, MR, CT, MR])]
    scp = serve()
    assert [outcome.path for outcome in outcomes(iter(paths), scp) if outcome.ok] == paths
    assert [{c.abstract_syntax for c in association.request.contexts} for association in scp.associations] == [
        {CT},
        {CT, MR},
    ]
    assert len(scp.received) == 6


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
def test_uncompressed_goes_in_what_the_peer_takes(tmp_path: Path, serve: Serve, syntax: str) -> None:
    """PS3.5 10.1: Implicit VR Little Endian is what every peer takes."""
    scp = serve(contexts=[(CT, [IMPLICIT])])
    (done,) = outcomes(file(tmp_path, syntax=syntax), scp)
    assert done.ok
    (received,) = scp.received
    assert received.transfer_syntax == IMPLICIT
    assert received.decode() == instance(syntax=syntax).decode()


def test_never_transcoded_if_not_wanted(tmp_path: Path, serve: Serve) -> None:
    scp = serve(contexts=[(CT, [IMPLICIT])])
    (done,) = outcomes(file(tmp_path), scp, transcode="never")
    assert isinstance(done.error, dicomnet.NoAcceptedContext)
    assert "may not be transcoded" in str(done.error)
    assert len(scp.associations[0].request.contexts) == 1


def test_compressed_is_decompressed_for_a_peer_that_takes_only_that(tmp_path: Path, serve: Serve) -> None:
    """PS3.5 10.1: Implicit VR Little Endian is what every peer takes."""
    scp = serve(contexts=[(MR, [IMPLICIT])])
    (done,) = outcomes(shipped("MR_small_RLE.dcm"), scp)
    assert done.ok
    (received,) = scp.received
    assert received.transfer_syntax == IMPLICIT
    assert (received.decode().pixel_array == dcmread(shipped("MR_small_RLE.dcm")).pixel_array).all()


def test_uncompressed_is_compressed_for_a_peer_that_takes_only_that(tmp_path: Path, serve: Serve) -> None:
    """The instance stays what it is: nothing is lost, so it has the same UID."""
    scp = serve(contexts=[(MR, [JPEG_LS])])
    (done,) = outcomes(shipped("MR_small.dcm"), scp)
    assert done.ok
    (received,) = scp.received
    assert received.transfer_syntax == JPEG_LS
    original = dcmread(shipped("MR_small.dcm"))
    assert received.sop_instance_uid == original.SOPInstanceUID
    assert (received.decode().pixel_array == original.pixel_array).all()


@pytest.mark.parametrize("transcode", ["lossless", "any"])
def test_lossy_only_for_a_peer_that_takes_nothing_else_and_only_if_it_may_be(
    tmp_path: Path, serve: Serve, transcode: str
) -> None:
    """PS3.3 C.7.6.1.1.5: it is another instance then."""
    scp = serve(contexts=[(MR, [JPEG_LS_NEAR_LOSSLESS])])
    (done,) = outcomes(shipped("MR_small.dcm"), scp, transcode=transcode)
    assert done.ok is (transcode == "any")
    if not done.ok:
        assert isinstance(done.error, dicomnet.NoAcceptedContext)
        return
    (received,) = scp.received
    assert received.transfer_syntax == JPEG_LS_NEAR_LOSSLESS
    assert received.sop_instance_uid != dcmread(shipped("MR_small.dcm")).SOPInstanceUID
    assert received.LossyImageCompression == "01"


def test_what_cannot_be_transcoded_is_an_error_that_says_what_is_what(tmp_path: Path, serve: Serve) -> None:
    scp = serve(contexts=[(CT, [IMPLICIT])])
    broken = instance(1).decode()
    broken.PixelData = encapsulate([b"\xff\xd8 no image"])
    for keyword, value in {"Rows": 4, "Columns": 4, "SamplesPerPixel": 1, "BitsAllocated": 8, "BitsStored": 8}.items():
        setattr(broken, keyword, value)
    broken.PixelRepresentation, broken.PhotometricInterpretation = 0, "MONOCHROME2"
    broken["PixelData"].VR = "OB"
    broken["PixelData"].is_undefined_length = True
    broken.file_meta.TransferSyntaxUID = JPEG_LS
    path = tmp_path / "1.dcm"
    dicomnet.EncodedDataset.from_dataset(broken).save(path)
    done = outcomes([path, file(tmp_path, 2)], scp)
    assert isinstance(done[0].error, dicomnet.NoAcceptedContext)
    for words in ("CT Image Storage", "JPEG-LS Lossless", "but in Implicit VR Little Endian", "cannot be decoded"):
        assert words in str(done[0].error)
    assert done[0].attempts == 1
    assert done[1].ok


# --- trying again ---------------------------------------------------------------------------------------------------


def failing(scp: Scp, times: int, how: Callable[[Any], Any]) -> None:
    """The first requests have another answer."""
    left = [None] * times

    def answer(request: Any) -> Any:
        if left:
            left.pop()
            return how(request)
        return 0

    scp.answer = answer


def test_what_is_refused_for_lack_of_resources_is_tried_again(tmp_path: Path, serve: Serve) -> None:
    """PS3.4 Table B.2-1: A7xx."""
    scp = serve()
    failing(scp, 2, lambda request: 0xA7FF)
    done = outcomes([file(tmp_path, 1), file(tmp_path, 2)], scp)
    assert [(outcome.status, outcome.attempts) for outcome in done] == [(0, 2), (0, 2)]
    assert len(scp.associations) == 1


def test_no_more_often_than_wanted(tmp_path: Path, serve: Serve) -> None:
    scp = serve()
    scp.answer = lambda request: 0xA700
    (done,) = outcomes(file(tmp_path), scp, attempts=4)
    assert (done.status, done.error, done.attempts, done.ok) == (0xA700, None, 4, False)


def test_other_failures_are_final(tmp_path: Path, serve: Serve) -> None:
    scp = serve()
    failing(scp, 1, lambda request: 0xA900)
    done = outcomes([file(tmp_path, 1), file(tmp_path, 2)], scp)
    assert [(outcome.status, outcome.attempts) for outcome in done] == [(0xA900, 1), (0, 1)]


def test_warnings_are_success(tmp_path: Path, serve: Serve) -> None:
    scp = serve()
    scp.answer = lambda request: 0xB000
    (done,) = outcomes(file(tmp_path), scp)
    assert done.ok


class Relay:
    """Passes bytes between a sender and a server, and cuts the first connections after so many of them."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self._target = (HOST, port)
        self._cuts = cuts
        self._listener = socket.create_server((HOST, 0))
        self.peer = f"SCP@{HOST}:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> "Relay":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        try:
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                most = self._cuts.pop(0) if self._cuts else 1 << 60
                for source, sink, limit in ((near, far, most), (far, near, 1 << 60)):
                    thread = threading.Thread(target=self._pass_on, args=(source, sink, limit))
                    self._threads.append(thread)
                    thread.start()
        except OSError:
            return

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket, limit: int) -> None:
        with sink:
            try:
                while limit > 0 and (data := source.recv(min(65536, limit))):
                    limit -= len(data)
                    sink.sendall(data)
                source.shutdown(socket.SHUT_RDWR)
                sink.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def test_when_the_association_dies_the_rest_goes_on_another_one(tmp_path: Path, serve: Serve) -> None:
    paths = [file(tmp_path, number, size=30_000) for number in range(5)]
    scp = serve()
    with Relay(scp.port, cuts=[80_000, 20_000]) as relay:
        done = outcomes(paths, relay)
    assert sorted(outcome.path for outcome in done) == sorted(paths)
    assert [outcome.status for outcome in done] == [0] * 5
    assert sorted(outcome.attempts for outcome in done) == [1, 1, 1, 2, 2]
    assert len(scp.associations) == 3
    assert len({dataset.sop_instance_uid for dataset in scp.received}) == 5


def test_a_file_that_kills_associations_does_not_take_the_others_with_it(tmp_path: Path, serve: Serve) -> None:
    scp = serve(timeouts=dicomnet.Timeouts(closing=0.05))
    ended = threading.Event()

    def answer(request: Any) -> int:
        if request.sop_instance_uid.endswith(".1"):
            ended.wait()
        return 0

    scp.answer = answer
    timeouts = dicomnet.Timeouts(response=0.1, closing=0.05)
    done = outcomes([file(tmp_path, 1), file(tmp_path, 2)], scp, timeouts=timeouts, attempts=2)
    ended.set()
    assert [(outcome.path.name, outcome.status, outcome.attempts) for outcome in done] == [  # type: ignore[union-attr]
        ("2.dcm", 0, 1),
        ("1.dcm", None, 2),
    ]
    assert isinstance(done[1].error, dicomnet.DeadlineExceeded)
    assert done[1].associated


def test_an_unreachable_peer_is_tried_again_and_then_given_up_for_all(tmp_path: Path, free_port: int) -> None:
    done = outcomes([file(tmp_path, 1), file(tmp_path, 2)], f"SCP@{HOST}:{free_port}")
    assert [(type(outcome.error), outcome.attempts, outcome.associated) for outcome in done] == [
        (dicomnet.TransportError, 3, False)
    ] * 2


def test_a_peer_that_comes_back_gets_everything(
    tmp_path: Path, serve: Serve, reserved: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    scps: list[Scp] = []
    port = reserved.getsockname()[1]

    class Comes:
        """When it was in vain for the second time, the peer is started."""

        def is_set(self) -> bool:
            if not scps and len(caplog.records) == 2:
                reserved.close()
                scps.append(serve(port=port))
            return False

    done = outcomes([file(tmp_path, 1), file(tmp_path, 2)], f"SCP@{HOST}:{port}", stop=Comes(), backoff=0.3)
    assert [(outcome.status, outcome.attempts) for outcome in done] == [(0, 1), (0, 1)]
    assert len(scps[0].received) == 2


def test_a_busy_peer_is_tried_again(tmp_path: Path, serve: Serve) -> None:
    """PS3.8 Table 9-21: rejected-transient."""
    scp = serve(max_associations=1)
    with dicomnet.associate(scp.peer):
        (done,) = outcomes(file(tmp_path), scp)
    assert isinstance(done.error, dicomnet.AssociationRejected)
    assert done.attempts == 3


@pytest.mark.parametrize("host", ["no-such-host.invalid", None])
def test_what_will_not_change_is_not_tried_again(tmp_path: Path, serve: Serve, host: str | None) -> None:
    """An unknown name, and rejected-permanent (PS3.8 Table 9-21)."""
    peer = f"SCP@{host}:104" if host else serve(accept_calling=["OTHER"]).peer
    (done,) = outcomes(file(tmp_path), peer, backoff=1000)
    assert isinstance(done.error, dicomnet.TransportError if host else dicomnet.AssociationRejected)
    assert done.attempts == 1


# --- several associations, and the operations window ----------------------------------------------------------------


@pytest.mark.parametrize("associations", [2, 4])
def test_as_many_associations_as_wanted_are_used_at_once(tmp_path: Path, serve: Serve, associations: int) -> None:
    scp = serve()
    together = threading.Barrier(associations)

    def answer(request: Any) -> int:
        if request.sop_instance_uid != "1.2.3.0":
            together.wait(30)
        return 0

    scp.answer = answer
    paths = [file(tmp_path, number) for number in range(1 + 5 * associations)]
    running = send(paths, scp.peer, associations=associations)
    assert {outcome.path for outcome in running if outcome.ok} == set(paths)
    assert len(scp.associations) == running.associations == associations
    assert [scp.ended().error for _ in scp.associations] == [None] * associations


def test_it_finds_out_by_itself_that_several_associations_help(tmp_path: Path, serve: Serve) -> None:
    """One would wait for each answer; the peer has time for others meanwhile."""
    path, scp = file(tmp_path), serve()
    slow = threading.Event()
    scp.answer = lambda request: int(slow.wait(0.005))
    running = send([path] * 600, scp.peer)
    assert all(outcome.ok for outcome in running)
    assert running.associations > 1
    assert len(scp.received) == 600


@pytest.mark.parametrize("associations", [None, 3])
def test_a_peer_that_takes_no_further_association_gets_all_on_the_first(
    tmp_path: Path, serve: Serve, associations: int | None
) -> None:
    """PS3.8 Table 9-21: no file fails of it, nor is tried again."""
    path, scp = file(tmp_path), serve(max_associations=1)
    slow = threading.Event()
    scp.answer = lambda request: int(slow.wait(0.001))
    done = outcomes([path] * 300, scp, associations=associations)
    assert {(outcome.status, outcome.attempts) for outcome in done} == {(0, 1)}
    assert len(done) == len(scp.received) == 300


def test_the_operations_window_is_used(tmp_path: Path, serve: Serve) -> None:
    """PS3.7 D.3.3.3: so many are outstanding before the first is answered."""
    scp = serve(async_ops=(4, 4))
    together = threading.Barrier(4)

    def answer(request: Any) -> int:
        together.wait(30)
        return 0

    scp.answer = answer
    paths = [file(tmp_path, number) for number in range(8)]
    running = send(paths, scp.peer, associations=1)
    assert sorted(outcome.path for outcome in running if outcome.ok) == paths
    assert (running.associations, running.window) == (1, 4)
    assert scp.ended().error is None


def test_a_window_of_one_if_that_is_wanted(tmp_path: Path, serve: Serve) -> None:
    scp = serve(async_ops=(4, 4))
    running = send([file(tmp_path)], scp.peer, window=1)
    assert next(running).ok
    running.close()
    assert running.window == 1
    assert scp.associations[0].request.user.async_ops in (None, (1, 1))


def test_when_an_association_dies_what_was_answered_is_not_sent_again(tmp_path: Path, serve: Serve) -> None:
    """And what was not is: one at a time, since one of them may be to blame."""
    scp = serve(async_ops=(8, 8), timeouts=dicomnet.Timeouts(closing=0.05))
    ended, first = threading.Event(), threading.Event()

    def answer(request: Any) -> int:
        if request.sop_instance_uid.endswith(".3"):
            first.set()
            ended.wait()
        elif request.sop_instance_uid.endswith((".6", ".7")) and not ended.is_set():
            first.wait(30)
            ended.wait()
        return 0

    scp.answer = answer
    paths = [file(tmp_path, number) for number in range(8)]
    timeouts = dicomnet.Timeouts(response=0.2, closing=0.05)
    done = []
    for outcome in send(paths, scp.peer, associations=1, window=8, timeouts=timeouts, backoff=0.001, attempts=2):
        done.append(outcome)
        if len(done) == 7:
            ended.set()
    assert sorted(outcome.path for outcome in done) == paths
    attempts = {outcome.path.name: outcome.attempts for outcome in done}  # type: ignore[union-attr]
    assert [attempts[f"{number}.dcm"] for number in (0, 1, 2, 4, 5)] == [1] * 5
    assert attempts["3.dcm"] == 2


def test_an_association_that_dies_among_several_leaves_the_work_to_the_others(tmp_path: Path, serve: Serve) -> None:
    scp = serve()
    paths = [file(tmp_path, number, size=5_000) for number in range(60)]
    with Relay(scp.port, cuts=[1 << 60, 40_000, 40_000]) as relay:
        done = outcomes(paths, relay, associations=3)
    assert sorted(outcome.path for outcome in done if outcome.ok) == sorted(paths)
    assert len(done) == 60


def test_an_idle_association_that_the_peer_closes_is_replaced(tmp_path: Path, serve: Serve) -> None:
    """No file is to blame, and none was tried in vain."""
    scp = serve(timeouts=dicomnet.Timeouts(idle=0.05))
    failing(scp, 1, lambda request: 0xA700)
    (done,) = outcomes(file(tmp_path), scp, backoff=0.5)
    assert (done.status, done.attempts) == (0, 2)
    assert len(scp.associations) == 2


def test_a_peer_that_accepts_and_hangs_up_is_given_up(tmp_path: Path, serve: Serve) -> None:
    with Relay(serve().port, cuts=[300] * 100) as relay:
        done = outcomes([file(tmp_path, 1), file(tmp_path, 2)], relay)
    assert [outcome.status for outcome in done] == [None, None]
    assert all(isinstance(outcome.error, dicomnet.DicomNetworkError) for outcome in done)


# --- ending early ---------------------------------------------------------------------------------------------------


def test_when_stopped_it_releases_after_the_file_under_way(tmp_path: Path, serve: Serve) -> None:
    stop = threading.Event()
    scp = serve()

    def answer(request: Any) -> int:
        if len(scp.received) == 1:
            stop.set()
        return 0

    scp.answer = answer
    done = outcomes([file(tmp_path, number) for number in range(5)], scp, stop=stop)
    assert [outcome.status for outcome in done] == [0, 0]
    assert scp.ended().error is None


def test_when_stopped_it_does_not_wait_for_another_attempt(tmp_path: Path, free_port: int) -> None:
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    assert outcomes(file(tmp_path), f"SCP@{HOST}:{free_port}", stop=stop, backoff=1000) == []


def test_a_caller_that_wants_no_more_releases(tmp_path: Path, serve: Serve) -> None:
    """What is under way is finished; nothing else begins."""
    scp = serve()
    for number in range(300):
        file(tmp_path, number)
    with send(tmp_path, scp.peer) as running:
        assert next(running).ok
    assert scp.ended().error is None
    assert 1 <= len(scp.received) < 300
    assert list(running) == []


def test_a_sender_that_is_forgotten_releases(tmp_path: Path, serve: Serve) -> None:
    scp = serve()
    for number in range(3):
        file(tmp_path, number)
    for outcome in send(tmp_path, scp.peer):
        assert outcome.ok
        break
    assert scp.ended().error is None


@pytest.mark.parametrize("associations", [1, 3])
def test_interrupted_it_aborts_all_associations(tmp_path: Path, serve: Serve, associations: int) -> None:
    """Ctrl-C: not even what is under way is waited for."""
    scp = serve()
    ended = threading.Event()

    def interrupt() -> None:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    hanging = threading.Barrier(associations, action=interrupt)

    def hang(request: Any) -> int:
        if request.sop_instance_uid != "1.2.3.0":
            hanging.wait(30)
            ended.wait()
        return 0

    scp.answer = hang
    paths = [file(tmp_path, number) for number in range(5)]
    with pytest.raises(KeyboardInterrupt):
        outcomes(paths, scp, associations=associations, timeouts=dicomnet.Timeouts(closing=0.05))
    ended.set()
    errors = [scp.ended().error for _ in scp.associations]
    assert len(errors) == associations
    assert all(isinstance(error, dicomnet.AssociationAborted | dicomnet.TransportError) for error in errors)


def test_an_error_in_the_paths_is_raised_and_everything_ended(tmp_path: Path, serve: Serve) -> None:
    def paths() -> Iterator[Path]:
        yield file(tmp_path)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        outcomes(paths(), serve())


def test_the_users_code_runs_on_the_callers_thread(tmp_path: Path, serve: Serve) -> None:
    """A database cursor, for one, is of no use on another."""
    file(tmp_path / "folder")
    (tmp_path / "folder" / "notes.txt").write_text("not DICOM")
    threads = set()

    def paths() -> Iterator[Path]:
        threads.add(threading.current_thread())
        yield tmp_path / "folder"

    outcomes(paths(), serve(), on_skipped=lambda path: threads.add(threading.current_thread()))
    assert threads == {threading.current_thread()}


def test_a_slow_caller_is_waited_for(tmp_path: Path, serve: Serve) -> None:
    """Memory stays bounded: what was found and not told has a limit."""
    path, found = file(tmp_path), []

    def paths() -> Iterator[Path]:
        for number in range(10_000):
            found.append(number)
            yield path

    scp = serve()
    with send(paths(), scp.peer) as running:
        next(running)
        assert scp.answer is not None
        for _ in range(2000):
            next(running)
        assert len(found) <= 2001 + pool._UNDER_WAY


def test_wrong_arguments_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="attempts"):
        send(tmp_path, "A@b", attempts=0)
    with pytest.raises(ValueError, match="AET@host:port"):
        send(tmp_path, "nobody")
    with pytest.raises(ValueError, match="AE title"):
        send(tmp_path, "A@b", calling_ae="")
    for name in ("associations", "window", "processes"):
        with pytest.raises(ValueError, match=name):
            send(tmp_path, "A@b", **{name: 0})  # type: ignore[arg-type]


def test_unusual_sop_classes_go_too(tmp_path: Path, serve: Serve) -> None:
    scp = serve(contexts=["1.3.46.670589.2.5.1.1"])
    (done,) = outcomes(file(tmp_path, sop_class="1.3.46.670589.2.5.1.1"), scp)
    assert done.ok
    (done,) = outcomes(file(tmp_path, sop_class=SC), scp)
    assert isinstance(done.error, dicomnet.NoAcceptedContext)
