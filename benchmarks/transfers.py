"""Tables about files: received, sent, both; by one sender and by many; and what memory that takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks import peers
from benchmarks.corpora import Corpus
from benchmarks.measure import Contender
from benchmarks.messages import ATTEMPTS
from benchmarks.model import Goal, Line, Plot, Scenario, Settings
from benchmarks.processes import MB, Program

_FLAT = 64 * 2**20 / MB  # MB that moving an object of any size may cost either side
_FLOOD_FLAT = 256 * 2**20 / MB  # MB that 32 of them at once may
_CROWD = 8
_BIT_PRESERVING = ("+B", "-pdu", "131072")  # storescp at its fastest

_SHIPPED_STORESCU = partial(peers.dcmtk_storescu, tuned=False)
_TUNED_STORESCU = partial(peers.dcmtk_storescu, tuned=True)
_ONE_BY_ONE = partial(peers.dicomnet_send, associations=1, window=1)

# Names of contenders that several tables share.
_FASTEST = "storescp +B, 128 kB PDUs, tuned"
_SEND_TO_RECEIVE = "dicomnet send → dicomnet receive"
_SHIPPED_PAIR = "storescu as shipped → storescp as shipped"
_TUNED_PAIR = "storescu tuned → storescp tuned"
_FASTEST_PAIR = f"storescu tuned → {_FASTEST}"
_TUNED_TO_DICOMNET = "storescu tuned → dicomnet receive"
_TUNED_TO_PYNETDICOM = "storescu tuned → pynetdicom"
_PYNETDICOM = "pynetdicom → pynetdicom"
_BARE = "bare source → bare sink"
_TUNED_TO_BARE = "storescu tuned → bare sockets to files"
_ARRIVAL = "Rates are those of the files' arrival. Tuned is with `TCP_NODELAY=1`; pynetdicom's ends set it, too."
_AS_SHIPPED = (
    "As shipped, each file waits for delayed acknowledgements, and always as long: few files and rounds tell it."
)


def shipped(settings: Settings) -> Scenario:
    """Peers as they are installed: with Nagle's algorithm."""
    files = settings.corpus("small", quick=200, full=200)
    fewer = settings.corpus("small", quick=20, full=50)
    lossy = settings.corpus("small", quick=50, full=100)
    stock, slow = peers.dcmtk_storescp(tuned=False), settings.slow_rounds
    into, outof = "storescu as shipped → dicomnet receive", "dicomnet send → storescp as shipped"
    python = "pynetdicom storescu → {}"
    to_us, to_them = python.format("dicomnet receive"), python.format("storescp as shipped")
    few = partial(_sends, peers.pynetdicom_storescu, attempts=ATTEMPTS)
    return Scenario(
        title="10 kB files, one association, peers as shipped",
        unit="files/s",
        contenders=(
            _sends(_SHIPPED_STORESCU, peers.dicomnet_receive(), files, name=into, intact=True),
            _sends(peers.dicomnet_send, stock, files, name=outof),
            _sends(_SHIPPED_STORESCU, stock, fewer, name=_SHIPPED_PAIR, most_rounds=slow),
            few(peers.dicomnet_receive(), lossy, name=to_us),
            few(stock, fewer, name=to_them, most_rounds=slow),
        ),
        goals=(
            Goal(of=into, against=_SHIPPED_PAIR, at_least=100),
            Goal(of=to_us, against=to_them, at_least=100),
            Goal(of=outof, against=_SHIPPED_PAIR, at_least=100),
        ),
        note=f"{_ARRIVAL} {_AS_SHIPPED}",
        seconds=30,
    )


def receive_small(settings: Settings) -> Scenario:
    """`dicomnet receive`: 10 kB files."""
    files = settings.corpus("small", quick=500, full=2000)
    return _receives(settings, "10 kB files", files, settings.corpus("small", quick=50, full=100))


def receive_ct(settings: Settings) -> Scenario:
    """`dicomnet receive`: 529 kB files."""
    files = settings.corpus("ct", quick=60, full=500)
    fewer = settings.corpus("ct", quick=20, full=60)
    return _receives(settings, "529 kB files", files, fewer, beside_bare=0.8)


def large(settings: Settings) -> Scenario:
    """One large multi-frame object, received."""
    big = settings.corpus("large", quick=488, full=1908)
    megabytes = big.size / MB
    fastest, python = _fastest(), _receiver_in_python(12 * big.size)
    ours = peers.dicomnet_receive()
    sends = partial(_sends, files=big, amount=megabytes)
    lossy = partial(sends, most_rounds=1, attempts=2)
    return Scenario(
        title=f"One multi-frame object of {megabytes:.0f} MB, from file to file",
        unit="MB/s",
        contenders=(
            sends(_TUNED_STORESCU, ours, name=_TUNED_TO_DICOMNET, intact=True),
            sends(_TUNED_STORESCU, fastest, name=_FASTEST_PAIR, intact=True),
            sends(peers.dicomnet_send, ours, name=_SEND_TO_RECEIVE, intact=True),
            _bare(big, amount=megabytes),
            lossy(_TUNED_STORESCU, python, name=_TUNED_TO_PYNETDICOM),
            lossy(peers.pynetdicom_send, python, name=_PYNETDICOM),
        ),
        goals=(
            *_receiving_goals(),
            Goal(of=_SEND_TO_RECEIVE, key="scu_above", what="SCU's memory above idle, MB", at_most=_FLAT),
            Goal(of=_SEND_TO_RECEIVE, key="scp_above", what="SCP's memory above idle, MB", at_most=_FLAT),
            Goal(of=_TUNED_TO_DICOMNET, key="scp_above", what="SCP's memory above idle, MB", at_most=_FLAT),
            Goal(of=_SEND_TO_RECEIVE, against=_FASTEST_PAIR),
            Goal(of=_SEND_TO_RECEIVE, against=_PYNETDICOM, at_least=10),
        ),
        note="Idle is, for an SCP, when it begins to listen; for an SCU, its peak when it sends one small file.",
        seconds=85,
    )


def send_small(settings: Settings) -> Scenario:
    """`dicomnet send`: 10 kB files."""
    files = settings.corpus("small", quick=500, full=2000)
    fewer = settings.corpus("small", quick=50, full=200)
    return _into_a_bare_sink(settings, "10 kB files", files, fewer, at_least=1.0)


def send_ct(settings: Settings) -> Scenario:
    """`dicomnet send`: 529 kB files."""
    files = settings.corpus("ct", quick=60, full=500)
    fewer = settings.corpus("ct", quick=20, full=60)
    return _into_a_bare_sink(settings, "529 kB files", files, fewer, at_least=1.2)


def send_large(settings: Settings) -> Scenario:
    """`dicomnet send`: one large object."""
    big = settings.corpus("large", quick=488, full=1908)
    return _into_a_bare_sink(settings, "one object", big, big, at_least=1.0, amount=big.size / MB)


def send_defaults(settings: Settings) -> Scenario:
    """`dicomnet send` as it is, to a receiver that takes several associations."""
    files = settings.corpus("small", quick=500, full=2000)
    fewer = settings.corpus("small", quick=50, full=200)
    forking = peers.dcmtk_storescp("--fork", tuned=True)
    ours, theirs, python = (
        f"{sender} → storescp --fork tuned" for sender in ("dicomnet send", "storescu tuned", "pynetdicom")
    )
    slow = settings.slow_rounds
    return Scenario(
        title="Sending 10 kB files, as many associations as the sender likes",
        unit="files/s",
        contenders=(
            _sends(peers.dicomnet_send, forking, files, name=ours),
            _sends(_TUNED_STORESCU, forking, files, name=theirs),
            _sends(peers.pynetdicom_send, forking, fewer, name=python, most_rounds=slow, attempts=ATTEMPTS),
        ),
        goals=(
            Goal(of=ours, against=theirs, at_least=2.0),
            Goal(of=ours, against=python, at_least=10),
        ),
        note=_ARRIVAL,
        seconds=25,
    )


def both_ends(settings: Settings) -> Scenario:
    """dicomnet at both ends."""
    files = settings.corpus("small", quick=500, full=2000)
    fewer = settings.corpus("small", quick=50, full=200)
    send = partial(peers.dicomnet_send, associations=1, window=16)
    ours, slow = f"{_SEND_TO_RECEIVE}, window 16", settings.slow_rounds
    python = _receiver_in_python()
    return Scenario(
        title="10 kB files, one association, both ends alike",
        unit="files/s",
        contenders=(
            _sends(send, peers.dicomnet_receive(), files, name=ours, intact=True),
            _sends(_ONE_BY_ONE, peers.dicomnet_receive(), files, name=f"{_SEND_TO_RECEIVE}, window 1", intact=True),
            _sends(_TUNED_STORESCU, peers.dcmtk_storescp(tuned=True), files, name=_TUNED_PAIR),
            _sends(_TUNED_STORESCU, _fastest(), files, name=_FASTEST_PAIR, intact=True),
            _sends(peers.pynetdicom_send, python, fewer, name=_PYNETDICOM, most_rounds=slow, attempts=ATTEMPTS),
        ),
        goals=(
            Goal(of=ours, against=_TUNED_PAIR, at_least=2.0),
            Goal(of=ours, against=_FASTEST_PAIR),
            Goal(of=ours, against=_PYNETDICOM, at_least=10),
        ),
        note=_ARRIVAL,
        seconds=30,
    )


def crowd_small(settings: Settings) -> Scenario:
    """Many senders: 10 kB files."""
    files = settings.corpus("small", quick=2000, full=8000)
    return _crowd(settings, "10 kB files", files, fewer=settings.corpus("small", quick=50, full=200))


def crowd_ct(settings: Settings) -> Scenario:
    """Many senders: 529 kB files."""
    return _crowd(settings, "529 kB files", settings.corpus("ct", quick=120, full=1000))


def crowd_mixed(settings: Settings) -> Scenario:
    """Many senders: 20 SOP classes in 5 transfer syntaxes."""
    files = settings.corpus("mixed", quick=200, full=1600)
    send = partial(peers.dcmtk_dcmsend, tuned=True)
    title = "files of 20 SOP classes in 5 transfer syntaxes"
    return _crowd(settings, title, files, send=send, options=("+xa",))


def crowd_large(settings: Settings) -> Scenario:
    """Many senders: large objects."""
    size = 16 * 10**6 if settings.quick else 128 * 10**6
    files = settings.corpus("sized", quick=_CROWD, full=_CROWD, size=size)
    return _crowd(settings, f"objects of {size // 10**6} MB", files, unit="MB/s")


def flood(settings: Settings) -> Scenario:
    """The memory that many large objects at once take."""
    senders, megabytes = 32, 100 if settings.quick else 1000
    scp = peers.dicomnet_end("discard", "--associations", str(senders + 8), "{folder}")
    ours, theirs = "dicomnet, blocking", "pynetdicom"
    python = Program(missing=f"not measured: it would need {senders * megabytes * 3 / 1000:.0f} GB of memory")
    return Scenario(
        title=f"{senders} senders of {megabytes} MB each, at once",
        unit="MB/s",
        contenders=(
            Contender(name=ours, scp=scp, scu=peers.flood(senders, megabytes), most_rounds=1, limit=240, intact=True),
            Contender(name=theirs, scp=python, scu=python),
        ),
        goals=(Goal(of=ours, key="scp_above", what="SCP's memory above idle, MB", at_most=_FLOOD_FLAT),),
        note="Once. What arrives waits in files, whose bytes are compared and then forgotten; the handler throws them "
        "away.",
    )


def by_size(settings: Settings) -> Scenario:
    """Throughput by the size of the objects, for the plot."""
    sizes = {1_000: 1000, 10_000: 1000, 100_000: 600, 1_000_000: 200, 10_000_000: 20, 100_000_000: 3}
    if settings.quick:
        sizes = {size: max(count // 10, 1) for size, count in sizes.items() if size <= 10_000_000}
    pairs: dict[str, tuple[Callable[..., Program], Program, float]] = {
        "dicomnet": (partial(peers.dicomnet_send, associations=1), peers.dicomnet_receive(), 1.0),
        "DCMTK": (_TUNED_STORESCU, _fastest(), 1.0),
        "pynetdicom": (peers.pynetdicom_send, _receiver_in_python(), 0.15),
    }
    contenders, lines = [], []
    for name, (scu, scp, share) in pairs.items():
        points = []
        for size, count in sizes.items():
            files = settings.corpus("sized", quick=_some(count, share), full=_some(count, share), size=size)
            label = f"{name}, {_size(size)}"
            rounds = None if share == 1 else 1
            contenders.append(
                _sends(scu, scp, files, name=label, amount=files.size / MB, attempts=3, most_rounds=rounds)
            )
            points.append((float(size), label))
        lines.append(Line(name=name, points=tuple(points)))
    return Scenario(
        title="Throughput by the size of the objects, one association, same toolkit at both ends",
        unit="MB/s",
        contenders=tuple(contenders),
        note=f"{_ARRIVAL} dicomnet's ends have the operations window that they have by themselves, DCMTK's receiver is "
        f"{_FASTEST}.",
        seconds=60,
        plot=Plot(
            name="throughput-by-size",
            title="One association, same toolkit at both ends",
            x="size of an object, bytes",
            y="MB/s",
            lines=tuple(lines),
            log_x=True,
            log_y=True,
        ),
    )


def by_associations(settings: Settings) -> Scenario:
    """Throughput by the number of associations, for the plot."""
    files = settings.corpus("small", quick=400, full=2000)
    fewer = settings.corpus("small", quick=40, full=200)
    contenders: list[Contender] = []
    lines: dict[str, list[tuple[float, str]]] = {"dicomnet": [], "DCMTK": [], "pynetdicom": []}
    ours, python = peers.dicomnet_receive(workers=2), _receiver_in_python()
    together = partial(_together, attempts=3)
    for number in (1, 2, 4, 8):
        send = partial(peers.dicomnet_send, associations=number, processes=min(number, 2))
        names = {toolkit: f"{toolkit}, {number}" for toolkit in lines}
        contenders += (
            _sends(send, ours, files, name=names["dicomnet"]),
            together(_TUNED_STORESCU, _fastest("--fork"), files, number, name=names["DCMTK"]),
            together(peers.pynetdicom_send, python, fewer, number, name=names["pynetdicom"], most_rounds=1),
        )
        for toolkit, name in names.items():
            lines[toolkit].append((float(number), name))
    return Scenario(
        title="10 kB files by the number of associations, same toolkit at both ends",
        unit="files/s",
        contenders=tuple(contenders),
        note=f"{_ARRIVAL} dicomnet sends from two processes at most, to a receiver with two workers; DCMTK and "
        f"pynetdicom from as many processes as there are associations, DCMTK to {_FASTEST}, with --fork.",
        seconds=60,
        plot=Plot(
            name="throughput-by-associations",
            title="10 kB files, same toolkit at both ends",
            x="associations",
            y="files/s",
            lines=tuple(Line(name=name, points=tuple(points)) for name, points in lines.items()),
            log_x=True,
        ),
    )


def _receives(
    settings: Settings, what: str, files: Corpus, fewer: Corpus, *, beside_bare: float | None = None
) -> Scenario:
    bare = [Goal(of=_TUNED_TO_DICOMNET, against=_TUNED_TO_BARE, at_least=beside_bare)]
    slow = settings.slow_rounds
    return Scenario(
        title=f"Receiving {what} into a folder, one association, one worker",
        unit="files/s",
        contenders=(
            _sends(_TUNED_STORESCU, peers.dicomnet_receive(), files, name=_TUNED_TO_DICOMNET, intact=True),
            _sends(_TUNED_STORESCU, _fastest(), files, name=_FASTEST_PAIR, intact=True),
            _sends(_TUNED_STORESCU, peers.dcmtk_storescp(tuned=True), files, name=_TUNED_PAIR),
            _sends(_TUNED_STORESCU, peers.bare_dicom("save", "{folder}"), files, name=_TUNED_TO_BARE, intact=True),
            _sends(
                *(_TUNED_STORESCU, _receiver_in_python(), fewer),
                name=_TUNED_TO_PYNETDICOM,
                most_rounds=slow,
                attempts=ATTEMPTS,
            ),
        ),
        goals=(*_receiving_goals(), *bare),
        note=_ARRIVAL,
        seconds=35,
    )


def _receiving_goals() -> tuple[Goal, ...]:
    ours = _TUNED_TO_DICOMNET
    return (
        Goal(of=ours, against=_FASTEST_PAIR, at_least=1.0),
        Goal(of=ours, against=_FASTEST_PAIR, key="scp_cpu_each", what="CPU of the SCP", at_most=1.2),
        Goal(of=ours, against=_TUNED_TO_PYNETDICOM, at_least=10),
    )


def _into_a_bare_sink(
    settings: Settings, what: str, files: Corpus, fewer: Corpus, *, at_least: float, amount: float | None = None
) -> Scenario:
    names = [f"{sender} → bare sink" for sender in ("dicomnet send", "storescu tuned", "pynetdicom")]
    ours, theirs, python = names
    sends = partial(_sends, amount=amount, intact=True)
    slow = settings.slow_rounds
    return Scenario(
        title=f"Sending {what}, one association, window 1",
        unit="files/s" if amount is None else "MB/s",
        contenders=(
            sends(_ONE_BY_ONE, peers.bare_sink(files), files, name=ours),
            sends(_TUNED_STORESCU, peers.bare_sink(files), files, name=theirs),
            sends(
                peers.pynetdicom_send, peers.bare_sink(fewer), fewer, name=python, most_rounds=slow, attempts=ATTEMPTS
            ),
        ),
        goals=(
            Goal(of=ours, against=theirs, at_least=at_least),
            Goal(of=ours, against=python, at_least=10),
            Goal(of=ours, against=theirs, key="scu_cpu_each", what="CPU of the SCU"),
        ),
        note="The sink is a bare socket program that answers each C-STORE and keeps all bytes in memory.",
        seconds=40 if amount else 20,
    )


def _crowd(
    settings: Settings,
    what: str,
    files: Corpus,
    *,
    fewer: Corpus | None = None,
    unit: str = "files/s",
    send: Callable[..., Program] = _TUNED_STORESCU,
    options: tuple[str, ...] = (),
) -> Scenario:
    receivers = {
        "dicomnet receive, 2 workers": peers.dicomnet_receive(workers=2),
        "dicomnet receive, 1 worker": peers.dicomnet_receive(),
        f"storescp --fork{_FASTEST.removeprefix('storescp')}": _fastest("--fork", *options),
    }
    ours, _, theirs = receivers
    python = [
        _together(
            *(send, _receiver_in_python(), fewer, _CROWD),
            name="pynetdicom",
            most_rounds=settings.slow_rounds,
            attempts=ATTEMPTS,
        )
        for fewer in ([fewer] if fewer else [])
    ]
    return Scenario(
        title=f"Receiving {what} from {_CROWD} senders at once",
        unit=unit,
        contenders=(
            *(
                _together(send, scp, files, _CROWD, name=name, intact=True, in_megabytes=unit == "MB/s")
                for name, scp in receivers.items()
            ),
            *python,
        ),
        goals=(
            Goal(of=ours, against=theirs, at_least=1.3),
            *(Goal(of=ours, against=one.name, at_least=10) for one in python),
        ),
        note=f"{_ARRIVAL} The senders are DCMTK's, tuned, each with its part of the files: of more files than "
        "elsewhere, because starting eight programs takes its time.",
        seconds=25,
    )


def _fastest(*options: str) -> Program:
    return peers.dcmtk_storescp(*_BIT_PRESERVING, *options, tuned=True)


def _receiver_in_python(memory: int = 0) -> Program:
    return peers.needing_memory(peers.pynetdicom_end("receive", "{folder}"), memory)


def _sends(
    scu: Callable[..., Program],
    scp: Program,
    files: Corpus,
    *,
    name: str,
    amount: float | None = None,
    intact: bool = False,
    most_rounds: int | None = None,
    attempts: int = 1,
) -> Contender:
    """A sender of files, and a receiver that writes them into its folder."""
    return Contender(
        name=name,
        scp=scp,
        scu=scu(*files.files),
        start=scu(files.start),
        amount=amount or files.count,
        files=(files.start, *files.files),
        intact=intact,
        most_rounds=most_rounds,
        attempts=attempts,
    )


def _together(
    scu: Callable[..., Program],
    scp: Program,
    files: Corpus,
    senders: int,
    *,
    name: str,
    in_megabytes: bool = False,
    intact: bool = False,
    most_rounds: int | None = None,
    attempts: int = 1,
) -> Contender:
    """Several senders at once, each with its part of the files."""
    counted = files.files[1:]
    first, *others = (scu(*counted[number::senders]) for number in range(senders))
    return Contender(
        name=name,
        scp=scp,
        scu=first,
        others=tuple(others),
        amount=files.size / MB if in_megabytes else files.count,
        files=counted,
        intact=intact,
        most_rounds=most_rounds,
        attempts=attempts,
    )


def _bare(files: Corpus, *, amount: float | None = None) -> Contender:
    return Contender(
        name=_BARE,
        scp=peers.raw("sink", "{folder}"),
        scu=peers.raw("source", "{port}", *map(str, files.files)),
        amount=amount or files.count,
        files=files.files,
        intact=True,
    )


def _some(count: int, share: float) -> int:
    return max(1, round(count * share))


def _size(size: int) -> str:
    return f"{size // 10**6} MB" if size >= 10**6 else f"{size // 1000} kB"
