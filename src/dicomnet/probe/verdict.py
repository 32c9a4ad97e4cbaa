"""From what happened to what it means: the ``Failure`` of a report, with the texts of ``causes`` filled in."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from dicomnet.config import Peer
from dicomnet.probe.causes import CAUSES, TRY_TLS, Kind, fields_of
from dicomnet.probe.report import Failure, Speaks, Step

_USUAL_PORTS: Final = {  # what people confuse with the DICOM port of a PACS
    "HTTP": "a web page of the PACS, or DICOMweb, is often on another port of the same computer",
    "TLS": "a web page of the PACS is often on another port of the same computer",
    "HL7 (MLLP)": "HL7 is often spoken on another port of the same computer",
    "SSH": "22 is for logging in",
    "RDP": "3389 is for remote desktops",
}


@dataclass(frozen=True, slots=True)
class Situation:
    """Who asked whom, from which address, with which options of the command line, and what came of it."""

    peer: Peer
    calling_ae: str
    local: str
    options: str
    detail: str
    speaks: Speaks | None = None
    tls: bool = False


def failure_for(kind: Kind, situation: Situation, associated: bool = False) -> Failure:
    """What is wrong, the likely causes and what to try next."""
    cause = CAUSES[kind]
    peer = situation.peer
    texts = fields_of(
        peer,
        detail=_told(situation),
        calling=situation.calling_ae,
        local=situation.local,
        options=situation.options,
        hint=_hint(situation.speaks),
        tls=situation.tls,
    )
    quoted = {
        name: shlex.quote(text) if name in ("peer", "place", "title", "host") else text for name, text in texts.items()
    }
    steps = tuple(
        Step(what.format(**texts), " ".join(command.format(**quoted).split()))
        for what, command in cause.steps
        if not (situation.tls and (what, command) == TRY_TLS)
    )
    likely = tuple(text.format(**texts) for text in cause.likely)
    return Failure(kind, cause.why.format(**texts), likely, steps, associated)


def _told(situation: Situation) -> str:
    speaks = situation.speaks
    if speaks is None or speaks.protocol in ("nothing", "unknown", "DICOM"):
        return situation.detail
    if speaks.protocol == "TLS":
        return f"an HTTPS server answers there ({speaks.inside})" if speaks.inside else "it talks TLS"
    name = "a server with a protocol of text" if speaks.protocol == "text" else f"an {speaks.protocol} server"
    name = (
        name.replace("an TLS", "a TLS")
        .replace("an RDP", "an RDP")
        .replace("an POP3", "a POP3")
        .replace("an VNC", "a VNC")
    )
    return f"{name} answers there" + (f" ({speaks.detail})" if speaks.detail else "")


def _hint(speaks: Speaks | None) -> str:
    usual = "" if speaks is None else _USUAL_PORTS.get(speaks.protocol, "")
    return usual or "a computer has many ports, and each belongs to one program"
