"""``dicomnet.toml``: which files count, what they may say, who wins; ``dicomnet peers`` changes them and asks all."""

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet.cli.program import run
from dicomnet.peers import book, editing
from dicomnet.tls import PROFILES
from tests.cli.conftest import Done, Scp
from tests.cli.programs import HOST

Command = Callable[..., Done]
Serve = Callable[..., Scp]
PACS = '[peers.pacs]\naddress = "PACS@192.0.2.7:11112"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own file is in the folder ``user`` here; the current folder is ``a/b``."""
    monkeypatch.delenv(book.VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "user"))
    monkeypatch.setattr("sys.platform", "linux")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "user" / "dicomnet").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    return tmp_path


def user(home: Path, text: str) -> Path:
    path = home / "user" / "dicomnet" / book.FILE
    path.write_text(text)
    return path


def near(home: Path, text: str, folder: str = "a") -> Path:
    path = home / folder / book.FILE
    path.write_text(text)
    return path


# --- which files count ----------------------------------------------------------------------------------------------


def test_the_first_file_upwards_counts_then_the_users(home: Path) -> None:
    own, above = user(home, ""), near(home, "")
    near(home, "", folder="")  # further up than the first: it does not count
    assert book.load().files == (above, own)
    nearest = near(home, "", folder="a/b")
    assert book.load().files == (nearest, own)


def test_without_any_file_there_is_nothing(home: Path) -> None:
    assert book.load() == book.Book()


@pytest.mark.parametrize(("named", "count"), [("named.toml", 1), ("", 0)])
def test_the_environment_names_the_only_one(home: Path, monkeypatch: Any, named: str, count: int) -> None:
    user(home, PACS)
    near(home, PACS)
    (home / "a" / "b" / "named.toml").touch()
    monkeypatch.setenv(book.VARIABLE, named)
    assert book.load().files == (Path.cwd() / "named.toml",) * count


def test_a_file_that_is_named_and_missing_is_an_error(home: Path, command: Command, monkeypatch: Any) -> None:
    monkeypatch.setenv(book.VARIABLE, "/nowhere/to/be/found.toml")
    done = command("echo", f"A@{HOST}:1")
    assert done.code == 2
    assert "DICOMNET_CONFIG names /nowhere/to/be/found.toml" in done.err


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"XDG_CONFIG_HOME": "/x"}, "/x/dicomnet/dicomnet.toml"),
        ("linux", {"XDG_CONFIG_HOME": "relative"}, "~/.config/dicomnet/dicomnet.toml"),
        ("linux", {}, "~/.config/dicomnet/dicomnet.toml"),
        ("darwin", {"XDG_CONFIG_HOME": "/x"}, "~/Library/Application Support/dicomnet/dicomnet.toml"),
        ("win32", {"APPDATA": "/roaming"}, "/roaming/dicomnet/dicomnet.toml"),
    ],
)
def test_each_system_has_its_place(monkeypatch: Any, platform: str, environment: dict[str, str], expected: str) -> None:
    monkeypatch.setattr("sys.platform", platform)
    assert book.user_file(environment) == Path(expected).expanduser()


# --- whom to believe ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("link", [False, True])
def test_another_users_file_is_refused_unless_it_is_named(
    home: Path, command: Command, monkeypatch: Any, link: bool
) -> None:
    """It could lead patient data elsewhere. Of a link who made it counts."""
    monkeypatch.delenv("SUDO_UID", raising=False)
    path = near(home, PACS)
    if link:
        path.rename(home / "target")
        path.symlink_to(home / "target")
    os.chown(path, 12345, -1, follow_symlinks=False)
    done = command("echo", "pacs", "--json")
    assert done.code == 2
    assert f"{path} belongs to another user" in done.err
    assert done.events[-1]["exit_code"] == 2
    monkeypatch.setenv(book.VARIABLE, str(path))
    assert "pacs" in book.load().peers


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_a_file_that_everybody_may_write_is_refused(home: Path) -> None:
    near(home, PACS).chmod(0o666)
    with pytest.raises(book.InvalidPeers, match="chmod o-w"):
        book.load()


def test_with_v_it_is_told_which_files_were_used(home: Path, command: Command, free_port: int) -> None:
    path = near(home, f'[peers.pacs]\naddress = "PACS@{HOST}:{free_port}"')
    done = command("echo", "pacs", "-v")
    assert done.err.startswith(f"settings of {path}; pacs is PACS@{HOST}:{free_port}\n")
    assert str(path) not in command("echo", "pacs").err


# --- who wins -------------------------------------------------------------------------------------------------------


def contents(path: str, text: str) -> book.Contents:
    return book.parse(text, Path(path))


def test_the_nearer_file_wins_peers_whole_and_defaults_key_by_key() -> None:
    merged = book.Book(
        (
            contents("/near/x", '[defaults]\ncalling="NEAR"\n[peers.a]\naddress="A@near"'),
            contents("/far/x", '[defaults]\ncalling="FAR"\ntls-ca="ca"\n[peers.a]\naddress="A@far"\ntls=true\n' + PACS),
        )
    )
    assert str(merged.peers["a"].peer) == "A@near:104"
    assert merged.peers.keys() == {"a", "pacs"}
    assert merged.options(merged.peers["a"], {}) == {"calling": "NEAR", "tls-ca": "/far/ca"}
    assert merged.origin(merged.peers["a"], "tls-ca") == "/far/x: [defaults] tls-ca"


def test_times_are_taken_one_by_one() -> None:
    only = book.Book((contents("/x", '[defaults]\ntimeout={connect=3, idle="none"}\n' + PACS + "timeout={connect=4}"),))
    options = only.options(only.peers["pacs"], {"timeout": {"tls": 5.0}})
    assert options["timeout"] == {"connect": 4.0, "idle": None, "tls": 5.0}


def test_identities_and_certificates_come_from_one_place() -> None:
    """No user name with another one's passcode, no certificate with another one's key."""
    defaults = '[defaults]\nidentity-username="me"\nidentity-passcode-file="p"\ntls-cert="c"\ntls-key="k"\n'
    only = book.Book((contents("/x", defaults + PACS + 'identity-jwt="j"\ntls-cert="other"'),))
    assert only.options(only.peers["pacs"], {}) == {"identity-jwt": "/j", "tls-cert": "/other"}
    assert only.options(None, {"identity-username": "you"})["identity-username"] == "you"
    assert "identity-passcode-file" not in only.options(None, {"identity-username": "you"})


def test_a_peer_without_tls_is_without() -> None:
    only = book.Book((contents("/x", '[defaults]\ntls-ca="ca"\n' + PACS + "tls=false"),))
    assert only.options(only.peers["pacs"], {}) == {}
    assert only.options(None, {}) == {"tls-ca": "/ca"}
    assert only.options(only.peers["pacs"], {"tls": True}) == {"tls": True, "tls-ca": "/ca"}


def test_the_command_line_wins_over_the_peer_over_the_defaults(home: Path, command: Command, serve: Serve) -> None:
    scp = serve()
    (home / "passcode").write_text("secret\n")
    near(
        home,
        '[defaults]\ncalling = "EVERYONE"\nidentity-username = "jdoe"\nidentity-passcode-file = "../passcode"\n'
        f'[peers.a]\naddress = "{scp.peer}"\n[peers.b]\naddress = "{scp.peer}"\ncalling = "OWN"\n',
    )
    for arguments in (["a"], ["b"], ["b", "--calling", "GIVEN", "--identity-passcode", "other"], [scp.peer]):
        assert command("echo", *arguments).code == 0
    assert [association.calling_ae for association in scp.associations] == ["EVERYONE", "OWN", "GIVEN", "EVERYONE"]
    identities = [association.identity for association in scp.associations]
    assert identities[1:3] == [dicomnet.Identity.passcode("jdoe", word) for word in ("secret", "other")]


def test_who_listens_takes_nothing_from_it(home: Path, command: Command) -> None:
    """A certificate to show to peers must not make ``receive`` want TLS."""
    near(home, '[defaults]\ntls-key = "missing"\n')
    done = command("receive", home / "in", "--port", "0", "--host", "192.0.2.1")
    assert "cannot listen" in done.err


# --- what may be in it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[peers\n", "line 1"),
        ("[peer.x]", "did you mean peers?"),
        ("[peers]\nx = 3", "[peers.x] is to be a table"),
        ("[peers.x]", 'address = "PACS@192.0.2.7:11112"'),
        ('[peers.x]\naddress = "PACS"', "[peers.x] address: 'PACS' is not AET@host:port"),
        ('[peers."a@b"]\naddress = "A@b"', "no name for a peer"),
        (PACS + 'caling = "X"', "[peers.pacs] has no key caling; did you mean calling?"),
        (PACS + 'calling = "X\\\\"', "[peers.pacs] calling: AE title"),
        (PACS + "calling = 3", "calling is to be a text, not 3"),
        (PACS + "tls = 1", "tls is to be true or false"),
        (PACS + 'tls-ca = ""', "tls-ca is to be a file name"),
        (PACS + "tls-crl = [1]", "a file name or a list"),
        (PACS + 'tls-verify = "some"', "full, chain, none"),
        (PACS + 'tls-profile = "best"', "bcp195-nd"),
        (PACS + "tls-no-verify = true", 'tls-verify = "none"'),
        (PACS + 'identity-passcode = "x"', "identity-passcode-file"),
        (PACS + "timeout = 3", "a table of seconds"),
        (PACS + "timeout = {conect = 3}", "did you mean connect?"),
        (PACS + "timeout = {connect = 0}", "seconds"),
        (PACS + "timeout = {connect = nan}", "seconds"),
        (PACS + "timeout = {connect = true}", "seconds"),
        ('[defaults]\naddress = "A@b"', "[defaults] has no key address"),
        ("a = " + "[" * 100_000, "nested"),
        ("\udcff", "UTF-8"),
        ("#" * 1_100_000, "bytes"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_key(home: Path, command: Command, text: str, hint: str) -> None:
    path = near(home, "")
    path.write_bytes(text.encode(errors="surrogateescape"))
    done = command("echo", "A@192.0.2.7")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert str(path) in done.err
    assert hint in done.err


def test_a_file_that_is_missing_is_told_with_its_key(home: Path, command: Command) -> None:
    path = near(home, PACS + 'tls-ca = "ca.pem"')
    done = command("echo", "pacs")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert f"{path}: [peers.pacs] tls-ca: there is no {home / 'a' / 'ca.pem'}" in done.err


def test_a_name_that_is_not_there_is_told_with_the_closest(home: Path, command: Command) -> None:
    near(home, PACS)
    done = command("echo", "pax", "--json")
    assert done.code == 2
    assert "did you mean pacs?" in done.err
    assert "PACS@192.0.2.7:11112" in done.err
    assert json.loads(done.out)["event"] == "error"


def test_the_names_of_profiles_are_those_of_the_library() -> None:
    """They stand a second time so that nobody has to import ssl to check a file."""
    assert tuple(PROFILES) == book.PROFILES


# --- dicomnet peers -------------------------------------------------------------------------------------------------


def test_add_list_and_remove(home: Path, command: Command) -> None:
    (home / "a" / "b" / "ca.pem").touch()
    path = home / "user" / "dicomnet" / book.FILE
    options = ["--calling", "ME", "--tls-ca", "ca.pem", "--timeout", "connect=3", "--timeout", "idle=none"]
    assert command("peers", "add", "pacs", "PACS@192.0.2.7", *options).code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert command("peers", "add", "ct", "CT1@[::1]:105", "--here", "--tls-no-verify").code == 0
    listed = command("peers", "--json").events
    assert listed == [
        {
            "event": "peer",
            "name": "ct",
            "address": "CT1@[::1]:105",
            "options": {"tls-verify": "none"},
            "file": str(Path.cwd() / book.FILE),
        },
        {
            "event": "peer",
            "name": "pacs",
            "address": "PACS@192.0.2.7:104",
            "options": {
                "calling": "ME",
                "timeout": {"connect": 3.0, "idle": None},
                "tls-ca": str(Path.cwd() / "ca.pem"),
            },
            "file": str(path),
        },
    ]
    lines = command("peers").out.splitlines()
    assert lines == [
        "ct    CT1@[::1]:105       TLS",
        "pacs  PACS@192.0.2.7:104  TLS, calling ME, connect=3, idle=none",
    ]
    assert command("peers", "remove", "pacs", "ct").code == 0
    assert command("peers", "list").out == ""


def test_adding_and_removing_leaves_the_rest_as_it_was(home: Path, command: Command) -> None:
    text = '# Ours.\n[defaults]\ncalling = "ME"   # me\n\n# The archive.\n[peers . old]\naddress="O@h"\n'
    path = user(home, text + "\n# The end.\n")
    path.chmod(0o640)
    assert command("peers", "add", "new", "N@h").code == 0
    assert path.read_text() == text + '\n# The end.\n\n[peers.new]\naddress = "N@h:104"\n'
    assert path.stat().st_mode & 0o777 == 0o640
    assert command("peers", "remove", "new").code == 0
    assert path.read_text() == text + "\n# The end.\n"
    assert command("peers", "remove", "old").code == 0
    assert path.read_text() == text[: text.index("[peers")] + "\n# The end.\n"
    assert [name.name for name in path.parent.iterdir()] == [book.FILE]


@pytest.mark.parametrize(
    "text", ['peers = {pacs = {address = "A@b"}}\n', 'peers.pacs.address = "A@b"\n', '[peers]\npacs.address="A@b"\n']
)
def test_tables_that_are_written_otherwise_are_left_alone(home: Path, command: Command, text: str) -> None:
    path = user(home, text)
    done = command("peers", "remove", "pacs")
    assert (done.code, path.read_text()) == (2, text)
    assert "edit it yourself" in done.err


def test_a_text_that_looks_like_a_header_does_no_harm() -> None:
    """The outcome is read again before it is written."""
    text = f'{PACS}identity-username = """\n[peers.other]\n"""\n[peers.other]\naddress = "A@b"\n'
    with pytest.raises(book.InvalidPeers, match="edit it yourself"):
        editing.without_peer(text, Path("/x"), "pacs")


def test_values_survive_being_written() -> None:
    options = {"identity-username": 'a"\\\n\x7fü', "tls-crl": ["a", "b"], "tls": True}
    text = editing.with_peer("", Path("/x"), "ä.b", "A@b", options)
    assert book.parse(text, Path("/x")).peers["ä.b"].options["identity-username"] == options["identity-username"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["add", "x"], "a name and a peer"),
        (["add", "x", "y"], "AET@host:port"),
        (["add", "-", "A@b"], "name"),
        (["add", "pacs", "A@b", "--here"], "already"),
        (["add", "x", "A@b", "--identity-passcode", "s"], "--identity-passcode-file"),
        (["remove"], "remove NAME"),
        (["remove", "pax"], "did you mean pacs?"),
        (["list", "x"], "no names"),
        (["test", "--here"], "--here"),
        (["swim"], "list, add, remove, test"),
    ],
)
def test_wrong_usage_changes_nothing(home: Path, command: Command, arguments: list[str], hint: str) -> None:
    path = near(home, PACS, folder="a/b")
    done = command("peers", *arguments)
    assert done.code == 2
    assert hint in done.err
    assert path.read_text() == PACS
    assert not (home / "user" / "dicomnet" / book.FILE).exists()


def test_all_are_asked_at_once_and_each_answer_is_told(
    home: Path, command: Command, serve: Serve, free_port: int
) -> None:
    scps = [serve() for _ in range(3)]
    together = threading.Barrier(3)
    for scp in scps:
        scp.answer = lambda request: int(together.wait(30) < 0)
    names = "".join(f'[peers.scp{number}]\naddress = "{scp.peer}"\n' for number, scp in enumerate(scps))
    near(home, f'{names}[peers.gone]\naddress = "X@{HOST}:{free_port}"\n')
    done = command("peers", "test", "--json", "--calling", "ME")
    results = {event["name"]: event for event in done.events}
    assert [results[name]["ok"] for name in ("scp0", "scp1", "scp2", "gone")] == [True, True, True, False]
    assert "nothing listens there" in results["gone"]["message"]
    assert results["scp0"]["ms"] > 0
    assert (done.code, results["gone"]["exit_code"]) == (3, 3)
    assert scps[0].associations[0].calling_ae == "ME"


def test_a_failure_status_is_1(home: Path, command: Command, serve: Serve) -> None:
    scp = serve()
    scp.answer = lambda request: 0x0122
    done = command("peers", "test", scp.peer)
    assert done.code == 1
    assert "FAILED" in done.out


def test_interrupted_it_ends_with_130(home: Path, command: Command, serve: Serve) -> None:
    scp = serve()

    def interrupt(request: Any) -> int:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return 0

    scp.answer = interrupt
    assert command("peers", "test", scp.peer).code == 130
    assert scp.ended().error is None


def test_a_folder_that_cannot_be_written_is_told(home: Path, monkeypatch: Any, capfd: Any) -> None:
    (home / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "file"))
    assert run(["peers", "add", "x", "A@b"]) == 2
    assert "cannot write" in capfd.readouterr().err
