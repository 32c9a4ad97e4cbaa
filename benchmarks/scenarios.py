"""The rows of the table: who against whom, doing what, and the ratio to reach.

A scenario is a function of the settings, so that a corpus is built only for a scenario that runs. A figure to reach
compares two contenders of one scenario, or stands alone when it has no `against`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import canned, peers
from benchmarks.corpora import Corpus, corpus
from benchmarks.measure import HOLD, Contender, Measure, exchange, hold
from benchmarks.processes import MB, Program

_MR = "1.2.840.10008.5.1.4.1.1.4"
_BIT_PRESERVING = ("+B", "-pdu", "131072")  # storescp at its fastest
_SHIPPED_STORESCU = partial(peers.dcmtk_storescu, tuned=False)
_TUNED_STORESCU = partial(peers.dcmtk_storescu, tuned=True)
_FLAT = 64 * 2**20 / MB  # MB that moving an object of any size may cost either side

# Names of contenders that several scenarios or goals share.
_PAIR = "dicomnet ↔ dicomnet"
_PING_PONG = "bare ping-pong"
_PYNETDICOM = "pynetdicom ↔ pynetdicom"
_SHIPPED_PAIR = "storescu as shipped → storescp as shipped"
_TUNED_PAIR = "storescu tuned → storescp tuned"
_FASTEST_PAIR = "storescu tuned → storescp +B, 128 kB PDUs, tuned"
_ARRIVAL = "Rates are those of the files' arrival; a slow contender may have sent fewer files."


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how often. Quick is for a look in passing; its figures scatter."""

    quick: bool
    rounds: int
    cache: Path
    pin: bool = False  # SCP and SCU each on a core of its own

    @property
    def load(self) -> tuple[str, ...]:
        """Arguments of a load that times itself."""
        return ("--seconds", "0.5" if self.quick else "2")

    @property
    def slow_rounds(self) -> int | None:
        """Rounds of a contender that is slow: it must not take most of a quick run."""
        return 1 if self.quick else None

    def corpus(self, name: str, *, quick: int, full: int) -> Corpus:
        """The corpus `name` with so many files; of ``large``, frames of half a megabyte."""
        return corpus(self.cache, name, quick if self.quick else full)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure to reach: that of one contender, divided by that of another if there is one."""

    of: str
    against: str = ""
    key: str = "rate"
    what: str = ""  # for the reader, when the key is not the rate
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
            Contender(
                name=_PAIR,
                scp=peers.dicomnet_end("serve"),
                scu=peers.dicomnet_end("echo", "{port}", *settings.load),
            ),
            Contender(
                name=_PING_PONG,
                scp=peers.raw("pong", *sizes),
                scu=peers.raw("ping", "{port}", *settings.load, *sizes),
            ),
            _dcmtk_echo("DCMTK ↔ DCMTK, tuned", 5_000 if settings.quick else 20_000, tuned=True),
            _dcmtk_echo(
                "DCMTK ↔ DCMTK, as shipped",
                15 if settings.quick else 100,
                tuned=False,
                most_rounds=settings.slow_rounds,
            ),
            Contender(
                name=_PYNETDICOM,
                scp=peers.pynetdicom_end("serve"),
                scu=peers.pynetdicom_end("echo", "{port}", *settings.load),
                most_rounds=settings.slow_rounds,
            ),
        ),
        goals=(
            Goal(of=_PAIR, against=_PING_PONG, at_least=0.6),
            Goal(of=_PAIR, against="DCMTK ↔ DCMTK, tuned"),
            Goal(of=_PAIR, against=_PYNETDICOM, at_least=10),
        ),
        note=f"The ping-pong exchanges {sizes[1]} and {sizes[3]} bytes: the sizes of a C-ECHO's two messages.",
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
            Contender(
                name=_PAIR,
                scp=peers.dicomnet_end("serve"),
                scu=peers.dicomnet_end("store", "{port}", *load, *paths),
            ),
            Contender(
                name=_PING_PONG,
                scp=peers.raw("pong", *sizes),
                scu=peers.raw("ping", "{port}", *load, *sizes),
            ),
            Contender(
                name=_PYNETDICOM,
                scp=peers.pynetdicom_end("serve"),
                scu=peers.pynetdicom_end("store", "{port}", *load, *paths),
                most_rounds=settings.slow_rounds,
            ),
        ),
        goals=(
            Goal(of=_PAIR, against=_PING_PONG, at_least=0.25),
            Goal(of=_PAIR, against=_PYNETDICOM, at_least=10),
        ),
        note=f"The ping-pong exchanges {sizes[1]} and {sizes[3]} bytes.",
    )


def receive(settings: Settings) -> Scenario:
    """`dicomnet receive` from other people's senders."""
    small = settings.corpus("small", quick=200, full=2000)
    few = settings.corpus("small", quick=200, full=200)
    fewer = settings.corpus("small", quick=20, full=200)
    scp, stock = peers.dicomnet_receive(), peers.dcmtk_storescp(tuned=False)
    fastest = peers.dcmtk_storescp(*_BIT_PRESERVING, tuned=True)
    python = peers.pynetdicom_storescu
    return Scenario(
        title="Receiving 10 kB files into a folder, one association",
        unit="files/s",
        contenders=(
            _sends("storescu as shipped → dicomnet receive", _SHIPPED_STORESCU, scp, few, intact=True),
            _sends(_SHIPPED_PAIR, _SHIPPED_STORESCU, stock, fewer, most_rounds=settings.slow_rounds),
            _sends("storescu tuned → dicomnet receive", _TUNED_STORESCU, scp, small, intact=True),
            _sends(_TUNED_PAIR, _TUNED_STORESCU, peers.dcmtk_storescp(tuned=True), small),
            _sends(_FASTEST_PAIR, _TUNED_STORESCU, fastest, small, intact=True),
            _sends("pynetdicom storescu → dicomnet receive", python, scp, few),
            _sends("pynetdicom storescu → storescp as shipped", python, stock, fewer, most_rounds=settings.slow_rounds),
            _sends("storescu tuned → pynetdicom storescp", _TUNED_STORESCU, peers.pynetdicom_storescp(), few),
            _bare(small),
        ),
        goals=(
            Goal(of="storescu as shipped → dicomnet receive", against=_SHIPPED_PAIR, at_least=100),
            Goal(
                of="pynetdicom storescu → dicomnet receive",
                against="pynetdicom storescu → storescp as shipped",
                at_least=100,
            ),
            Goal(of="storescu tuned → dicomnet receive", against="storescu tuned → pynetdicom storescp", at_least=10),
            Goal(of="storescu tuned → dicomnet receive", against=_FASTEST_PAIR, at_least=1.0),
            Goal(
                of="storescu tuned → dicomnet receive",
                against=_FASTEST_PAIR,
                key="scp_cpu_each",
                what="CPU of the SCP",
                at_most=1.2,
            ),
        ),
        note=_ARRIVAL,
    )


def send(settings: Settings) -> Scenario:
    """`dicomnet send` to other people's receivers."""
    small = settings.corpus("small", quick=200, full=2000)
    few = settings.corpus("small", quick=200, full=200)
    fewer = settings.corpus("small", quick=20, full=200)
    stock, tuned = peers.dcmtk_storescp(tuned=False), peers.dcmtk_storescp(tuned=True)
    return Scenario(
        title="Sending 10 kB files, one association",
        unit="files/s",
        contenders=(
            _sends("dicomnet send → storescp as shipped", peers.dicomnet_send, stock, few),
            _sends(_SHIPPED_PAIR, _SHIPPED_STORESCU, stock, fewer, most_rounds=settings.slow_rounds),
            _sends("dicomnet send → storescp tuned", peers.dicomnet_send, tuned, small),
            _sends(_TUNED_PAIR, _TUNED_STORESCU, tuned, small),
            _sends(
                "dicomnet send → dicomnet receive", peers.dicomnet_send, peers.dicomnet_receive(), small, intact=True
            ),
        ),
        goals=(
            Goal(of="dicomnet send → storescp as shipped", against=_SHIPPED_PAIR, at_least=100),
            Goal(of="dicomnet send → storescp tuned", against=_TUNED_PAIR, at_least=1.0),
        ),
        note=_ARRIVAL,
    )


def large(settings: Settings) -> Scenario:
    """One large multi-frame object."""
    big = settings.corpus("large", quick=244, full=1908)
    megabytes = big.size / MB
    fastest = peers.dcmtk_storescp(*_BIT_PRESERVING, tuned=True)
    python = peers.needing_memory(peers.pynetdicom_storescp(), 12 * big.size)
    return Scenario(
        title=f"One multi-frame object of {megabytes:.0f} MB, from file to file",
        unit="MB/s",
        contenders=(
            _sends(_PAIR, peers.dicomnet_send, peers.dicomnet_receive(), big, amount=megabytes, intact=True),
            _bare(big, amount=megabytes),
            _sends(_FASTEST_PAIR, _TUNED_STORESCU, fastest, big, amount=megabytes, intact=True),
            _sends(_TUNED_PAIR, _TUNED_STORESCU, peers.dcmtk_storescp(tuned=True), big, amount=megabytes),
            _sends(
                _PYNETDICOM, peers.pynetdicom_storescu, python, big, amount=megabytes, most_rounds=settings.slow_rounds
            ),
        ),
        goals=(
            Goal(of=_PAIR, key="scu_above", what="SCU's memory above idle, MB", at_most=_FLAT),
            Goal(of=_PAIR, key="scp_above", what="SCP's memory above idle, MB", at_most=_FLAT),
            Goal(of=_PAIR, against=_PYNETDICOM),
        ),
        note="Idle is, for an SCP, when it begins to listen; for an SCU, its peak when it sends one small file.",
    )


def associations(settings: Settings) -> Scenario:
    """Associations a second, one after the other."""
    scp, scu = peers.dicomnet_end("serve"), peers.raw("associations", "{port}", *settings.load)
    fork = peers.dcmtk_storescp("--fork", tuned=True)
    return Scenario(
        title="Connect, associate with one context, C-ECHO, release; one after the other",
        unit="associations/s",
        contenders=(
            Contender(name=_PAIR, scp=scp, scu=peers.dicomnet_end("associations", "{port}", *settings.load)),
            Contender(name="bare SCU → dicomnet", scp=scp, scu=scu),
            Contender(name="bare SCU → storescp tuned", scp=peers.dcmtk_storescp(tuned=True), scu=scu),
            Contender(name="bare SCU → storescp --fork tuned", scp=fork, scu=scu),
            Contender(name="bare SCU → pynetdicom", scp=peers.pynetdicom_end("serve"), scu=scu),
        ),
        goals=(
            Goal(of="bare SCU → dicomnet", against="bare SCU → storescp --fork tuned", at_least=2.0),
            Goal(of="bare SCU → dicomnet", against="bare SCU → storescp tuned", at_least=0.3),
            Goal(of="bare SCU → dicomnet", against="bare SCU → pynetdicom", at_least=10),
        ),
        note="Every SCP supports all storage SOP classes. The bare SCU sends ready-made PDUs: it costs little.",
    )


def idle(settings: Settings) -> Scenario:
    """Associations that are there and say nothing."""
    return Scenario(
        title="Idle associations, held by one process",
        unit="",
        contenders=(
            _holds("dicomnet", peers.dicomnet_end, 200),
            _holds("pynetdicom", peers.pynetdicom_end, 100),
        ),
        goals=(Goal(of="dicomnet", key="cpu_percent", what="CPU, % of a core", at_most=0.1),),
        note=f"For {HOLD:.0f} s, once. The requestors are bare sockets in another process.",
        measure=hold,
    )


SCENARIOS: dict[str, Callable[[Settings], Scenario]] = {
    scenario.__name__: scenario for scenario in (echo, store, receive, send, large, associations, idle)
}


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


def _holds(name: str, end: Callable[..., Program], count: int) -> Contender:
    return Contender(
        name=name,
        scp=end("serve", "--associations", str(count + 8)),
        scu=peers.raw("hold", "{port}", "--count", str(count)),
        held=count,
        most_rounds=1,
    )
