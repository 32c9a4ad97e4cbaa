"""The page as text and as HTML: what hostile peers say stays text."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dicomnet.config import Peer
from dicomnet.probe import Report, annotate, html, text
from dicomnet.probe.causes import Kind
from dicomnet.probe.page import page_of
from dicomnet.probe.products import product
from dicomnet.probe.report import Address, Certificate, Negotiated, Reach, Security, Speaks
from dicomnet.probe.verdict import Situation, failure_for
from dicomnet.ul import negotiation, pdu

Listen = Callable[[Callable[[socket.socket], None]], str]

HOSTILE = "<script>alert(1)</script>\"'&\x1b[2J\n\u202e"
_VOID = {"meta", "br"}


def report(hostile: str = "x") -> Report:
    peer = Peer("PACS", "192.0.2.7", 104)
    return Report(
        peer,
        "ME",
        "2026-01-01T00:00:00+00:00",
        1.0,
        Reach((Address("192.0.2.7", 0.001), Address("192.0.2.8", problem=hostile)), 0.01),
        speaks=Speaks("HTTP", hostile, data=hostile.encode()),
        security=Security(
            (("TLSv1.3", True), ("TLSv1", None)),
            "TLSv1.3",
            "TLS_AES_256_GCM_SHA384",
            Certificate(hostile, hostile, (hostile,), "then", "later", "00", False, False),
            False,
            hostile,
            hostile,
            True,
        ),
        negotiated=Negotiated(16384, hostile, hostile, product(hostile, hostile)),
        failure=failure_for(Kind.OTHER_PROTOCOL, Situation(peer, "ME", "192.0.2.1", "", hostile)),
        notes=(hostile,),
    )


class Checker(HTMLParser):
    """Every element is closed, and is one of those that a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def checked(document: str) -> Checker:
    checker = Checker()
    checker.feed(document)
    checker.close()
    assert checker.open == []
    return checker


def test_html_is_well_formed_and_loads_nothing() -> None:
    checker = checked(html.document(page_of(report(), everything=True)))
    assert not checker.seen & {"script", "link", "img", "iframe", "object", "base"}
    assert not checker.attributes & {"href", "src", "onload", "onclick", "style"}


def test_what_a_peer_says_is_escaped_in_html() -> None:
    """A hostile implementation version name, certificate subject, banner."""
    document = html.document(page_of(report(HOSTILE), everything=True))
    checker = checked(document)
    assert "<script" not in document
    assert "<script>alert(1)</script>" in checker.words
    assert "\x1b" not in document
    assert "\u202e" not in document


PLAIN = checked(html.document(page_of(report("x"), everything=True)))
FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@FEW
@given(st.text())
def test_no_text_gets_out_of_its_element(hostile: str) -> None:
    other = checked(html.document(page_of(report(hostile), everything=True)))
    assert other.seen <= PLAIN.seen | {"pre"}
    assert other.attributes == PLAIN.attributes


@FEW
@given(st.text())
def test_no_text_commands_a_terminal_or_makes_a_line(hostile: str) -> None:
    lines = list(text.lines(page_of(report(hostile), everything=True)))
    assert all(line.isprintable() for line in lines)


def test_the_page_fits_into_its_columns() -> None:
    long = replace(report("a word " * 50))
    lines = [line for line in text.lines(page_of(long)) if not line.lstrip().startswith("$")]
    assert [line for line in lines if len(line) > 96] == []


# --- bytes ----------------------------------------------------------------------------------------------------------

REQUEST = pdu.encode(negotiation.request("PACS", "ME", ["1.2.840.10008.1.1"], async_ops=(16, 16)))
REJECT = b"\x03\0\0\0\0\x04\0\x01\x01\x07"


@pytest.mark.parametrize("data", [REQUEST, REJECT, REQUEST[:50], REQUEST + REJECT, b"HTTP/1.1 400\r\n", b"\x01", b""])
def test_every_byte_is_shown_in_order(data: bytes) -> None:
    fields = list(annotate.fields(data))
    assert b"".join(field.data for field in fields) == data
    assert [field.offset for field in fields] == sorted(field.offset for field in fields)


@FEW
@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange_to_be_shown(tail: bytes) -> None:
    for data in (tail, b"\x01\0\0\0\x01\0" + tail, b"\x02\0" + len(tail).to_bytes(4) + tail, REQUEST[:74] + tail):
        assert b"".join(field.data for field in annotate.fields(data)) == data
        assert all(line.isascii() or line for line in annotate.lines(data))


def test_items_within_items_without_end_are_not_followed() -> None:
    nested = b""
    for _ in range(15_000):
        nested = b"\x50\0" + (len(nested) & 0xFFFF).to_bytes(2) + nested
    data = b"\x02\0" + (68 + len(nested)).to_bytes(4) + bytes(68) + nested
    assert b"".join(field.data for field in annotate.fields(data)) == data


def test_fields_have_their_meaning() -> None:
    meanings = [field.meaning for field in annotate.fields(REQUEST)]
    assert "called AE title: PACS" in meanings
    assert "1.2.840.10008.1.1 (Verification SOP Class)" in meanings
    assert "16 invoked, 16 performed" in meanings


# --- products -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uid", "name", "expected"),
    [
        ("1.2.276.0.7230010.3.0.3.6.7", "OFFIS_DCMTK_367", "DCMTK 3.6.7"),
        ("1.2.826.0.1.3680043.9.3811.3.0.4", "PYNETDICOM_304", "pynetdicom 3.0.4"),
        ("1.2.40.0.13.1.3", "dcm4che-5.29.2", "dcm4che 5.29.2"),
        ("1.3.6.1.4.1.30071.8", "fo-dicom 5.1.1", "fo-dicom 5.1.1"),
        ("1.2.826.0.1.3680043.2.135.1066.101", "1.5.0/WIN32", "Conquest DICOM server"),
        ("2.16.840.1.113669.2.1.1", "MergeCOM3_340", "a product made with the Merge DICOM toolkit 3.4.0"),
        ("1.2.840.113619.6.5", "", "a product of GE HealthCare"),
        ("1.2.826.0.1.3680043.8.6411", "", ""),
        ("1.2.3", "SOMETHING", ""),
        ("", "", ""),
    ],
)
def test_products_by_what_they_say(uid: str, name: str, expected: str) -> None:
    """PS3.7 D.3.3.2"""
    assert product(uid, name).startswith(expected)
    assert bool(product(uid, name)) is bool(expected)
