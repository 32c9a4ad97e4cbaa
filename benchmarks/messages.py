"""Tables about messages that carry little: C-ECHO, small C-STOREs in memory, associations, C-FIND, and doing nothing.

Figures of a small exchange depend on where the system puts its two ends (see ``measure.pinned``), so such pairs are
measured both ways: as the system places them, and with a core for each end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks import canned, peers
from benchmarks.measure import PINNED, Contender, pinned
from benchmarks.model import Goal, Scenario, Settings
from benchmarks.processes import Program
from benchmarks.rounds import hold, launch
from benchmarks.studies import ANSWERS, TAGS, digest_of_studies, read

_MR = "1.2.840.10008.5.1.4.1.1.4"
_WINDOW = 16
_AT_ONCE = 32
_KILOBYTES = 64  # that an idle association may take

_PAIR = "dicomnet ↔ dicomnet, blocking"
_ASYNC_PAIR = "dicomnet ↔ dicomnet, asyncio"
_PING_PONG = "bare ping-pong, blocking"
_ASYNC_PING_PONG = "bare ping-pong, asyncio Protocol"
_PYNETDICOM = "pynetdicom ↔ pynetdicom"
_TUNED_PAIR = "DCMTK ↔ DCMTK, tuned"
_PLACED = (
    "As the system places them, both ends may share a core, where the ping-pong is several times as fast: between "
    "such rounds and others a median means little; see min – max, and the rows with a core per end."
)
ATTEMPTS = 5  # at a round with pynetdicom at an end, which now and then loses a message


def echo(settings: Settings) -> Scenario:
    """C-ECHO on one association, one after the other."""
    sizes = ("--request", str(len(canned.echo_rq())), "--response", str(len(canned.echo_rsp())))
    load = ("{port}", *settings.load)
    return Scenario(
        title="C-ECHO on one association, one after the other",
        unit="C-ECHOs/s",
        contenders=(
            *_both_ways(
                _pair(peers.dicomnet_end("echo", *load)),
                _ping_pong(sizes, settings.load),
                _async_pair(settings.load),
                _async_ping_pong(sizes, settings.load),
            ),
            _dcmtk_echo(_TUNED_PAIR, 4_000 if settings.quick else 8_000, tuned=True),
            _dcmtk_echo("DCMTK ↔ DCMTK, as shipped", 15 if settings.quick else 50, tuned=False, most_rounds=1),
            _pynetdicom_pair(peers.pynetdicom_end("echo", *load), settings),
        ),
        goals=(
            *_goals_both_ways(_PAIR, _PING_PONG, at_least=0.6),
            *_goals_both_ways(_ASYNC_PAIR, _ASYNC_PING_PONG, at_least=0.6),
            Goal(of=_PAIR, against=_TUNED_PAIR),
            Goal(of=_PAIR, against=_PYNETDICOM, at_least=10),
            Goal(of=_ASYNC_PAIR, against=_PYNETDICOM, at_least=10),
        ),
        note=f"The ping-pong exchanges {sizes[1]} and {sizes[3]} bytes, as a C-ECHO does. {_PLACED}",
        seconds=80,
    )


def echo_window(settings: Settings) -> Scenario:
    """C-ECHO on one association with an operations window."""
    load, window = ("{port}", *settings.load), ("--window", str(_WINDOW))
    blocking, asynchronous = (f"{name}, window {_WINDOW}" for name in (_PAIR, _ASYNC_PAIR))
    return Scenario(
        title=f"C-ECHO on one association, operations window {_WINDOW}",
        unit="C-ECHOs/s",
        contenders=(
            Contender(
                name=blocking,
                scp=peers.dicomnet_end("serve", *window),
                scu=peers.dicomnet_end("echo", *load, *window),
            ),
            _async_pair(settings.load, name=asynchronous, window=window),
            _dcmtk_echo(_TUNED_PAIR, 4_000 if settings.quick else 8_000, tuned=True),
        ),
        goals=(
            Goal(of=blocking, against=_TUNED_PAIR, at_least=2.0),
            Goal(of=asynchronous, against=_TUNED_PAIR, at_least=2.0),
        ),
        note=f"The blocking SCU is {_WINDOW} threads on one association, the asyncio SCU {_WINDOW} tasks. DCMTK has no "
        "operations window: it sends one after the other.",
        seconds=25,
    )


def store(settings: Settings) -> Scenario:
    """C-STORE of small objects on one association, kept in memory."""
    small = settings.corpus("small", quick=200, full=2000)
    request, response = canned.store_overhead(_MR, "2.25." + "9" * 38)
    sizes = ("--request", str(small.size // small.count + request), "--response", str(response))
    load = (*settings.load, "--most", "4000")
    paths = [str(path) for path in small.files[1:]]
    return Scenario(
        title="C-STORE of 10 kB objects on one association, from memory to memory",
        unit="files/s",
        contenders=(
            *_both_ways(
                _pair(peers.dicomnet_end("store", "{port}", *load, *paths), intact=True),
                _ping_pong(sizes, load),
            ),
            _pynetdicom_pair(peers.pynetdicom_end("store", "{port}", *load, *paths), settings),
        ),
        goals=(
            *_goals_both_ways(_PAIR, _PING_PONG, at_least=0.25),
            Goal(of=_PAIR, against=_PYNETDICOM, at_least=10),
        ),
        note=f"The ping-pong exchanges {sizes[1]} and {sizes[3]} bytes, and keeps them too. {_PLACED}",
        seconds=20,
    )


def associations(settings: Settings) -> Scenario:
    """Associations a second."""
    load, at_once = ("{port}", *settings.load), ("--at-once", str(_AT_ONCE))
    slow = settings.slow_rounds
    ours, fork, one, theirs = "dicomnet", "storescp --fork tuned", "storescp tuned", "pynetdicom"
    scps = {
        ours: peers.dicomnet_end("serve"),
        "dicomnet, asyncio": peers.dicomnet_aio_end("serve"),
        fork: peers.dcmtk_storescp("--fork", tuned=True),
        one: peers.dcmtk_storescp(tuned=True),
    }
    bare = peers.bare_dicom("associations", *load)
    crowd, together = peers.bare_dicom("associations", *load, *at_once), f", {_AT_ONCE} at once"
    python = Contender(name=theirs, scp=peers.pynetdicom_end("serve"), scu=bare, most_rounds=slow, attempts=ATTEMPTS)
    return Scenario(
        title="Connect, associate with one context, C-ECHO, release",
        unit="associations/s",
        contenders=(
            *(Contender(name=name, scp=scp, scu=bare) for name, scp in scps.items()),
            *(Contender(name=name + together, scp=scp, scu=crowd) for name, scp in scps.items()),
            _pair(peers.dicomnet_end("associations", *load)),
            python,
            replace(python, name=theirs + together, scu=crowd),
        ),
        goals=tuple(
            Goal(of=ours + placed, against=against + placed, at_least=at_least)
            for placed in ("", together)
            for against, at_least in ((fork, 2.0), (one, 0.3), (theirs, 10))
        ),
        note="One after the other, but where it says at once. Every SCP supports all storage SOP classes. The SCU is a "
        "bare one that sends ready-made PDUs and costs little; in the row with ↔ it is dicomnet, blocking.",
        seconds=55,
    )


def find(settings: Settings) -> Scenario:
    """C-FIND with many matches."""
    ours, theirs = "dicomnet → findscu", "pynetdicom → findscu"
    count = 1_000 if settings.quick else 5_000
    few = settings.corpus("query", quick=count, full=count).files[0]
    own = Contender(
        name="dicomnet → dicomnet SCU",
        scp=peers.dicomnet_end("answer", str(few)),
        scu=peers.dicomnet_end("find", "{port}"),
        answers=digest_of_studies(few),
        intact=True,
    )
    return Scenario(
        title=f"C-FIND: {count:,} matches of 12 attributes, answered with pydicom Datasets",
        unit="matches/s",
        contenders=(
            _finds(ours, peers.dicomnet_end("answer", str(few)), few),
            own,
            _finds(theirs, peers.pynetdicom_end("answer", str(few)), few, most_rounds=settings.slow_rounds),
        ),
        goals=(
            Goal(of=ours, against=theirs, at_least=10),
            Goal(of=ours, against=theirs, key="scp_cpu_each", what="CPU of the SCP"),
        ),
        note="The SCP has its Datasets at hand. After each round the same query is made once more, unmeasured, and all "
        "answers compared.",
        seconds=45,
    )


def find_many(settings: Settings) -> Scenario:
    """C-FIND with so many matches that nobody may hold them all."""
    count = 10_000 if settings.quick else 100_000
    studies = settings.corpus("query", quick=count, full=count).files[0]
    ours = "dicomnet → findscu"
    return Scenario(
        title=f"C-FIND: {count:,} matches of 12 attributes",
        unit="matches/s",
        contenders=(_finds(ours, peers.dicomnet_end("answer", str(studies)), studies, most_rounds=1),),
        goals=(Goal(of=ours, key="scp_above", what="memory of the SCP above idle, MB"),),
        note="Once. Idle is with all Datasets at hand.",
        seconds=30,
    )


def idle(settings: Settings) -> Scenario:
    """Associations that are there and say nothing."""
    seconds = 3.0 if settings.quick else 10.0
    ours, blocking, theirs = "dicomnet, asyncio", "dicomnet, blocking", "pynetdicom"
    python = _holds(theirs, peers.pynetdicom_end, 16 if settings.quick else 100, seconds)
    return Scenario(
        title="Idle associations, held by one process",
        unit="",
        contenders=(
            _holds(ours, peers.dicomnet_aio_end, 1000, seconds),
            _holds(blocking, peers.dicomnet_end, 200, seconds),
            replace(python, attempts=ATTEMPTS),
        ),
        goals=(
            Goal(of=ours, key="cpu_percent", what="CPU, % of a core", at_most=0.1),
            Goal(of=ours, key="kb_each", what="memory of each, kB", at_most=_KILOBYTES),
            Goal(of=blocking, key="cpu_percent", what="CPU, % of a core", at_most=0.1),
            Goal(of=blocking, key="kb_each", what="memory of each, kB"),
        ),
        note="Once. The requestors are bare sockets in another process; memory is resident memory.",
        measure=hold,
    )


def startup(_: Settings) -> Scenario:
    """What it costs to start."""
    used = "from dicomnet import AE, associate, serve"
    modules = {"import pydicom": "pydicom", "import dicomnet": "dicomnet", used: "dicomnet"}
    return Scenario(
        title="Start-up: a process from its start to its end",
        unit="",
        contenders=(
            Contender(name="python -c pass", scu=peers.python("pass")),
            *(Contender(name=line, scu=peers.python(line, needs=needs)) for line, needs in modules.items()),
            Contender(name="import pynetdicom", scu=peers.python("import pynetdicom", needs="pynetdicom")),
            Contender(name="dicomnet --help", scu=peers.dicomnet("--help")),
            Contender(name="dicomnet send --help", scu=peers.dicomnet("send", "--help")),
            Contender(name="pynetdicom storescu --help", scu=peers.pynetdicom_application("storescu", "--help")),
            Contender(name="DCMTK echoscu --help", scu=peers.dcmtk_help()),
        ),
        goals=(
            Goal(of="import dicomnet", less="import pydicom", key="ms", what="ms", at_most=60),
            Goal(of=used, less="import pydicom", key="ms", what="ms", at_most=60),
            Goal(of="dicomnet --help", less="python -c pass", key="ms", what="ms"),
        ),
        note="`import dicomnet` loads names when they are used; the row after it has used the blocking face's.",
        measure=launch,
        seconds=25,
    )


def _both_ways(*contenders: Contender) -> tuple[Contender, ...]:
    """Contenders as the system places them, and again with a core for each end."""
    return (*contenders, *map(pinned, contenders))


def _goals_both_ways(of: str, against: str, *, at_least: float) -> tuple[Goal, ...]:
    return tuple(Goal(of=of + placed, against=against + placed, at_least=at_least) for placed in ("", PINNED))


def _pair(scu: Program, *, intact: bool = False) -> Contender:
    return Contender(name=_PAIR, scp=peers.dicomnet_end("serve"), scu=scu, intact=intact)


def _async_pair(load: tuple[str, ...], *, name: str = _ASYNC_PAIR, window: tuple[str, ...] = ()) -> Contender:
    scp = peers.dicomnet_aio_end("serve", *window)
    return Contender(name=name, scp=scp, scu=peers.dicomnet_aio_end("echo", "{port}", *load, *window))


def _pynetdicom_pair(scu: Program, settings: Settings) -> Contender:
    scp, rounds = peers.pynetdicom_end("serve"), settings.slow_rounds
    return Contender(name=_PYNETDICOM, scp=scp, scu=scu, attempts=ATTEMPTS, most_rounds=rounds)


def _ping_pong(sizes: tuple[str, ...], load: tuple[str, ...]) -> Contender:
    return Contender(name=_PING_PONG, scp=peers.raw("pong", *sizes), scu=peers.raw("ping", "{port}", *load, *sizes))


def _async_ping_pong(sizes: tuple[str, ...], load: tuple[str, ...]) -> Contender:
    scp, scu = peers.raw("async_pong", *sizes), peers.raw("async_ping", "{port}", *load, *sizes)
    return Contender(name=_ASYNC_PING_PONG, scp=scp, scu=scu)


def _dcmtk_echo(name: str, repeat: int, *, tuned: bool, most_rounds: int | None = None) -> Contender:
    return Contender(
        name=name,
        scp=peers.dcmtk_storescp(tuned=tuned),
        scu=peers.dcmtk_echoscu(repeat + 1, tuned=tuned),
        start=peers.dcmtk_echoscu(1, tuned=tuned),
        amount=repeat,
        most_rounds=most_rounds,
    )


def _finds(name: str, scp: Program, studies: Path, *, most_rounds: int | None = None) -> Contender:
    """An SCP that answers ``findscu`` with all of its studies; with one, to see what it takes to start."""
    every = [option for keyword in TAGS if keyword != "QueryRetrieveLevel" for option in ("-k", keyword)]
    query = ("-k", "QueryRetrieveLevel=STUDY", *every)
    first = next(iter(read(studies)))["StudyInstanceUID"]
    return Contender(
        name=name,
        scp=scp,
        scu=peers.dcmtk_findscu(*query),
        start=peers.dcmtk_findscu(*query, "-k", f"StudyInstanceUID={first}"),
        check=peers.dcmtk_findscu(*query, "-Xs", f"{{folder}}/{ANSWERS}"),
        answers=digest_of_studies(studies),
        intact=True,
        amount=sum(1 for _ in read(studies)),
        most_rounds=most_rounds,
    )


def _holds(name: str, end: Callable[..., Program], count: int, seconds: float) -> Contender:
    return Contender(
        name=name,
        scp=end("serve", "--associations", str(count + 8)),
        scu=peers.bare_dicom("hold", "{port}", "--count", str(count)),
        held=count,
        seconds=seconds,
        most_rounds=1,
    )
