"""How fast a peer answers: C-ECHO, associations, and synthetic instances if that is wanted. One thing at a time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dicomnet.blocking.association import associate
from dicomnet.errors import DicomNetworkError
from dicomnet.probe.calls import Caller
from dicomnet.probe.report import Stored, Timing
from dicomnet.ul.negotiation import DEFAULT_TRANSFER_SYNTAXES
from dicomnet.ul.pdu import AssociateRq

SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"  # what a program makes that is no modality (PS3.3 A.8)
PATIENT_NAME: Final = "SYNTHETIC^DICOMNET PROBE"
PATIENT_ID: Final = "DICOMNET-PROBE"
_ECHO_TIME: Final = 10.0  # seconds for all C-ECHOs
_RATE_TIME: Final = 1.0  # seconds
_MOST_ASSOCIATIONS: Final = 200  # in that time: enough to tell, and no load
_EDGE: Final = 512  # pixels


@dataclass(frozen=True, slots=True)
class Store:
    """To store ``count`` synthetic images of 512 × 512 pixels with 8 bits: 256 KiB each."""

    count: int = 20


def echoes(count: int, stop: Callable[[], bool], **options: Any) -> tuple[Timing, DicomNetworkError | None]:
    """The latency of ``count`` C-ECHOs on one association, and what ended it early. ``options``: of ``associate``."""
    took: list[float] = []
    failed = status = 0
    error: DicomNetworkError | None = None
    until = time.monotonic() + _ECHO_TIME
    try:
        with associate(**options) as association:
            while len(took) < count and time.monotonic() < until and not stop():
                began = time.perf_counter()
                answer = association.c_echo().status
                took.append(time.perf_counter() - began)
                if answer.is_failure:
                    failed, status = failed + 1, int(answer)
    except DicomNetworkError as ended:
        error = ended
    if not took:
        return Timing(), error
    return (
        Timing(len(took), failed, status, min(took), statistics.median(took), percentile(took, 99), max(took)),
        error,
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """The least of ``values`` that is at least as great as so many percent of them."""
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * percent // 100) - 1, 0)]


def associations(caller: Caller, request: AssociateRq, stop: Callable[[], bool]) -> tuple[int, float]:
    """How many were requested, accepted and released one after the other, and how many that is in a second."""
    began = time.monotonic()
    count = 0
    while count < _MOST_ASSOCIATIONS and time.monotonic() - began < _RATE_TIME and not stop():
        if caller.call(request).answer is None:
            break
        count += 1
    return count, count / max(time.monotonic() - began, 1e-9)


def store(wanted: Store, stop: Callable[[], bool], **options: Any) -> tuple[Stored, DicomNetworkError | None]:
    """Send them; what has arrived and how long that took, and what ended it early. ``options``: of ``associate``."""
    status = size = 0
    seconds = 0.0
    stored: list[str] = []
    error: DicomNetworkError | None = None
    contexts = [(SECONDARY_CAPTURE, DEFAULT_TRANSFER_SYNTAXES)]
    try:
        with associate(contexts=contexts, **options) as association:
            for image in _images(wanted.count):
                if stop():
                    break
                size, began = image.size, time.monotonic()
                answer = association.c_store(image).status
                seconds += time.monotonic() - began
                status = int(answer)
                if answer.is_failure:
                    break
                stored.append(image.sop_instance_uid)
    except DicomNetworkError as ended:
        error = ended
    return Stored(len(stored), size, seconds, status, tuple(stored)), error


def _images(count: int) -> Iterator[Any]:
    """In one study of one series; one at a time in memory."""
    from pydicom.uid import generate_uid

    study, series = generate_uid(prefix=None), generate_uid(prefix=None)
    return (_image(number, study, series) for number in range(count))


def _image(number: int, study: str, series: str) -> Any:
    """A Secondary Capture image that nobody can take for a patient's (PS3.3 A.8.1)."""
    from pydicom import Dataset
    from pydicom.uid import generate_uid

    from dicomnet.dataset import EncodedDataset

    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = SECONDARY_CAPTURE, generate_uid(prefix=None)
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = PATIENT_NAME, PATIENT_ID, "", "O"
    image.StudyDate, image.StudyTime = time.strftime("%Y%m%d"), time.strftime("%H%M%S")
    image.AccessionNumber = image.ReferringPhysicianName = ""
    image.StudyID, image.StudyDescription = "PROBE", "Synthetic: made by dicomnet probe, to be deleted"
    image.Modality, image.ConversionType, image.SeriesNumber, image.InstanceNumber = "OT", "SYN", 1, number + 1
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows = image.Columns = _EDGE
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    row = bytes(column * 255 // (_EDGE - 1) for column in range(_EDGE))
    image.PixelData = row * _EDGE
    image["PixelData"].VR = "OW"
    return EncodedDataset.from_dataset(image, DEFAULT_TRANSFER_SYNTAXES[0])
