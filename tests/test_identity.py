"""Verifiers of user identities (PS3.7 D.3.3.7): passcodes (type 2) and JSON web tokens (type 5, RFC 7519, RFC 8725)."""

import base64
import hmac
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from hypothesis import given, settings, strategies as st

import dicomnet
from dicomnet import identity as identities
from dicomnet.config import Identity
from dicomnet.dimse.provider import AssociationInfo
from dicomnet.errors import Reject
from dicomnet.identity import InvalidToken, JwtVerifier, PasscodeVerifier, hash_passcode
from dicomnet.ul import negotiation

NOW = 1_700_000_000.0
SECRET = b"0123456789abcdef0123456789abcdef"
CLAIMS = {"sub": "me", "exp": NOW + 300}


def association(address: str = "192.0.2.1") -> AssociationInfo:
    request = negotiation.request("SCP", "SCU", [dicomnet.Verification])
    return AssociationInfo("SCU", "SCP", (address, 50000), request)


# --- passcodes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hashed() -> dict[str, str]:
    return {"müller": hash_passcode("swordfish"), "other": hash_passcode("pässwört")}


def test_a_hash_is_salted_and_does_not_tell_the_passcode(hashed: dict[str, str]) -> None:
    """RFC 7914: text to be kept in a file."""
    assert hash_passcode("swordfish") != hashed["müller"]
    assert hashed["müller"].startswith("scrypt$16384$8$5$")
    assert "swordfish" not in hashed["müller"]


@pytest.mark.parametrize("passcode", ["", "x" * 1025])
def test_a_passcode_has_some_bytes_and_not_too_many(passcode: str) -> None:
    """§3: what is hashed is bounded."""
    with pytest.raises(ValueError, match="1 to 1024 bytes"):
        hash_passcode(passcode)


@pytest.mark.parametrize(
    ("identity", "accepted"),
    [
        (Identity.passcode("müller", "swordfish"), True),
        (Identity.passcode("other", "pässwört"), True),
        (Identity.passcode("müller", "Swordfish"), False),
        (Identity.passcode("other", "swordfish"), False),  # somebody else's
        (Identity.passcode("nobody", "swordfish"), False),
        (Identity.passcode("müller", ""), False),
        (Identity.passcode("müller", "x" * 1025), False),
        (Identity(2, "müller".encode("latin-1"), b"swordfish"), False),  # not UTF-8
        (Identity.username("müller"), False),
        (Identity(5, "müller".encode(), b"swordfish"), False),
    ],
)
def test_a_user_with_the_right_passcode_is_accepted(hashed: dict[str, str], identity: Identity, accepted: bool) -> None:
    """PS3.7 D.3.3.7: type 2; W12."""
    assert PasscodeVerifier(hashed)(association(), identity) is accepted


def test_nobody_takes_as_long_as_somebody(hashed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same hash is computed for a user that does not exist: names cannot be found out by the clock."""
    costs: list[tuple[int, ...]] = []
    scrypt = identities.hashlib.scrypt

    def count(passcode: bytes, **options: Any) -> bytes:
        costs.append((options["n"], options["r"], options["p"], options["dklen"]))
        return scrypt(passcode, **options)

    monkeypatch.setattr(identities.hashlib, "scrypt", count)
    verifier = PasscodeVerifier(hashed)
    verifier.verify(Identity.passcode("müller", "wrong"))
    verifier.verify(Identity.passcode("nobody", "wrong"))
    assert costs == [(16384, 8, 5, 32)] * 2


def test_who_fails_too_often_has_to_wait(hashed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """2/3/1 (PS3.8 9.3.4, congestion), even with the right passcode; other addresses are not concerned."""
    clock = [1000.0]
    monkeypatch.setattr(identities.time, "monotonic", lambda: clock[0])
    verifier = PasscodeVerifier(hashed, failures=2, seconds=60.0)
    right, wrong = Identity.passcode("müller", "swordfish"), Identity.passcode("müller", "x")
    assert [verifier(association(), wrong), verifier(association(), right)] == [False, True]
    assert not verifier(association(), wrong)
    with pytest.raises(Reject) as caught:
        verifier(association(), right)
    assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 1)
    assert verifier(association("192.0.2.2"), right)
    clock[0] += 60.0
    assert verifier(association(), right)


def test_failures_are_remembered_of_so_many_addresses(hashed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """§3: every table is bounded."""
    monkeypatch.setattr(identities, "_MOST_ADDRESSES", 2)
    verifier = PasscodeVerifier(hashed, failures=1)
    for address in "abc":
        assert not verifier(association(address), Identity.username("me"))
    assert list(verifier._failures) == ["b", "c"]


def test_failures_need_not_be_counted(hashed: dict[str, str]) -> None:
    """For peers behind one address."""
    verifier = PasscodeVerifier(hashed, failures=None)
    assert not any(verifier(association(), Identity.username("me")) for _ in range(20))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "swordfish",
        "$2b$12$abcdefghijklmnopqrstuv",
        "scrypt$16384$8$5$AAAA$????",
        "scrypt$x$8$5$AAAA$AAAA",
        "scrypt$16383$8$5$AAAA$AAAA",
        "scrypt$16384$8$0$AAAA$AAAA",
        "scrypt$1073741824$8$5$AAAA$AAAA",
        "scrypt$16384$8$5$AAAA$",
    ],
)
def test_what_is_no_hash_is_an_error_at_once(text: str) -> None:
    """Not when somebody wants in; the text itself is not shown, it could be a passcode."""
    with pytest.raises(ValueError, match="hash") as caught:
        PasscodeVerifier({"me": text})
    assert text not in str(caught.value) or not text


def test_a_verifier_without_users_is_an_error() -> None:
    """It could let nobody in."""
    with pytest.raises(ValueError, match="no user"):
        PasscodeVerifier({})


# --- JSON web tokens ------------------------------------------------------------------------------------------------


def encoded(value: object) -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=")


def token(
    claims: object = CLAIMS,
    sign: Callable[[bytes], bytes] | None = None,
    alg: object = "HS256",
    **header: object,
) -> bytes:
    signed = encoded({"alg": alg, "typ": "JWT", **header}) + b"." + encoded(claims)
    signature = sign(signed) if sign else hmac.digest(SECRET, signed, "sha256")
    return signed + b"." + encoded(signature)


def verifier(key: Any = SECRET, **options: Any) -> JwtVerifier:
    return JwtVerifier(key, clock=lambda: NOW, **options)


def pem(key: Any) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def ecdsa(signed: bytes) -> bytes:
    r, s = utils.decode_dss_signature(EC_KEY.sign(signed, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_a_valid_token_is_accepted() -> None:
    """PS3.7 D.3.3.7: type 5."""
    assert verifier()(association(), Identity.jwt(token()))
    assert verifier().claims(token()) == CLAIMS
    assert verifier(SECRET.decode()).claims(token()) == CLAIMS


def test_the_example_of_the_standard_is_accepted() -> None:
    """RFC 7515 A.1, a signature that somebody else made."""
    key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
    text = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    checks = JwtVerifier(base64.urlsafe_b64decode(key + "=="), issuer="joe", clock=lambda: 1300819379.0)
    assert checks.claims(text.encode())["http://example.com/is_root"] is True


@pytest.mark.parametrize(("length", "algorithms"), [(32, 1), (48, 2), (64, 3)])
def test_a_secret_is_as_long_as_the_hash(length: int, algorithms: int) -> None:
    """RFC 7518 3.2."""
    secret = bytes(length)
    for index, name in enumerate(("sha256", "sha384", "sha512")):
        text = token(sign=lambda signed, name=name: hmac.digest(secret, signed, name), alg=f"HS{name[3:]}")
        assert verifier(secret)(association(), Identity.jwt(text)) == (index < algorithms)
    with pytest.raises(ValueError, match="31 bytes"):
        verifier(bytes(31))


def test_public_keys(rsa_key: rsa.RSAPrivateKey) -> None:
    """RFC 7518 3.3, 3.4, RFC 8037: RS256, ES256, EdDSA; as PEM, as text and as objects."""
    signers = {
        "RS256": (rsa_key, lambda signed: rsa_key.sign(signed, padding.PKCS1v15(), hashes.SHA256())),
        "ES256": (EC_KEY, ecdsa),
        "EdDSA": (ED_KEY, ED_KEY.sign),
    }
    for name, (key, sign) in signers.items():
        for form in (pem(key), pem(key).decode(), key.public_key()):
            assert verifier(form).claims(token(sign=sign, alg=name)) == CLAIMS
        for other in signers.keys() - {name}:
            with pytest.raises(InvalidToken, match="algorithm that is not accepted"):
                verifier(pem(key)).claims(token(sign=sign, alg=other))
        with pytest.raises(InvalidToken, match="signature is wrong"):
            verifier(pem(key)).claims(token(sign=lambda signed, sign=sign: sign(signed + b"x"), alg=name))
        with pytest.raises(InvalidToken, match="signature is wrong"):
            verifier(pem(key)).claims(token(sign=lambda signed, sign=sign: sign(signed) + b"x", alg=name))


def test_a_public_key_is_no_secret(rsa_key: rsa.RSAPrivateKey) -> None:
    """RFC 8725 2.1: everybody knows it and could sign with it."""
    public = pem(rsa_key)
    forged = token(sign=lambda signed: hmac.digest(public, signed, "sha256"), alg="HS256")
    with pytest.raises(InvalidToken, match="algorithm that is not accepted"):
        verifier(public).claims(forged)
    with pytest.raises(ValueError, match="with these keys there are"):
        verifier(public, algorithms=["HS256"])


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, 1, ["HS256"], {}, "HS1", "HS512", "RS256"])
def test_the_token_does_not_choose_the_algorithm(alg: object) -> None:
    """RFC 8725 3.1: none least of all."""
    for sign in (None, lambda signed: b""):
        with pytest.raises(InvalidToken, match="algorithm that is not accepted"):
            verifier().claims(token(alg=alg, sign=sign))


def test_algorithms_can_be_limited() -> None:
    """RFC 8725 3.2."""
    assert verifier(bytes(64), algorithms=["HS512"]).claims(
        token(sign=lambda signed: hmac.digest(bytes(64), signed, "sha512"), alg="HS512")
    )
    with pytest.raises(InvalidToken, match="not accepted"):
        verifier(bytes(64), algorithms=["HS512"]).claims(
            token(sign=lambda signed: hmac.digest(bytes(64), signed, "sha256"))
        )
    for algorithms in ([], ["none"], ["HS256", "none"]):
        with pytest.raises(ValueError, match="algorithms"):
            verifier(algorithms=algorithms)


def test_weak_and_unknown_public_keys_are_refused() -> None:
    """RFC 7518 3.3, 3.4."""
    weak = rsa.generate_private_key(65537, 1024)
    for key in (pem(weak), pem(ec.generate_private_key(ec.SECP384R1())), EC_KEY, None, 7):
        with pytest.raises(ValueError, match="a public key is RSA"):
            verifier(key)
    with pytest.raises(ValueError):  # noqa: PT011 — cryptography's own text
        verifier(b"-----BEGIN PUBLIC KEY-----")


def test_public_keys_need_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not among the dependencies; secrets do without."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    with pytest.raises(ImportError, match=r"dicomnet\[jwt\]"):
        verifier(pem(ED_KEY))
    assert verifier().claims(token())


def test_a_token_names_its_key() -> None:
    """RFC 7515 4.1.4: one of several, and none but the one that it names."""
    keys = {"a": SECRET, "b": pem(ED_KEY)}
    assert verifier(keys).claims(token(kid="a"))
    assert verifier(keys).claims(token(kid="b", alg="EdDSA", sign=ED_KEY.sign))
    for kid in ("c", "b", "", None, 1, ["a"], {}):
        with pytest.raises(InvalidToken, match=r"unknown key|not accepted|key ID is no text"):
            verifier(keys).claims(token(kid=kid))
    with pytest.raises(InvalidToken, match="unknown key"):
        verifier(keys).claims(token())
    assert verifier().claims(token(kid=["whatever"]))  # there is only one key
    with pytest.raises(ValueError, match="algorithms"):
        verifier({})


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({}, "without 'exp'"),
        ({"exp": NOW + 1}, None),
        ({"exp": NOW - 59}, None),
        ({"exp": NOW - 60}, "expired"),
        ({"exp": int(NOW) + 1, "nbf": NOW + 60, "iat": NOW + 60}, None),
        ({"exp": NOW + 1, "nbf": NOW + 61}, "not valid yet"),
        ({"exp": NOW + 1, "iat": NOW + 61}, "not valid yet"),
        *(({"exp": value}, "no date") for value in ("1900000000", None, True, [], 10**400, -(10**13))),
        ({"exp": NOW + 1, "nbf": "0"}, "no date"),
        ({"exp": NOW + 1, "aud": "OTHER"}, "another audience"),
        ({"exp": NOW + 1, "aud": []}, "another audience"),
    ],
)
def test_the_time_is_heeded(claims: dict[str, object], problem: str | None) -> None:
    """RFC 7519 4.1.4 to 4.1.6, with a minute of leeway; 4.1.3 without an audience of ours."""
    if problem is None:
        assert verifier().claims(token(claims)) == claims
    else:
        with pytest.raises(InvalidToken, match=problem):
            verifier().claims(token(claims))


@pytest.mark.parametrize(
    ("options", "claims", "accepted"),
    [
        ({"issuer": "a"}, {"iss": "a"}, True),
        ({"issuer": ["a", "b"]}, {"iss": "b"}, True),
        ({"issuer": "abc"}, {"iss": "a"}, False),
        ({"issuer": "a"}, {"iss": ["a"]}, False),
        ({"issuer": "a"}, {}, False),
        ({"audience": "SCP"}, {"aud": "SCP"}, True),
        ({"audience": "SCP"}, {"aud": ["OTHER", "SCP"]}, True),
        ({"audience": ["SCP", "PACS"]}, {"aud": "PACS"}, True),
        ({"audience": "SCP"}, {"aud": "OTHER"}, False),
        ({"audience": "SCP"}, {"aud": [["SCP"], 1]}, False),
        ({"audience": "SCP"}, {"aud": {"SCP": 1}}, False),
        ({"audience": "SCP"}, {}, False),
        ({"required": ["exp", "sub"]}, {"sub": "me"}, True),
        ({"required": ["exp", "sub"]}, {}, False),
        ({"leeway": 0.0}, {"exp": NOW}, False),
        ({"required": ()}, {}, True),
    ],
)
def test_issuer_audience_and_required_claims(
    options: dict[str, Any], claims: dict[str, object], accepted: bool
) -> None:
    """RFC 7519 4.1.1, 4.1.3."""
    who = Identity.jwt(token({"exp": NOW + 1, **claims}))
    assert verifier(**options)(association(), who) is accepted


def test_a_token_without_an_end_can_be_allowed() -> None:
    """RFC 7519 4.1.4: exp is optional there; here only if the program says so."""
    assert verifier(required=()).claims(token({})) == {}


MALFORMED = {
    "empty": b"",
    "two parts": b"a.b",
    "five parts": b"a.b.c.d.e",
    "no base64url": b"!!!!.e30.e30",
    "padding": encoded({"alg": "HS256"}) + b"=.e30.e30",
    "impossible length": b"e30aa.e30.e30",
    "no JSON": encoded(b"{") + b".e30.e30",
    "not UTF-8": encoded(b'{"alg": "\xff"}') + b".e30.e30",
    "no object": encoded([1]) + b".e30.e30",
    "a name twice": encoded(b'{"alg":"none","alg":"HS256"}') + b".e30.e30",
    "NaN": encoded(b'{"alg":"HS256","x":NaN}') + b".e30.e30",
    "nested": encoded(b"[" * 11_000) + b".e30.e30",
    "long number": encoded(b'{"alg":' + b"1" * 10_000 + b"}") + b".e30.e30",
    "too long": token({"exp": NOW + 1, "x": "y" * 16_384}),
    "critical extension": token(crit=["exp"]),
    "claims twice": token(b'{"exp": 1, "exp": 1900000000}'),
    "claims no object": token([1]),
    "infinite": token(b'{"exp": 1e999}'),
    "not a number": token(b'{"exp": NaN}'),
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_token_is_refused(text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """W12, RFC 8725: refused, and the log says why, without the token."""
    caplog.set_level(logging.INFO, "dicomnet")
    assert verifier()(association(), Identity.jwt(text)) is False
    (line,) = caplog.messages
    assert line.startswith("192.0.2.1: user identity refused: ")
    assert len(line) < 100


@pytest.mark.parametrize("type", [0, 1, 2, 3, 4, 6, 255])
def test_other_types_of_identity_are_no_tokens(type: int) -> None:
    """PS3.7 D.3.3.7: whatever they hold."""
    assert verifier()(association(), Identity(type, token())) is False


@settings(max_examples=50)
@given(st.binary(max_size=60) | st.lists(st.binary(max_size=20).map(encoded), max_size=4).map(b".".join))
def test_any_bytes_are_refused_without_a_crash(text: bytes) -> None:
    """W12."""
    assert verifier()(association(), Identity.jwt(text)) is False


@given(st.integers(0, len(token()) - 1), st.integers(1, 255))
@settings(max_examples=100)
def test_a_token_that_was_changed_is_refused(at: int, change: int) -> None:
    """RFC 7515 5.2: every byte counts, but for the spare bits of the last character (RFC 4648 3.5)."""
    text = bytearray(token())
    text[at] ^= change
    accepted = verifier()(association(), Identity.jwt(bytes(text)))
    assert not accepted or at == len(text) - 1
