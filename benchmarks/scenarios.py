"""The rows of the table: who against whom, doing what, and the ratio to reach.

A scenario is a function of the settings, so that a corpus is built only for a scenario that runs. A figure to reach
compares two contenders of one scenario, or stands alone when it has no `against`.

Figures of a small exchange depend on where the system puts its two ends (see ``measure.pinned``), so such pairs are
measured both ways: as the system places them, and with a core for each end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import canned, peers
from benchmarks.corpora import Corpus, corpus
from benchmarks.measure import PINNED, Contender, Measure, Plan, exchange, hold, launch, pinned
from benchmarks.processes import MB, Program

_MR = "1.2.840.10008.5.1.4.1.1.4"
_BIT_PRESERVING = ("+B", "-pdu", "131072")  # storescp at its fastest
_SHIPPED_STORESCU = partial(peers.dcmtk_storescu, tuned=False)
_TUNED_STORESCU = partial(peers.dcmtk_storescu, tuned=True)
_FLAT = 64 * 2**20 / MB  # MB that moving an object of any size may cost either side

# Names of contenders that several scenarios or goals share.
_PAIR = "dicomnet ↔ dicomnet"
_SEND_TO_RECEIVE = "dicomnet send → dicomnet receive"
_PING_PONG = "bare ping-pong"
_PYNETDICOM = "pynetdicom ↔ pynetdicom"
_SHIPPED_PAIR = "storescu as shipped → storescp as shipped"
_TUNED_PAIR = "storescu tuned → storescp tuned"
_FASTEST_PAIR = "storescu tuned → storescp +B, 128 kB PDUs, tuned"
_STORESCU_TO_DICOMNET = "storescu as shipped → dicomnet receive"
_TUNED_TO_DICOMNET = "storescu tuned → dicomnet receive"
_DICOMNET_TO_SHIPPED = "dicomnet send → storescp as shipped"
_DICOMNET_TO_TUNED = "dicomnet send → storescp tuned"
_PYNETDICOM_TO_DICOMNET = "pynetdicom storescu → dicomnet receive"
_PYNETDICOM_TO_SHIPPED = "pynetdicom storescu → storescp as shipped"
_PYNETDICOM_TO_TUNED = "pynetdicom storescu → storescp tuned"
_TUNED_TO_PYNETDICOM = "storescu tuned → pynetdicom storescp"
_ARRIVAL = (
    "Rates are those of the files' arrival. Tuned is with `TCP_NODELAY=1`. As shipped, each file waits for delayed "
    "acknowledgements: always as long, so fewer rounds tell it, in a quick run of fewer files."
)
_PLACED = (
    "As the system places them, both ends may share a core, where the ping-pong is several times as fast: between "
    "such rounds and others a median means little; see min – max, and the rows with a core per end."
)
_ATTEMPTS = 5  # at a round with pynetdicom at an end, which now and then loses a message


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how often. Quick is for a look in passing; its figures scatter."""

    quick: bool
    cache: Path
    rounds: int

    @property
    def plan(self) -> Plan:
        """Eight tables: in two minutes if quick, else in a quarter of an hour."""
        return Plan(rounds=self.rounds, warm_up=not self.quick, seconds=8.0 if self.quick else 150.0)

    @property
    def load(self) -> tuple[str, ...]:
        """Arguments of a load that times itself."""
        return ("--seconds", "0.5" if self.quick else "1.5")

    @property
    def slow_rounds(self) -> int:
        """Rounds of a contender that is slow: it must not take most of a run."""
        return 1 if self.quick else 2

    def corpus(self, name: str, *, quick: int, full: int) -> Corpus:
        """The corpus `name` with so many files; of ``large``, frames of half a megabyte."""
        return corpus(self.cache, name, quick if self.quick else full)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure to reach: that of one contender, divided by that of another if there is one, or less that of another."""

    of: str
    against: str = ""
    less: str = ""
    key: str = "rate"
    what: str = ""  # for the reader: what the key is, if not the rate; when it is due, if later
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One table: contenders that do the same, in a unit, and the figures to reach."""

    title: str
    unit: str
    contenders: tuple[Contender, ...]
    goals: tuple[Goal, ...] = ()
    note: str = ""
    measure: Measure = exchange


def echo(settings: Settings) -> Scenario:
    """C-ECHO on one association."""
    sizes = ("--request", str(len(canned.echo_rq())), "--response", str(len(canned.echo_rsp())))
    return Scenario(
        title="C-ECHO on one association",
        unit="C-ECHOs/s",
        contenders=(
            *_both_ways(
                _pair(peers.dicomnet_end("echo", "{port}", *settings.load)),
                _ping_pong(sizes, settings.load),
            ),
            _dcmtk_echo("DCMTK ↔ DCMTK, tuned", 5_000 if settings.quick else 20_000, tuned=True),
            _dcmtk_echo(
                "DCMTK ↔ DCMTK, as shipped",
                15 if settings.quick else 100,
                tuned=False,
                most_rounds=settings.slow_rounds,
            ),
            _pynetdicom_pair(peers.pynetdicom_end("echo", "{port}", *settings.load)),
        ),
        goals=(
            *_goals_both_ways(_PAIR, _PING_PONG, at_least=0.5),
            *_goals_both_ways(_PAIR, _PING_PONG, at_least=0.6, what="later"),
            Goal(of=_PAIR, against="DCMTK ↔ DCMTK, tuned"),
            Goal(of=_PAIR, against=_PYNETDICOM, at_least=10),
        ),
        note=f"The ping-pong exchanges {sizes[1]} and {sizes[3]} bytes, as a C-ECHO does. {_PLACED}",
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
            _pynetdicom_pair(peers.pynetdicom_end("store", "{port}", *load, *paths)),
        ),
        goals=(
            *_goals_both_ways(_PAIR, _PING_PONG, at_least=0.25),
            Goal(of=_PAIR, against=_PYNETDICOM, at_least=10),
        ),
        note=f"The ping-pong exchanges {sizes[1]} and {sizes[3]} bytes, and keeps them too. {_PLACED}",
    )


def receive(settings: Settings) -> Scenario:
    """`dicomnet receive` from other people's senders."""
    small = settings.corpus("small", quick=500, full=2000)
    few = settings.corpus("small", quick=200, full=200)
    fewer = settings.corpus("small", quick=20, full=200)
    lossy = settings.corpus("small", quick=50, full=100)
    scp, stock = peers.dicomnet_receive(), peers.dcmtk_storescp(tuned=False)
    fastest = peers.dcmtk_storescp(*_BIT_PRESERVING, tuned=True)
    python, slow = peers.pynetdicom_storescu, settings.slow_rounds
    return Scenario(
        title="Receiving 10 kB files into a folder, one association",
        unit="files/s",
        contenders=(
            _sends(_STORESCU_TO_DICOMNET, _SHIPPED_STORESCU, scp, few, intact=True),
            _sends(_SHIPPED_PAIR, _SHIPPED_STORESCU, stock, fewer, most_rounds=slow),
            _sends(_TUNED_TO_DICOMNET, _TUNED_STORESCU, scp, small, intact=True),
            _sends(_TUNED_PAIR, _TUNED_STORESCU, peers.dcmtk_storescp(tuned=True), small),
            _sends(_FASTEST_PAIR, _TUNED_STORESCU, fastest, small, intact=True),
            _sends(_PYNETDICOM_TO_DICOMNET, python, scp, lossy, attempts=_ATTEMPTS),
            _sends(_PYNETDICOM_TO_SHIPPED, python, stock, fewer, most_rounds=slow, attempts=_ATTEMPTS),
            _sends(_TUNED_TO_PYNETDICOM, _TUNED_STORESCU, peers.pynetdicom_storescp(), lossy, attempts=_ATTEMPTS),
            _bare(small),
        ),
        goals=(
            Goal(of=_STORESCU_TO_DICOMNET, against=_SHIPPED_PAIR, at_least=100),
            Goal(of=_PYNETDICOM_TO_DICOMNET, against=_PYNETDICOM_TO_SHIPPED, at_least=100, what="later"),
            Goal(of=_TUNED_TO_DICOMNET, against=_TUNED_TO_PYNETDICOM, at_least=10),
            Goal(of=_TUNED_TO_DICOMNET, against=_FASTEST_PAIR, at_least=1.0, what="later"),
            Goal(
                of=_TUNED_TO_DICOMNET,
                against=_FASTEST_PAIR,
                key="scp_cpu_each",
                what="CPU of the SCP, later",
                at_most=1.2,
            ),
        ),
        note=_ARRIVAL,
    )


def send(settings: Settings) -> Scenario:
    """`dicomnet send` to other people's receivers."""
    small = settings.corpus("small", quick=500, full=2000)
    few = settings.corpus("small", quick=200, full=200)
    fewer = settings.corpus("small", quick=20, full=200)
    stock, tuned = peers.dcmtk_storescp(tuned=False), peers.dcmtk_storescp(tuned=True)
    python, slow = peers.pynetdicom_storescu, settings.slow_rounds
    return Scenario(
        title="Sending 10 kB files, one association",
        unit="files/s",
        contenders=(
            _sends(_DICOMNET_TO_SHIPPED, peers.dicomnet_send, stock, few),
            _sends(_SHIPPED_PAIR, _SHIPPED_STORESCU, stock, fewer, most_rounds=slow),
            _sends(_DICOMNET_TO_TUNED, peers.dicomnet_send, tuned, small),
            _sends(_TUNED_PAIR, _TUNED_STORESCU, tuned, small),
            _sends(_PYNETDICOM_TO_TUNED, python, tuned, fewer, most_rounds=slow, attempts=_ATTEMPTS),
            _sends(_SEND_TO_RECEIVE, peers.dicomnet_send, peers.dicomnet_receive(), small, intact=True),
        ),
        goals=(
            Goal(of=_DICOMNET_TO_SHIPPED, against=_SHIPPED_PAIR, at_least=100),
            Goal(of=_DICOMNET_TO_TUNED, against=_TUNED_PAIR, at_least=1.0, what="later"),
            Goal(of=_DICOMNET_TO_TUNED, against=_PYNETDICOM_TO_TUNED, at_least=10),
        ),
        note=_ARRIVAL,
    )


def large(settings: Settings) -> Scenario:
    """One large multi-frame object."""
    big = settings.corpus("large", quick=488, full=1908)
    megabytes = big.size / MB
    default, fastest = peers.dcmtk_storescp(tuned=True), peers.dcmtk_storescp(*_BIT_PRESERVING, tuned=True)
    python = peers.needing_memory(peers.pynetdicom_storescp(), 12 * big.size)
    sends = partial(_sends, files=big, amount=megabytes)
    return Scenario(
        title=f"One multi-frame object of {megabytes:.0f} MB, from file to file",
        unit="MB/s",
        contenders=(
            sends(_SEND_TO_RECEIVE, peers.dicomnet_send, peers.dicomnet_receive(), intact=True),
            _bare(big, amount=megabytes),
            sends(_FASTEST_PAIR, _TUNED_STORESCU, fastest, intact=True),
            sends(_TUNED_PAIR, _TUNED_STORESCU, default),
            sends(_PYNETDICOM, peers.pynetdicom_storescu, python, most_rounds=settings.slow_rounds, attempts=_ATTEMPTS),
        ),
        goals=(
            Goal(of=_SEND_TO_RECEIVE, key="scu_above", what="SCU's memory above idle, MB", at_most=_FLAT),
            Goal(of=_SEND_TO_RECEIVE, key="scp_above", what="SCP's memory above idle, MB", at_most=_FLAT),
            Goal(of=_SEND_TO_RECEIVE, against=_FASTEST_PAIR),
            Goal(of=_SEND_TO_RECEIVE, against=_TUNED_PAIR),
            Goal(of=_SEND_TO_RECEIVE, against=_PYNETDICOM),
        ),
        note="Idle is, for an SCP, when it begins to listen; for an SCU, its peak when it sends one small file.",
    )


def associations(settings: Settings) -> Scenario:
    """Associations a second, one after the other."""
    bare = partial(Contender, scu=peers.raw("associations", "{port}", *settings.load))
    dicomnet, pynetdicom, slow = peers.dicomnet_end("serve"), peers.pynetdicom_end("serve"), settings.slow_rounds
    return Scenario(
        title="Connect, associate with one context, C-ECHO, release; one after the other",
        unit="associations/s",
        contenders=(
            _pair(peers.dicomnet_end("associations", "{port}", *settings.load)),
            bare(name="bare SCU → dicomnet", scp=dicomnet),
            bare(name="bare SCU → storescp tuned", scp=peers.dcmtk_storescp(tuned=True)),
            bare(name="bare SCU → storescp --fork tuned", scp=peers.dcmtk_storescp("--fork", tuned=True)),
            bare(name="bare SCU → pynetdicom", scp=pynetdicom, most_rounds=slow, attempts=_ATTEMPTS),
            replace(_pynetdicom_pair(peers.pynetdicom_end("associations", "{port}", *settings.load)), most_rounds=slow),
        ),
        goals=(
            Goal(of="bare SCU → dicomnet", against="bare SCU → storescp --fork tuned", at_least=2.0, what="later"),
            Goal(of="bare SCU → dicomnet", against="bare SCU → storescp tuned", at_least=0.3, what="later"),
            Goal(of="bare SCU → dicomnet", against="bare SCU → pynetdicom", at_least=10),
            Goal(of=_PAIR, against=_PYNETDICOM, at_least=10),
        ),
        note="Every SCP supports all storage SOP classes. The bare SCU sends ready-made PDUs: it costs little.",
    )


def idle(settings: Settings) -> Scenario:
    """Associations that are there and say nothing."""
    few, seconds = (40, 3.0) if settings.quick else (100, 10.0)
    return Scenario(
        title="Idle associations, held by one process",
        unit="",
        contenders=(
            _holds("dicomnet", peers.dicomnet_end, 200, 10.0),
            replace(_holds("pynetdicom", peers.pynetdicom_end, few, seconds), attempts=_ATTEMPTS),
        ),
        goals=(
            Goal(of="dicomnet", key="cpu_percent", what="CPU, % of a core", at_most=0.1),
            Goal(of="dicomnet", key="kb_each", what="memory of each, kB"),
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
            Contender(name="pynetdicom storescu --help", scu=peers.pynetdicom("storescu", "--help")),
            Contender(name="DCMTK echoscu --help", scu=peers.dcmtk_help()),
        ),
        goals=(
            Goal(of="import dicomnet", less="import pydicom", key="ms", what="ms", at_most=60),
            Goal(of=used, less="import pydicom", key="ms", what="ms", at_most=60),
            Goal(of="dicomnet --help", less="python -c pass", key="ms", what="ms"),
        ),
        note="`import dicomnet` loads names when they are used; the row after it has used the blocking face's.",
        measure=launch,
    )


SCENARIOS: dict[str, Callable[[Settings], Scenario]] = {
    scenario.__name__: scenario for scenario in (echo, store, receive, send, large, associations, idle, startup)
}


def _both_ways(*contenders: Contender) -> tuple[Contender, ...]:
    """Contenders as the system places them, and again with a core for each end."""
    return (*contenders, *map(pinned, contenders))


def _goals_both_ways(of: str, against: str, *, at_least: float, what: str = "") -> tuple[Goal, ...]:
    return tuple(
        Goal(of=of + placed, against=against + placed, at_least=at_least, what=what) for placed in ("", PINNED)
    )


def _pair(scu: Program, *, intact: bool = False) -> Contender:
    return Contender(name=_PAIR, scp=peers.dicomnet_end("serve"), scu=scu, intact=intact)


def _pynetdicom_pair(scu: Program) -> Contender:
    return Contender(name=_PYNETDICOM, scp=peers.pynetdicom_end("serve"), scu=scu, attempts=_ATTEMPTS)


def _ping_pong(sizes: tuple[str, ...], load: tuple[str, ...]) -> Contender:
    return Contender(name=_PING_PONG, scp=peers.raw("pong", *sizes), scu=peers.raw("ping", "{port}", *load, *sizes))


def _dcmtk_echo(name: str, repeat: int, *, tuned: bool, most_rounds: int | None = None) -> Contender:
    return Contender(
        name=name,
        scp=peers.dcmtk_storescp(tuned=tuned),
        scu=peers.dcmtk_echoscu(repeat + 1, tuned=tuned),
        start=peers.dcmtk_echoscu(1, tuned=tuned),
        amount=repeat,
        most_rounds=most_rounds,
    )


def _sends(
    name: str,
    scu: Callable[..., Program],
    scp: Program,
    files: Corpus,
    *,
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


def _bare(files: Corpus, *, amount: float | None = None) -> Contender:
    return Contender(
        name="bare source → bare sink",
        scp=peers.raw("sink", "{folder}"),
        scu=peers.raw("source", "{port}", *map(str, files.files)),
        amount=amount or files.count,
        files=files.files,
        intact=True,
    )


def _holds(name: str, end: Callable[..., Program], count: int, seconds: float) -> Contender:
    return Contender(
        name=name,
        scp=end("serve", "--associations", str(count + 8)),
        scu=peers.raw("hold", "{port}", "--count", str(count)),
        held=count,
        seconds=seconds,
        most_rounds=1,
    )
