"""DCMTK's programs and pynetdicom as peers on loopback, each inside a ``with`` that surely ends it.

A DCMTK server cannot be asked which port it got, so a free one is looked for, and looked for again if somebody was
faster. Its senders wait for Nagle and delayed acknowledgements unless TCP_NODELAY=1 is in their environment.
"""

import contextlib
import functools
import os
import random
import re
import signal
import socket
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import dicomnet
from tests.interop import corpus
from tests.interop.corpus import Instance

HOST = "127.0.0.1"
LOCALE = {**os.environ, "LC_ALL": "C", "TCP_NODELAY": "1"}
_PATIENCE = 30.0  # seconds that a program may take to start, to end, or to be done, on a busy machine
_PORTS = range(12000, 30000)  # below those that the system gives to clients, which could be taken at any time

Tool = Callable[[str], Path]


# --- dicomnet -------------------------------------------------------------------------------------------------------


@dataclass
class Receiver:
    """A dicomnet server that keeps what arrives, in order, and each association as it was when it ended."""

    port: int = 0
    arrived: list[Instance] = field(default_factory=list)
    associations: list[Any] = field(default_factory=list)


@contextlib.contextmanager
def dicomnet_receiver(tls: Any = None, on_association: Any = None, **options: Any) -> Iterator[Receiver]:
    receiver = Receiver()
    options.setdefault("contexts", [dicomnet.Verification, *dicomnet.StorageClasses])

    def keep(request: Any) -> int:
        dataset = request.dataset
        receiver.arrived.append(
            Instance(request.sop_class_uid, request.sop_instance_uid, dataset.transfer_syntax, bytes(dataset))
        )
        return 0x0000

    handlers = {name: options.pop(name) for name in list(options) if name.startswith("on_")}
    ae = dicomnet.AE("RECEIVER", **options)
    for name, handler in {"on_c_store": keep, **handlers}.items():
        getattr(ae, name)(handler)
    ae.on_close(receiver.associations.append)
    if on_association is not None:
        ae.on_association(on_association)
    with dicomnet.serve(ae, HOST, tls=tls) as server:
        receiver.port = server.port
        yield receiver


def dicomnet_send(port: int, names: list[str], *, called: str = "PEER", **options: Any) -> dict[str, str]:
    """Store these files, on one association if the peer leaves it open. Name → what came of it, "" is success."""
    outcomes = {}
    assoc: dicomnet.Association | None = None
    for name in names:
        if assoc is None:
            assoc = dicomnet.associate(f"{called}@{HOST}:{port}", contexts=corpus.contexts(), **options)
        try:
            response = assoc.c_store(corpus.FOLDER / name)
            outcomes[name] = "" if response.status == 0 else str(response.status)
        except dicomnet.NoAcceptedContext:
            outcomes[name] = "no accepted context"
        except dicomnet.DicomNetworkError as error:
            outcomes[name] = str(error)
            assoc = None
    if assoc is not None:
        assoc.release()
    return outcomes


# --- DCMTK ----------------------------------------------------------------------------------------------------------


@dataclass
class Program:
    """A DCMTK server that runs. ``log``: what it has printed so far, without the spaces that align it."""

    port: int
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def log(self) -> str:
        text = (self.folder / "log").read_text(errors="replace")
        return re.sub(" +", " ", text)

    @property
    def stored(self) -> list[Instance]:
        return [corpus.read(path) for path in sorted((self.folder / "stored").iterdir()) if path.name != "index.dat"]

    def wait_for(self, text: str) -> None:
        """Wait until the log has ``text``."""
        assert wait(self.process, lambda: text in self.log), self.log


def wait(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> bool:
    """Wait until ``ready``; False if the process ended before."""
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{process.args} was not ready within {_PATIENCE} s")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)  # how often to look again
            return ready()
    return True


def _listening(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), _PATIENCE).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind((HOST, port))
            return port


@contextlib.contextmanager
def _dcmtk_server(folder: Path, command: list[Any]) -> Iterator[Program]:
    (folder / "stored").mkdir(parents=True, exist_ok=True)
    while True:
        port = _free_port()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*map(str, command), str(port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=LOCALE,
                start_new_session=True,  # dcmqrscp has children, which end with it
            )
        program = Program(port, process, folder)
        try:
            if wait(process, functools.partial(_listening, port)) and process.poll() is None:
                yield program
                return
            assert "Address already in use" in program.log, program.log
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
            return


def storescp(dcmtk: Tool, folder: Path, *options: Any) -> contextlib.AbstractContextManager[Program]:
    """storescp, which accepts all that DCMTK knows and writes it as it came (+B)."""
    usual = ["-dhl", "+xa", "+B", "+uf", "-od", folder / "stored"]
    return _dcmtk_server(folder, [dcmtk("storescp"), *usual, *options])


def dcmrecv(dcmtk: Tool, folder: Path, *options: Any) -> contextlib.AbstractContextManager[Program]:
    """dcmrecv, which accepts what is in the corpus and writes it as it came (+B)."""
    usual = ["-dhl", "-xf", profiles(folder), "SCP", "+B", "+fu", "-od", folder / "stored"]
    return _dcmtk_server(folder, [dcmtk("dcmrecv"), *usual, *options])


def dcmqrscp(
    dcmtk: Tool, folder: Path, *options: Any, hosts: Mapping[str, int] | None = None
) -> contextlib.AbstractContextManager[Program]:
    """dcmqrscp, a process for each association, whose one storage area is ARCHIVE. ``hosts``: AE title → port."""
    stored = folder / "stored"
    folder.mkdir(parents=True)
    (folder / "dcmqrscp.cfg").write_text(
        "MaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\n"
        + "".join(f"{title.lower()} = ({title}, {HOST}, {port})\n" for title, port in (hosts or {}).items())
        + "HostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nARCHIVE {stored} RW (100, 1024mb) ANY\nAETable END\n"
    )
    return _dcmtk_server(folder, [dcmtk("dcmqrscp"), "+B", *options, "-c", folder / "dcmqrscp.cfg"])


def profiles(folder: Path) -> Path:
    """DCMTK's association configuration. SCU has a context for each SOP class and transfer syntax of the corpus, SCP
    one for each SOP class, and Verification, with all the transfer syntaxes: the same class twice is not allowed there.
    """
    syntaxes = sorted({syntax for _, (syntax,) in corpus.contexts()})
    classes = sorted({sop_class for sop_class, _ in corpus.contexts()})
    lines = ["[[TransferSyntaxes]]", "[All]"]
    lines += [f"TransferSyntax{number}={syntax}" for number, syntax in enumerate(syntaxes, 1)]
    for number, syntax in enumerate(syntaxes):
        lines += [f"[Only{number}]", f"TransferSyntax1={syntax}"]
    lines += ["[[PresentationContexts]]", "[Scu]"]
    for number, (sop_class, (syntax,)) in enumerate(corpus.contexts(), 1):
        lines.append(f"PresentationContext{number}={sop_class}\\Only{syntaxes.index(syntax)}")
    supported = [dicomnet.Verification, *classes]
    lines += ["[Scp]", *(f"PresentationContext{number}={uid}\\All" for number, uid in enumerate(supported, 1))]
    lines += ["[[Profiles]]", "[SCU]", "PresentationContexts=Scu", "[SCP]", "PresentationContexts=Scp", ""]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "profiles.cfg"
    path.write_text("\n".join(lines))
    return path


def run(tool: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run a DCMTK client to its end; its output, both streams, is ``stdout``, without the spaces that align it."""
    done = subprocess.run(
        [str(tool), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=LOCALE,
        timeout=2 * _PATIENCE,
        check=False,
    )
    done.stdout = re.sub(" +", " ", done.stdout)
    return done


# --- pynetdicom -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pynetdicom_receiver(pynetdicom: ModuleType, **options: Any) -> Iterator[Receiver]:
    """A pynetdicom server in this process that accepts what is in the corpus, and Verification."""
    receiver = Receiver()

    def keep(event: Any) -> int:
        request = event.request
        receiver.arrived.append(
            Instance(
                str(request.AffectedSOPClassUID),
                str(request.AffectedSOPInstanceUID),
                str(event.context.transfer_syntax),
                request.DataSet.getvalue(),
            )
        )
        return 0x0000

    handlers = [(pynetdicom.evt.EVT_C_STORE, keep), *_no_delay(pynetdicom), *options.pop("handlers", [])]
    ae = pynetdicom.AE("PYNETDICOM")
    ae.maximum_pdu_size = options.pop("max_pdu_length", ae.maximum_pdu_size)
    ae.require_called_aet = options.pop("require_called", False)
    ae.add_supported_context(dicomnet.Verification)
    for sop_class, syntaxes in corpus.contexts():
        ae.add_supported_context(sop_class, syntaxes)
    server = ae.start_server((HOST, 0), block=False, evt_handlers=handlers, **options)
    receiver.port = server.socket.getsockname()[1]
    try:
        yield receiver
    finally:
        server.shutdown()


def pynetdicom_associate(pynetdicom: ModuleType, port: int, **options: Any) -> Any:
    """An association with a context for all that is in the corpus, and for Verification."""
    ae = pynetdicom.AE("PYNETDICOM")
    contexts = [pynetdicom.build_context(sop_class, syntaxes) for sop_class, syntaxes in corpus.contexts()]
    contexts.append(pynetdicom.build_context(dicomnet.Verification))
    handlers = _no_delay(pynetdicom) + options.pop("handlers", [])
    assoc = ae.associate(HOST, port, contexts=contexts, evt_handlers=handlers, **options)

    def put_back(message: Any, context_id: int) -> None:
        """Give the response to whom it belongs.

        pynetdicom 3.0 has a thread that waits for requests beside the one that waits for a response. If it is
        interrupted just after it has passed its checkpoint, it takes the response, and the sender waits in vain.
        """
        assoc.dimse.msg_queue.put((context_id, message))

    assoc._serve_request = put_back
    return assoc


def _no_delay(pynetdicom: ModuleType) -> list[Any]:
    """pynetdicom leaves Nagle's algorithm on, which costs it 40 ms a message with a peer that does the same."""

    def switch_off(event: Any) -> None:
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    return [(pynetdicom.evt.EVT_CONN_OPEN, switch_off)]


def pynetdicom_send(
    pynetdicom: ModuleType, port: int, names: list[str], *, raw: bool, **options: Any
) -> dict[str, str]:
    """Store these files, decoded and encoded again by pydicom or ``raw``. Name → what came of it, "" is success."""
    outcomes = {}
    config = pynetdicom._config
    before, config.STORE_SEND_CHUNKED_DATASET = config.STORE_SEND_CHUNKED_DATASET, raw
    assoc = pynetdicom_associate(pynetdicom, port, **options)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in corpus.read
            for name in names:
                try:
                    status = assoc.send_c_store(corpus.FOLDER / name)
                    outcomes[name] = "" if status.Status == 0 else f"0x{status.Status:04X}"
                except Exception as error:  # pynetdicom documents ValueError and RuntimeError; broken files give more
                    outcomes[name] = f"{type(error).__name__}: {error}"
    finally:
        config.STORE_SEND_CHUNKED_DATASET = before
        assoc.release()
    return outcomes
