"""``dicomnet echo``: what it says, and each exit code (PS3.4 Annex A)."""

import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

import dicomnet
from tests.cli.conftest import Credentials, Done, Scp
from tests.cli.programs import CT, HOST

Command = Callable[..., Done]
Serve = Callable[..., Scp]


def _soon(timer: str) -> list[str]:
    """The time limit that a test waits for, and that the peer will not close by itself."""
    return ["--timeout", f"{timer}=0.1", "--timeout", "closing=0.05"]


def test_an_answer_is_one_line(command: Command, serve: Serve) -> None:
    scp = serve()
    done = command("echo", scp.peer, "--calling", "ME")
    assert done.code == 0
    assert done.out.startswith(f"{scp.peer}: success in ")
    assert len(done.out.splitlines()) == 1
    assert done.err == ""
    (association,) = scp.associations
    assert (association.calling_ae, association.called_ae) == ("ME", "SCP")


def test_repeated_echoes_share_an_association_and_are_summed_up(command: Command, serve: Serve) -> None:
    scp = serve()
    done = command("echo", scp.peer, "--repeat", 3, "--json")
    assert done.code == 0
    assert [event["event"] for event in done.events] == ["echo", "echo", "echo", "summary"]
    assert [event.get("status") for event in done.events] == [0, 0, 0, None]
    assert done.events[-1]["sent"] == 3
    assert len(scp.associations) == 1


def test_quiet_leaves_the_result(command: Command, serve: Serve) -> None:
    done = command("echo", serve().peer, "--repeat", 3, "-q")
    (line,) = done.out.splitlines()
    assert line.startswith("3 sent, 0 failed")


def test_a_failure_status_is_1(command: Command, serve: Serve) -> None:
    scp = serve()
    scp.answer = lambda request: 0x0122
    done = command("echo", scp.peer)
    assert done.code == 1
    assert "SOP class not supported, status 0x0122" in done.out


def test_a_peer_without_verification_is_1(command: Command, serve: Serve) -> None:
    done = command("echo", serve(contexts=[CT]).peer)
    assert done.code == 1
    assert dicomnet.Verification in done.err


def test_nothing_there_is_3(command: Command, free_port: int) -> None:
    done = command("echo", f"SCP@{HOST}:{free_port}")
    assert done.code == 3
    assert "is the peer running" in done.err
    assert len(done.err.splitlines()) == 1


def test_an_unknown_host_is_3(command: Command) -> None:
    done = command("echo", "SCP@no-such-host.invalid:104", "--json")
    assert done.code == 3
    assert "not known" in done.err
    assert done.events == [
        {"event": "error", "message": done.err.removeprefix("dicomnet echo: ").strip(), "exit_code": 3}
    ]


@pytest.mark.parametrize(
    ("options", "arguments", "advice"),
    [
        ({"require_called": True}, ["--calling", "ME"], "before the @"),
        ({"accept_calling": ["OTHER"]}, [], "--calling"),
    ],
)
def test_a_rejection_is_3_and_says_what_to_check(
    command: Command, serve: Serve, options: dict[str, Any], arguments: list[str], advice: str
) -> None:
    scp = serve(**options)
    done = command("echo", scp.peer.replace("SCP@", "WRONG@"), *arguments)
    assert done.code == 3
    assert "rejected" in done.err
    assert advice in done.err


def test_a_full_peer_is_3_and_says_later(command: Command, serve: Serve) -> None:
    scp = serve(max_associations=1)
    with dicomnet.associate(scp.peer):
        done = command("echo", scp.peer)
    assert done.code == 3
    assert "try again later" in done.err


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_what_is_no_dicom_server_is_3(command: Command, speaker: Callable[[bytes], str], says: bytes) -> None:
    done = command("echo", speaker(says))
    assert done.code == 3
    assert "DICOM" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_silent_listener_is_3(command: Command) -> None:
    with socket.create_server((HOST, 0)) as listener:
        done = command("echo", f"SCP@{HOST}:{listener.getsockname()[1]}", *_soon("associate"))
    assert done.code == 3
    assert "--timeout associate=SECONDS" in done.err


def test_a_timeout_half_way_is_4(command: Command, serve: Serve) -> None:
    scp = serve()
    arrived = threading.Event()

    def hang(request: Any) -> int:
        arrived.wait()
        return 0

    scp.answer = hang
    done = command("echo", scp.peer, *_soon("response"))
    arrived.set()
    assert done.code == 4
    assert "--timeout response=SECONDS" in done.err


def test_interrupted_it_releases_and_is_130(command: Command, serve: Serve) -> None:
    scp = serve()

    def interrupt(request: Any) -> int:
        if request.message_id == 3:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return 0

    scp.answer = interrupt
    done = command("echo", scp.peer, "--repeat", 100_000)
    assert done.code == 130
    assert "3 sent" in done.out
    assert scp.ended().error is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupted_twice_it_aborts_at_once(command: Command, serve: Serve, capfd: Any) -> None:
    scp = serve()
    ended = threading.Event()

    def hang(request: Any) -> int:
        main = threading.main_thread().ident
        signal.pthread_kill(main, signal.SIGINT)
        while not capfd.readouterr().err:  # the notice: the first one has been taken
            pass
        signal.pthread_kill(main, signal.SIGINT)
        ended.wait()
        return 0

    scp.answer = hang
    done = command("echo", scp.peer, "--timeout", "closing=0.05")
    ended.set()
    assert done.code == 130


# --- TLS and identities ---------------------------------------------------------------------------------------------


def _server_tls(credentials: Credentials) -> Any:
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(credentials.certificate, credentials.key)
    return context


def test_tls_with_the_right_authority(command: Command, serve: Serve, credentials: Credentials) -> None:
    scp = serve(tls=_server_tls(credentials))
    assert command("echo", scp.peer, "--tls-ca", credentials.certificate).code == 0
    assert command("echo", scp.peer, "--tls-no-verify").code == 0


def test_an_untrusted_certificate_is_3(command: Command, serve: Serve, credentials: Credentials) -> None:
    done = command("echo", serve(tls=_server_tls(credentials)).peer, "--tls")
    assert done.code == 3
    assert "--tls-ca FILE" in done.err
    # The server, in this process, may have logged a line of its own.
    assert len([line for line in done.err.splitlines() if line.startswith("dicomnet echo")]) == 1


def test_tls_to_a_port_without_is_3(command: Command, speaker: Callable[[bytes], str]) -> None:
    done = command("echo", speaker(b"no TLS here"), "--tls")
    assert done.code == 3
    assert "TLS failed" in done.err


@pytest.mark.parametrize(
    ("options", "identity"),
    [
        (["--identity-username", "jdoe"], dicomnet.Identity.username("jdoe")),
        (["--identity-username", "jdoe", "--identity-passcode", "x"], dicomnet.Identity.passcode("jdoe", "x")),
        (["--identity-jwt", "FILE"], dicomnet.Identity.jwt("e30.e30.")),
        (["--identity-saml", "FILE"], dicomnet.Identity.saml("e30.e30.\n")),
        (["--identity-kerberos", "FILE"], dicomnet.Identity.kerberos(b"e30.e30.\n")),
    ],
)
def test_identities(
    command: Command, serve: Serve, tmp_path: Any, options: list[str], identity: dicomnet.Identity
) -> None:
    """PS3.7 D.3.3.7"""
    token = tmp_path / "token"
    token.write_text("e30.e30.\n")
    scp = serve()
    assert command("echo", scp.peer, *(str(token) if option == "FILE" else option for option in options)).code == 0
    assert scp.associations[0].identity == identity


def test_a_passcode_may_come_from_the_environment(
    command: Command, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOMNET_PASSCODE", "secret")
    scp = serve()
    assert command("echo", scp.peer, "--identity-username", "jdoe").code == 0
    assert scp.associations[0].identity == dicomnet.Identity.passcode("jdoe", "secret")
    assert command("echo", scp.peer).code == 0, "without a user name it is left alone"


def test_errors_have_a_traceback_with_vv_alone(command: Command, free_port: int) -> None:
    assert "Traceback" not in command("echo", f"SCP@{HOST}:{free_port}", "-v").err
    assert "Traceback" in command("echo", f"SCP@{HOST}:{free_port}", "-vv").err
