"""``dicomnet.send``: each file ends in exactly one outcome (PS3.4 Annex B, as SCU)."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet import sender
from dicomnet.sender import Outcome, send
from tests.cli.conftest import Scp
from tests.cli.programs import BIG_ENDIAN, CT, EXPLICIT, HOST, IMPLICIT, JPEG_LS, MR, SC, file, instance

Serve = Callable[..., Scp]


def outcomes(paths: Any, peer: Any, **options: Any) -> list[Outcome]:
    return list(send(paths, getattr(peer, "peer", peer), **{"backoff": 0.001, "calling_ae": "ME"} | options))


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
    ]
    assert {dataset.transfer_syntax for dataset in scp.received} == {EXPLICIT, IMPLICIT, JPEG_LS, BIG_ENDIAN}


def test_past_128_contexts_the_next_association_follows(tmp_path: Path, serve: Serve) -> None:
    """PS3.8 9.3.2.2: there are 128 presentation context IDs."""
    classes = [f"1.2.840.10008.5.1.4.1.1.{number}" for number in range(1, 200)]
    for number, sop_class in enumerate(classes):
        file(tmp_path, number, sop_class=sop_class)
    scp = serve(contexts=classes)
    done = outcomes(tmp_path, scp)
    assert [outcome.status for outcome in done] == [0] * len(classes)
    assert [len(association.request.contexts) for association in scp.associations] == [128, 128]
    assert [scp.ended().error for _ in scp.associations] == [None, None]


def test_a_later_window_with_new_classes_opens_another_association(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_WINDOW", 2)
    paths = [file(tmp_path, number, sop_class=one) for number, one in enumerate([CT, CT, CT, MR, CT, MR])]
    scp = serve()
    assert [outcome.status for outcome in outcomes(iter(paths), scp)] == [0] * 6
    assert len(scp.associations) == 2
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


def test_compressed_that_is_not_taken_is_an_error_that_says_so(tmp_path: Path, serve: Serve) -> None:
    scp = serve(contexts=[(CT, [IMPLICIT])])
    done = outcomes([file(tmp_path, 1, syntax=JPEG_LS), file(tmp_path, 2)], scp)
    assert isinstance(done[0].error, dicomnet.NoAcceptedContext)
    assert "decompress" in str(done[0].error)
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


def test_a_peer_that_comes_back_gets_everything(tmp_path: Path, serve: Serve, reserved: socket.socket) -> None:
    scps: list[Scp] = []
    port = reserved.getsockname()[1]

    class Comes:
        """As it waits for the second time, the peer is started."""

        waits = 0

        def is_set(self) -> bool:
            return False

        def wait(self, timeout: float | None = None, /) -> bool:
            self.waits += 1
            if self.waits == 2:
                reserved.close()
                scps.append(serve(port=port))
            return False

    done = outcomes([file(tmp_path, 1), file(tmp_path, 2)], f"SCP@{HOST}:{port}", stop=Comes())
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
    scp = serve()
    for number in range(3):
        file(tmp_path, number)
    running = send(tmp_path, scp.peer)
    assert next(running).ok
    running.close()
    assert scp.ended().error is None
    assert len(scp.received) == 1


def test_wrong_arguments_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="attempts"):
        send(tmp_path, "A@b", attempts=0)
    with pytest.raises(ValueError, match="AET@host:port"):
        send(tmp_path, "nobody")
    with pytest.raises(ValueError, match="AE title"):
        send(tmp_path, "A@b", calling_ae="")


def test_unusual_sop_classes_go_too(tmp_path: Path, serve: Serve) -> None:
    scp = serve(contexts=["1.3.46.670589.2.5.1.1"])
    (done,) = outcomes(file(tmp_path, sop_class="1.3.46.670589.2.5.1.1"), scp)
    assert done.ok
    (done,) = outcomes(file(tmp_path, sop_class=SC), scp)
    assert isinstance(done.error, dicomnet.NoAcceptedContext)
