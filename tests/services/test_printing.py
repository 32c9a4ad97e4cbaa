"""Print management (PS3.4 H), as user, on both faces, with a printer made of plain handlers."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydicom import Dataset

import dicomnet
from dicomnet.services import printing
from dicomnet.services.images import colour, grey
from tests.services.conftest import PATIENCE, Side, dataset, eventually, status_of

GREY, COLOUR = printing.BasicGrayscalePrintManagementMeta, printing.BasicColorPrintManagementMeta
PARTS = (printing.BasicFilmSession, printing.BasicFilmBox, printing.BasicGrayscaleImageBox, printing.Printer)


class FakePrinter:
    """What it was asked for, in order: (service, SOP class, context, data set)."""

    def __init__(self, *contexts: str, **answers: int) -> None:
        self.ae = dicomnet.AE("SCP", contexts=contexts or (GREY, COLOUR))
        self.asked: list[tuple[str, str, str, Any]] = []
        self.sessions: list[Any] = []
        self._answers = answers
        for name in ("n_create", "n_set", "n_get", "n_action", "n_delete"):
            getattr(self.ae, f"on_{name}")(lambda request, name=name: self._answer(name, request))

    def _answer(self, name: str, request: Any) -> Any:
        data = None if request.dataset is None else request.dataset.decode()
        self.asked.append((name, request.sop_class_uid, request.context.abstract_syntax, data))
        self.sessions.append(request.association)
        status = self._answers.get(name, 0)
        if name == "n_get":
            return status, dataset(PrinterStatus="WARNING", PrinterStatusInfo="SUPPLY LOW", PrinterName="Drucker")
        if name == "n_create" and request.sop_class_uid == printing.BasicFilmBox and not status:
            columns, rows = data.ImageDisplayFormat.split("\\")[1].split(",")
            boxes = [
                dataset(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID=f"1.2.{number}")
                for number in range(int(columns) * int(rows))
            ]
            return status, dataset(ReferencedImageBoxSequence=boxes)
        return status

    def services(self) -> list[tuple[str, str]]:
        return [(name, sop_class) for name, sop_class, *_ in self.asked]


def image(rows: int = 2, columns: int = 2, **changes: Any) -> Dataset:
    values = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PixelData": bytes(number % 256 for number in range(rows * columns)),
    }
    return dataset(**{**values, **changes})


def rgb(**changes: Any) -> Dataset:
    values = {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
        "PixelData": b"RGB" * 4,
    }
    return image(**{**values, **changes})


def test_a_session_with_a_film(user: Side, server: Side) -> None:
    """PS3.4 H.4: session, film, images, print, and all is deleted with the session."""
    printer = FakePrinter()
    with server.serve(printer.ae) as port, user.associate(port, GREY) as association:
        options = {"copies": 2, "medium": "PAPER", "label": "Ärztin"}
        with user.entered(printing.session(association, **options)) as session:
            film = user.do(session.film(2, 1, orientation="LANDSCAPE", size="A4", MagnificationType="CUBIC"))
            assert film.places == ("1.2.0", "1.2.1")
            user.do(film.place(1, image()))
            user.do(film.place(2, image(), Polarity="REVERSE"))
            assert user.do(film.print()).status == 0
            assert user.do(session.print()).status == 0
            assert user.do(film.delete()).status == 0
            assert user.do(session.printer()) == user.do(printing.printer_status(association, context=GREY))
    assert printer.services() == [
        ("n_create", printing.BasicFilmSession),
        ("n_create", printing.BasicFilmBox),
        ("n_set", printing.BasicGrayscaleImageBox),
        ("n_set", printing.BasicGrayscaleImageBox),
        ("n_action", printing.BasicFilmBox),
        ("n_action", printing.BasicFilmSession),
        ("n_delete", printing.BasicFilmBox),
        ("n_get", printing.Printer),
        ("n_get", printing.Printer),
        ("n_delete", printing.BasicFilmSession),
    ]
    assert {context for _, _, context, _ in printer.asked} == {GREY}
    session_data, film_data, first, second = (data for *_, data in printer.asked[:4])
    assert (session_data.NumberOfCopies, session_data.MediumType) == (2, "PAPER")
    assert session_data.FilmSessionLabel == "Ärztin"
    assert (film_data.FilmOrientation, film_data.MagnificationType) == ("LANDSCAPE", "CUBIC")
    assert (first.ImageBoxPosition, second.ImageBoxPosition, second.Polarity) == (1, 2, "REVERSE")
    assert first.BasicGrayscaleImageSequence[0].PixelData == bytes((0, 85, 170, 255))


def test_the_printer_says_how_it_is(user: Side, server: Side) -> None:
    """PS3.4 H.4.6.2.2."""
    printer = FakePrinter(printing.Printer)
    with server.serve(printer.ae) as port, user.associate(port, printing.Printer) as association:
        status = user.do(printing.printer_status(association))
        assert (status.status, status.info, status.name) == ("WARNING", "SUPPLY LOW", "Drucker")


def test_colour_goes_through_the_colour_class(user: Side, server: Side) -> None:
    """PS3.4 H.3.2.2.2: RGB by plane."""
    printer = FakePrinter()
    with server.serve(printer.ae) as port, user.associate(port, COLOUR) as association:
        assert user.do(printing.print_images(association, [rgb()], colour=True)) == 1
    [placed] = [data for name, *_, data in printer.asked if name == "n_set"]
    assert placed.BasicColorImageSequence[0].PixelData == b"RRRRGGGGBBBB"
    assert {context for _, _, context, _ in printer.asked} == {COLOUR}


def test_the_classes_may_be_negotiated_one_by_one(user: Side, server: Side) -> None:
    """Each in a context of its own, without a meta SOP class."""
    printer = FakePrinter(*PARTS)
    with server.serve(printer.ae) as port, user.associate(port, *PARTS) as association:
        assert user.do(printing.print_images(association, [image()])) == 1
    assert all(sop_class == context for _, sop_class, context, _ in printer.asked)


def test_images_fill_as_many_films_as_they_need(user: Side, server: Side) -> None:
    """Five images, four places: two films."""
    printer = FakePrinter()
    with server.serve(printer.ae) as port, user.associate(port, GREY) as association:
        images = (image() for _ in range(5))
        assert user.do(printing.print_images(association, images, columns=2, rows=2, copies=3)) == 2
    names = [name for name, _ in printer.services()]
    assert names == ["n_create", "n_create", *["n_set"] * 4, "n_action", "n_create", "n_set", "n_action", "n_delete"]


def test_an_image_that_cannot_be_printed_ends_the_session(user: Side, server: Side) -> None:
    """The film session does not stay on the printer."""
    printer = FakePrinter()
    with (
        server.serve(printer.ae) as port,
        user.associate(port, GREY) as association,
        pytest.raises(dicomnet.InvalidDataset),
    ):
        user.do(printing.print_images(association, [rgb()]))
    assert printer.services()[-1] == ("n_delete", printing.BasicFilmSession)


@pytest.mark.parametrize(("service", "status"), [("n_create", 0x0213), ("n_set", 0xC605), ("n_action", 0xC602)])
def test_failures_are_raised_and_warnings_are_not(user: Side, server: Side, service: str, status: int) -> None:
    """PS3.4 H.4.1.2.1.2 and the like."""
    printer = FakePrinter(**{service: status})
    with server.serve(printer.ae) as port, user.associate(port, GREY) as association:
        assert status_of(lambda: user.do(printing.print_images(association, [image()]))) == status
    printer = FakePrinter(n_action=0xB603)
    with server.serve(printer.ae) as port, user.associate(port, GREY) as association:
        assert user.do(printing.print_images(association, [image()])) == 1


def test_a_session_that_cannot_be_deleted_is_told_beside_the_error(user: Side, server: Side) -> None:
    """The error of the block is what matters."""
    printer = FakePrinter(n_delete=0x0110)
    with server.serve(printer.ae) as port, user.associate(port, GREY) as association:
        with pytest.raises(ZeroDivisionError) as caught, user.entered(printing.session(association)):
            raise ZeroDivisionError
        assert "could" in caught.value.__notes__[0]
        assert status_of(lambda: user.do(printing.print_images(association, []))) == 0x0110


def test_a_film_has_no_more_places_than_it_has(user: Side, server: Side) -> None:
    """Nothing is sent."""
    printer = FakePrinter()
    with (
        server.serve(printer.ae) as port,
        user.associate(port, GREY) as association,
        user.entered(printing.session(association)) as session,
    ):
        film = user.do(session.film())
        for position in (0, 2):
            with pytest.raises(dicomnet.LocalProtocolError):
                user.do(film.place(position, image()))


def test_the_printer_tells_of_itself_and_of_jobs(user: Side, server: Side) -> None:
    """PS3.4 H.4.5, H.4.6: N-EVENT-REPORT on the association that prints."""
    printer, me = FakePrinter(), dicomnet.AE("ME")
    events: list[printing.PrinterEvent] = []
    printing.take_events(me, events.append)
    statuses = []
    with server.serve(printer.ae) as port, user.associate(port, GREY, ae=me) as association:
        user.do(printing.printer_status(association, context=GREY))
        scu = printer.sessions[0].scu

        def tell() -> None:
            job = printing.PrintJob
            for sop_class, event, data in (
                (printing.Printer, 2, dataset(PrinterStatusInfo="SUPPLY LOW")),
                (job, 3, None),
                (job, 9, None),
            ):
                response = server.do(scu.n_event_report(sop_class, "1.2", event, data, context=GREY))
                statuses.append(response.status)

        teller = threading.Thread(target=tell)
        teller.start()
        user.do(association.listen(PATIENCE, until=lambda: len(events) == 2))
        user.do(association.listen(0.2))
        teller.join(PATIENCE)
    assert [event.state for event in events] == ["WARNING", "DONE"]
    assert events[0].information.PrinterStatusInfo == "SUPPLY LOW"
    assert statuses == [0, 0, 0x0113]
    eventually(lambda: not teller.is_alive(), "it has told")


# --- images ---------------------------------------------------------------------------------------------------------


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "little", signed=value < 0) for value in values)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"PixelData": bytes((0, 1, 2, 3))}, (0, 85, 170, 255)),  # from darkest to brightest
        ({"PixelData": bytes((7, 7, 7, 7))}, (0, 0, 0, 0)),
        ({"PhotometricInterpretation": "MONOCHROME1"}, (255, 170, 85, 0)),
        ({"WindowCenter": "2", "WindowWidth": "3"}, (0, 64, 191, 255)),
        ({"WindowCenter": ["1", "9"], "WindowWidth": ["2", "9"]}, (0, 255, 255, 255)),
        ({"WindowCenter": "", "WindowWidth": ""}, (0, 85, 170, 255)),
        ({"RescaleSlope": "-1", "RescaleIntercept": "3"}, (255, 170, 85, 0)),
        (
            {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelData": words(0, 1365, 2730, 4095)},
            (0, 85, 170, 255),
        ),
        (  # bits beside those that are stored do not count
            {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelData": words(0xF000, 1365, 2730, 4095)},
            (0, 85, 170, 255),
        ),
        (
            {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1}
            | {"PixelData": words(-1000, -500, 0, 500), "WindowCenter": "-250", "WindowWidth": "1501"},
            (0, 85, 170, 255),
        ),
    ],
)
def test_grey_values_become_what_is_seen(changes: dict[str, Any], expected: tuple[int, ...]) -> None:
    """PS3.3 C.7.6.3.1, C.11.1, C.11.2.1.2.1."""
    item = grey(image(**changes))
    assert tuple(item.PixelData) == pytest.approx(expected, abs=1)
    assert (item.PhotometricInterpretation, item.BitsAllocated, item.PixelRepresentation) == ("MONOCHROME2", 8, 0)


def test_one_frame_of_several_is_taken() -> None:
    """Frames lie one behind the other."""
    frames = image(PixelData=bytes(range(8)), NumberOfFrames=2, WindowCenter="128", WindowWidth="256")
    assert tuple(grey(frames, 1).PixelData) == (4, 5, 6, 7)
    assert colour(rgb(PixelData=b"RGB" * 4 + b"rgb" * 4), 1).PixelData == b"rrrrggggbbbb"


def test_an_odd_number_of_pixels_is_padded() -> None:
    """PS3.5 7.1.1: values have an even length. The shape of pixels is kept."""
    item = grey(image(1, 3, PixelAspectRatio=["1", "2"]))
    assert len(item.PixelData) == 4
    assert list(item.PixelAspectRatio) == [1, 2]
    assert colour(rgb(PlanarConfiguration=1, PixelData=b"RRRRGGGGBBBB")).PixelData == b"RRRRGGGGBBBB"


@pytest.mark.parametrize(
    "changes",
    [
        {"SamplesPerPixel": 3},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"BitsAllocated": 32},
        {"BitsAllocated": None},
        {"PixelData": b"\0"},
        {"PixelData": None},
        {"Rows": 0},
    ],
)
def test_images_that_cannot_be_printed(changes: dict[str, Any]) -> None:
    """They are told apart from those that can, and nothing is printed instead of them."""
    with pytest.raises(dicomnet.InvalidDataset):
        grey(image(**changes))
    with pytest.raises(dicomnet.InvalidDataset):
        colour(image(**changes))


@pytest.mark.parametrize(
    ("syntax", "hint"), [("1.2.840.10008.1.2.4.50", "decompress"), ("1.2.840.10008.1.2.2", "swap")]
)
def test_pixels_must_be_native_and_little_endian(syntax: str, hint: str) -> None:
    """PS3.5 A.4: what is compressed has to be decompressed first."""
    encoded = image()
    encoded.file_meta = Dataset()
    encoded.file_meta.TransferSyntaxUID = syntax
    with pytest.raises(dicomnet.InvalidDataset, match=hint):
        grey(encoded)
