"""The ladder diagram of an association, as SVG and as HTML: well-formed, true, and safe to open."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dicomnet.trace.diagram import MOST_STEPS, Diagram
from dicomnet.trace.page import page
from dicomnet.trace.pictures import MOST, Pictures
from dicomnet.trace.records import Closed, Fault
from dicomnet.trace.svg import svg
from dicomnet.ul import pdu
from tests.trace.dialogues import PATIENT, Dialogue, hostile

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "br", "hr", "img", "link", "input"}


def diagram(dialogue: Dialogue, *, phi: bool = False) -> Diagram:
    made = Diagram(dialogue.connection, phi)
    for seen in dialogue.seen():
        made.add(seen)
    made.finish()
    return made


def texts(picture: str) -> list[str]:
    """Of a picture that is well-formed XML."""
    return [element.text or "" for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]


class Page(HTMLParser):
    """A page's elements, and its text; what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attributes if name.startswith("on") or name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_picture_is_the_walk_through() -> None:
    """What is called at one end is told at the other, in order (the table of the walk-through)."""
    words = texts(svg(diagram(Dialogue().associate().store(1).release())))
    calls = [text.partition("(")[0] for text in words if re.match(r"(send_\w+|on_\w+|connect|close)\(", text)]
    assert calls == [
        *("connect", "on_accept"),
        *("send_associate_request", "on_receive_associate_request"),
        *("on_receive_associate_accept", "send_associate_accept"),
        *("send_c_store_request", "on_receive_c_store_request"),
        *("on_receive_c_store_response", "send_c_store_response"),
        *("send_release_request", "on_receive_release_request"),
        *("on_receive_release_response", "send_release_response"),
        *("close", "on_close"),
    ]
    assert {"A-ASSOCIATE-RQ", "C-STORE-RQ", "C-STORE-RSP", "A-RELEASE-RP", "MODALITY (requestor)"} <= set(words)


def test_the_negotiation_shows_what_was_refused() -> None:
    """PS3.8 Table 9-18."""
    words = texts(svg(diagram(Dialogue().associate(refused=(3,)))))
    assert "CT Image Storage: Explicit VR Little Endian" in words
    assert "MR Image Storage: abstract syntax not supported" in words
    assert (words.count("✓"), words.count("✗")) == (2, 1)


def test_like_operations_are_folded_and_failures_are_red() -> None:
    """A thousand stores fit on a page."""
    dialogue = Dialogue().associate()
    for number in range(1, 1001):
        dialogue.store(number, 0xA700 if number == 500 else 0)
    picture = svg(diagram(dialogue.release()))
    assert sum("more C-STORE" in text for text in texts(picture)) == 2
    assert picture.count('<g class="failure">') == 1
    assert len(picture) < 20_000


def test_rejects_aborts_and_faults_are_in_the_picture() -> None:
    """With the arguments of the walk-through's calls."""
    rejected = Dialogue().pdu(True, pdu.AssociateRq("A", "B", (pdu.ProposedContext(1, "1.2", ("1.2",)),)))
    words = texts(svg(diagram(rejected.pdu(False, pdu.AssociateRj(1, 1, 7)))))
    assert "on_receive_associate_reject(1, 1, 7)" in words
    aborted = Dialogue().associate().pdu(False, pdu.Abort(2, 6))
    aborted.records.append(Fault(1, aborted.time, "after 1 C-ECHO-RQ: reset", "the connection was reset"))
    words = texts(svg(diagram(aborted)))
    assert "send_abort(2, 6)" in words
    assert any("the connection was reset" in text for text in words)


def test_a_long_dialogue_is_cut_and_says_so() -> None:
    """Bounded: a picture of a day would be of no use."""
    dialogue = Dialogue().associate()
    for number in range(1, MOST_STEPS + 100):
        dialogue.store(number, 0xC000)
    made = diagram(dialogue.close())
    assert len(made.steps) <= MOST_STEPS + 2
    assert made.left_out
    assert f"{made.left_out:,} more steps are not drawn" in texts(svg(made))


@pytest.mark.parametrize("draw", [svg, page])
def test_no_patient_is_named_unless_asked_for(draw: Callable[[Diagram], str]) -> None:
    """Even if the records hold data sets."""
    dialogue = Dialogue(keep_datasets=65536).associate().store(1).find(2, 2).release()
    assert PATIENT not in draw(diagram(dialogue))
    assert PATIENT.partition("^")[0] not in draw(diagram(dialogue))


def test_with_phi_the_page_shows_identifiers() -> None:
    """In the details."""
    dialogue = Dialogue(keep_datasets=65536).associate().find(2, 1).release()
    assert PATIENT in Page(page(diagram(dialogue, phi=True))).text


def test_what_peers_say_stays_text() -> None:
    """AE titles, version names, comments, UIDs, garbage: no markup, no control sequences."""
    made = diagram(hostile())
    picture, whole = svg(made), page(made)
    assert all(text.isprintable() for text in texts(picture))
    parsed = Page(whole)
    assert not {"script", "i", "u"} & set(parsed.tags)
    assert "<script>alert(1)</script>" in parsed.text
    assert "<script" not in picture + whole
    assert "\x1b" not in picture + whole


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    """Standalone: it can be attached to a ticket."""
    whole = page(diagram(Dialogue().associate().store(1).release()))
    assert "default-src 'none'" in whole
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", whole)
    parsed = Page(whole)
    assert "details" in parsed.tags
    assert "svg" in parsed.tags
    assert "AffectedSOPInstanceUID: 1.2.3.1" in parsed.text


def test_the_page_sums_up_failures_and_slow_responses() -> None:
    """What a ticket is about."""
    dialogue = (
        Dialogue().associate().store(1, waited=1.5).store(2, 0xA700, comment="disk full").store(3, answered=False)
    )
    text = Page(page(diagram(dialogue.close()))).text
    assert "What failed" in text
    assert "C-STORE-RSP: 0xA700 refused: out of resources; 'disk full'" in text
    assert "without an answer" in text
    assert "1.5 s" in text


# --- files ----------------------------------------------------------------------------------------------------------


def draw_all(pictures: Pictures, *dialogues: Dialogue) -> list[str]:
    for dialogue in dialogues:
        for seen in dialogue.seen():
            pictures.add(seen)
    pictures.finish()
    return [path.name for path in pictures.written]


def test_each_association_gets_a_file(tmp_path: Path) -> None:
    """A connection on which nothing is said gets none, one that has not ended gets one."""
    pictures = Pictures(svg=tmp_path / "a.svg", html=tmp_path / "a.html")
    names = draw_all(pictures, Dialogue(1).close(), Dialogue(2).associate().release(), Dialogue(3).associate())
    assert names == ["a.svg", "a.html", "a-2.svg", "a-2.html"]
    assert "connection 3" in (tmp_path / "a-2.svg").read_text(encoding="utf-8")


def test_one_association_can_be_chosen(tmp_path: Path) -> None:
    """--association N."""
    pictures = Pictures(svg=tmp_path / "a.svg", html=None, only=2)
    assert draw_all(pictures, *(Dialogue(number).associate().release() for number in (1, 2, 3))) == ["a.svg"]
    assert "connection 2" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_the_number_of_files_is_bounded(tmp_path: Path) -> None:
    """A proxy may run for days."""
    pictures = Pictures(svg=tmp_path / "a.svg", html=None)
    dialogues = [Dialogue(number).associate().close() for number in range(1, MOST + 6)]
    assert len(draw_all(pictures, *dialogues)) == MOST
    assert all(isinstance(dialogue.records[-1], Closed) for dialogue in dialogues)
