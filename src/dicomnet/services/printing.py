"""Print management (PS3.4 H), as its user: film sessions, films, images, and how the printer is.

A film session has films, a film has places for images. All are instances that the printer makes; they end with the
session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dicomnet.dimse.messages import Response
from dicomnet.dimse.status import Status
from dicomnet.errors import LocalProtocolError
from dicomnet.services.faces import Scope, answered, drive
from dicomnet.services.images import colour as colour_item, grey
from dicomnet.services.providing import decoded, route

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomnet.ae import AE
    from dicomnet.dimse.provider import Indication

BasicGrayscalePrintManagementMeta: Final = "1.2.840.10008.5.1.1.9"  # SOP class UIDs (PS3.4 H.3.2.2, H.4)
BasicColorPrintManagementMeta: Final = "1.2.840.10008.5.1.1.18"
BasicFilmSession: Final = "1.2.840.10008.5.1.1.1"
BasicFilmBox: Final = "1.2.840.10008.5.1.1.2"
BasicGrayscaleImageBox: Final = "1.2.840.10008.5.1.1.4"
BasicColorImageBox: Final = "1.2.840.10008.5.1.1.4.1"
PrintJob: Final = "1.2.840.10008.5.1.1.14"
Printer: Final = "1.2.840.10008.5.1.1.16"
_PRINTER: Final = "1.2.840.10008.5.1.1.17"  # its only instance (PS3.4 H.4.6.3)

_PRINT: Final = 1  # action type (PS3.4 H.4.1.2.4, H.4.2.2.4)
_EVENTS: Final = {  # event types (PS3.4 Tables H.4.5-1, H.4.6-1)
    Printer: {1: "NORMAL", 2: "WARNING", 3: "FAILURE"},
    PrintJob: {1: "PENDING", 2: "PRINTING", 3: "DONE", 4: "FAILURE"},
}


@dataclass(frozen=True, slots=True)
class PrinterStatus:
    """``status``: NORMAL, WARNING or FAILURE; ``info``: why, in the standard's words; ``name``: of the printer."""

    status: str
    info: str
    name: str
    dataset: Dataset


@dataclass(frozen=True, slots=True)
class PrinterEvent:
    """What a printer tells. ``sop_class_uid``: Printer or PrintJob; ``uid``: which one.

    ``state``: NORMAL, WARNING or FAILURE of a printer; PENDING, PRINTING, DONE or FAILURE of a job.
    """

    sop_class_uid: str
    uid: str
    state: str
    information: Dataset


class Session(Scope):
    """A film session; made by ``session``. Methods are awaitable on the asyncio face.

    They raise StatusError for a failure of the printer; a warning (B6xxH) is in the Response.
    """

    def __init__(self, association: Any, attributes: Dataset, *, colour: bool) -> None:
        super().__init__(association)
        self.uid = ""
        self._attributes = attributes
        self._image_box = BasicColorImageBox if colour else BasicGrayscaleImageBox
        self._item = colour_item if colour else grey
        self._sequence = "BasicColorImageSequence" if colour else "BasicGrayscaleImageSequence"
        meta = BasicColorPrintManagementMeta if colour else BasicGrayscalePrintManagementMeta
        accepted = {context.abstract_syntax for context in association.accepted}
        # The meta SOP class carries the messages of those that belong to it (PS3.4 H.3.2.1); some take them singly.
        self._context = meta if meta in accepted or BasicFilmSession not in accepted else None

    async def _enter(self) -> None:
        self.uid, _ = await self._create(BasicFilmSession, self._attributes)

    async def _leave(self, error: BaseException | None) -> None:
        """The films and images go with the session (PS3.4 H.4.1.2.3)."""
        try:
            response = await answered(self._association.n_delete(BasicFilmSession, self.uid, context=self._context))
            response.raise_for_status()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"nor could the film session be deleted: {failure}")

    def printer(self) -> Any:
        """How the printer is (N-GET, PS3.4 H.4.6.2.2): a PrinterStatus."""
        return printer_status(self._association, context=self._context)

    def film(
        self, columns: int = 1, rows: int = 1, *, orientation: str = "PORTRAIT", size: str = "", **attributes: Any
    ) -> Any:
        """Begin a film (N-CREATE, PS3.4 H.4.2.2.1): a Film, with places for ``columns`` × ``rows`` images.

        ``orientation``: PORTRAIT or LANDSCAPE. ``size``: Film Size ID, such as 14INX17IN. ``attributes``: others of the
        film box, by keyword (``MagnificationType="CUBIC"``; ``ImageDisplayFormat`` replaces columns and rows).
        """
        from pydicom import Dataset

        film, reference = Dataset(), Dataset()
        film.ImageDisplayFormat = f"STANDARD\\{columns},{rows}"
        film.FilmOrientation = orientation
        if size:
            film.FilmSizeID = size
        for keyword, value in attributes.items():
            setattr(film, keyword, value)
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = BasicFilmSession, self.uid
        film.ReferencedFilmSessionSequence = [reference]
        return drive(self._association, self._film(film))

    async def _film(self, attributes: Dataset) -> Film:
        uid, created = await self._create(BasicFilmBox, attributes)
        boxes = created.get("ReferencedImageBoxSequence") or []
        return Film(self, uid, tuple(str(box.ReferencedSOPInstanceUID) for box in boxes))

    def print(self) -> Any:
        """Print all films of the session (N-ACTION, PS3.4 H.4.1.2.4): the Response."""
        return drive(self._association, self._act(BasicFilmSession, self.uid))

    async def _act(self, sop_class_uid: str, uid: str) -> Response:
        response: Response = await answered(
            self._association.n_action(sop_class_uid, uid, _PRINT, context=self._context)
        )
        return response.raise_for_status()

    async def _create(self, sop_class_uid: str, attributes: Dataset) -> tuple[str, Dataset]:
        from pydicom import Dataset
        from pydicom.uid import generate_uid

        asked = str(generate_uid(prefix=None))
        response = await answered(
            self._association.n_create(sop_class_uid, attributes, sop_instance_uid=asked, context=self._context)
        )
        response.raise_for_status()
        created = Dataset() if response.dataset is None else response.dataset.decode()
        return response.sop_instance_uid or asked, created

    async def _place(self, uid: str, position: int, image: Dataset, frame: int, attributes: dict[str, Any]) -> Response:
        from pydicom import Dataset

        box = Dataset()
        box.ImageBoxPosition = position
        for keyword, value in attributes.items():
            setattr(box, keyword, value)
        setattr(box, self._sequence, [self._item(image, frame)])
        response: Response = await answered(self._association.n_set(self._image_box, uid, box, context=self._context))
        return response.raise_for_status()


class Film:
    """A film of a session. ``uid``: of its film box; ``places``: the UIDs of its image boxes."""

    def __init__(self, session: Session, uid: str, places: tuple[str, ...]) -> None:
        self.uid = uid
        self.places = places
        self._session = session

    def place(self, position: int, image: Dataset, *, frame: int = 0, **attributes: Any) -> Any:
        """Put an image on the film (N-SET, PS3.4 H.4.3.1.2): the Response.

        ``position``: from 1, along the rows. ``image``: a pydicom Dataset with uncompressed pixels, of which ``frame``
        is printed: grey values as its window shows them, or RGB in a colour session. ``attributes``: others of the
        image box, by keyword (``Polarity="REVERSE"``). Raises LocalProtocolError for a place that there is not,
        InvalidDataset for an image that cannot be printed.
        """
        if not 1 <= position <= len(self.places):
            raise LocalProtocolError(f"the film has {len(self.places)} places; there is none {position}")
        session, uid = self._session, self.places[position - 1]
        return drive(session._association, session._place(uid, position, image, frame, attributes))

    def print(self) -> Any:
        """Print this film (N-ACTION, PS3.4 H.4.2.2.4): the Response."""
        return drive(self._session._association, self._session._act(BasicFilmBox, self.uid))

    def delete(self) -> Any:
        """Delete this film before the session ends (N-DELETE, PS3.4 H.4.2.2.3): the Response."""
        association = self._session._association
        return association.n_delete(BasicFilmBox, self.uid, context=self._session._context)


def session(
    association: Any,
    *,
    colour: bool = False,
    copies: int = 1,
    priority: str = "MED",
    medium: str = "",
    destination: str = "",
    label: str = "",
    **attributes: Any,
) -> Session:
    """A film session: ``with session(association) as it: …`` (``async with`` on the asyncio face).

    Entering creates it (N-CREATE, PS3.4 H.4.1), leaving deletes it with its films. ``colour``: print RGB images instead
    of grey ones. ``priority``: HIGH, MED or LOW. ``medium``: PAPER, CLEAR FILM, BLUE FILM …; ``destination``: MAGAZINE,
    PROCESSOR …; empty ones are the printer's choice. ``attributes``: others of the film session, by keyword.

    Needs a context for the Basic Grayscale (or Color) Print Management Meta SOP class, or one for each of its parts.
    Entering and leaving raise StatusError if the printer refuses, and what ``association.n_create`` raises.
    """
    from pydicom import Dataset

    film_session = Dataset()
    film_session.NumberOfCopies, film_session.PrintPriority = copies, priority
    named = {"MediumType": medium, "FilmDestination": destination, "FilmSessionLabel": label}
    for keyword, value in {**{name: text for name, text in named.items() if text}, **attributes}.items():
        setattr(film_session, keyword, value)
    if not label.isascii():
        film_session.SpecificCharacterSet = "ISO_IR 192"
    return Session(association, film_session, colour=colour)


def print_images(
    association: Any,
    images: Iterable[Dataset],
    *,
    columns: int = 1,
    rows: int = 1,
    colour: bool = False,
    **options: Any,
) -> Any:
    """Print images on as many films as they need: the number of films. On the asyncio face awaitable.

    ``images``: pydicom Datasets, as ``Film.place`` takes them; ``options``: those of ``session``. Raises as these do.
    """
    return drive(association, _print_images(association, list(images), columns, rows, colour, options))


async def _print_images(
    association: Any, images: list[Dataset], columns: int, rows: int, colour: bool, options: dict[str, Any]
) -> int:
    it, each, films = session(association, colour=colour, **options), columns * rows, 0
    await it._enter()
    error: BaseException | None = None
    try:
        for start in range(0, len(images), each):
            film = await answered(it.film(columns, rows))
            for position, image in enumerate(images[start : start + each], start=1):
                await answered(film.place(position, image))
            await answered(film.print())
            films += 1
    except BaseException as failure:
        error = failure
        raise
    finally:
        await it._leave(error)
    return films


def printer_status(association: Any, *, context: str | None = None) -> Any:
    """How the printer is (N-GET, PS3.4 H.4.6.2.2): a PrinterStatus. On the asyncio face awaitable.

    ``context``: the meta SOP class if its context is to carry the message. Raises StatusError if the printer refuses.
    """
    return drive(association, _printer_status(association, context))


async def _printer_status(association: Any, context: str | None) -> PrinterStatus:
    from pydicom import Dataset

    response = await answered(association.n_get(Printer, _PRINTER, context=context))
    response.raise_for_status()
    found = Dataset() if response.dataset is None else response.dataset.decode()
    status, info, name = (
        str(found.get(keyword) or "") for keyword in ("PrinterStatus", "PrinterStatusInfo", "PrinterName")
    )
    return PrinterStatus(status, info, name, found)


def take_events(ae: AE, callback: Callable[[PrinterEvent], None]) -> None:
    """Hear what the printer tells (N-EVENT-REPORT, PS3.4 H.4.5, H.4.6): ``callback`` gets each PrinterEvent.

    Printers tell on the association that prints: give ``ae`` to ``associate(..., ae=ae)``; events are taken while other
    operations wait, and by ``association.listen``.
    """

    def take(request: Indication) -> Response:
        from pydicom import Dataset

        state = _EVENTS[request.sop_class_uid].get(request.event_type or 0)
        if state is None:
            return Response(Status.NO_SUCH_EVENT_TYPE)
        information = Dataset() if request.dataset is None else decoded(request, Status.INVALID_ARGUMENT_VALUE)
        callback(PrinterEvent(request.sop_class_uid, request.sop_instance_uid, state, information))
        return Response(Status.SUCCESS)

    route(ae, "n_event_report", [Printer, PrintJob], take)
