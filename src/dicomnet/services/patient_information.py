"""Relevant patient information query (PS3.4 Q): what is worth knowing of a patient, as the content of a report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from dicomnet.dimse.status import Status
from dicomnet.errors import StatusError
from dicomnet.services.faces import drive, is_async
from dicomnet.services.providing import decoded, offer, route

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomnet.ae import AE
    from dicomnet.dimse.provider import Indication

GeneralRelevantPatientInformation: Final = "1.2.840.10008.5.1.4.37.1"  # SOP class UIDs (PS3.4 Q.4.1)
BreastImagingRelevantPatientInformation: Final = "1.2.840.10008.5.1.4.37.2"
CardiacRelevantPatientInformation: Final = "1.2.840.10008.5.1.4.37.3"

# The template that each SOP class asks for (PS3.4 Q.4.1, PS3.16).
TEMPLATES: Final = {
    GeneralRelevantPatientInformation: "9007",
    BreastImagingRelevantPatientInformation: "9000",
    CardiacRelevantPatientInformation: "3802",
}
MORE_THAN_ONE: Final = 0xC100  # statuses of PS3.4 Table Q.2-1
TEMPLATE_NOT_SUPPORTED: Final = 0xC200

Find = Callable[["Dataset", str], "Dataset | Iterable[Dataset] | None"]

_RETURNED: Final = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "ObservationDateTime",
    "ValueType",
    "ConceptNameCodeSequence",
    "ContentSequence",
)


def query(
    association: Any,
    patient_id: str,
    *,
    sop_class_uid: str = GeneralRelevantPatientInformation,
    template: str = "",
    **keys: Any,
) -> Any:
    """What the provider knows of one patient: a pydicom Dataset with the content tree, or None (PS3.4 Q.3).

    ``template``: identifier of the template in PS3.16, without one that of the SOP class. ``keys``: others to match or
    to be returned, by keyword (``IssuerOfPatientID="X"``). On the asyncio face awaitable. Raises StatusError for a
    failure, C100H if several patients match and C200H for a template that is not supported among them, and what
    ``association.c_find`` raises.
    """
    from pydicom import Dataset

    identifier, content = Dataset(), Dataset()
    content.MappingResource, content.TemplateIdentifier = "DCMR", template or TEMPLATES[sop_class_uid]
    for keyword in _RETURNED:
        setattr(identifier, keyword, None)
    identifier.PatientID = patient_id
    identifier.ContentTemplateSequence = [content]
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    if not all(str(value).isascii() for value in (patient_id, *keys.values())):
        identifier.SpecificCharacterSet = "ISO_IR 192"
    return drive(association, _first(association, association.c_find(identifier, model=sop_class_uid)))


async def _first(association: Any, matches: Any) -> Dataset | None:
    found = [match async for match in matches] if is_async(association) else list(matches)
    return found[0] if found else None  # there is one at most


def provide(ae: AE, find: Find, *, sop_classes: Iterable[str] = tuple(TEMPLATES)) -> None:
    """Answer relevant patient information queries of these SOP classes (PS3.4 Q.3).

    ``find(identifier, template)`` gets the identifier, a pydicom Dataset with a Patient ID, and the identifier of the
    template that is asked for. It returns the patient's data set with its content tree, None if there is no such
    patient, or several, which is answered with C100H. For a template that it does not know it raises
    ``StatusError(0xC200)``. Queries come from several threads at once.
    """

    def answer(request: Indication) -> Iterator[Dataset]:
        from pydicom import Dataset

        identifier = decoded(request, Status.DATASET_MISMATCH)
        if not identifier.get("PatientID"):
            raise StatusError(Status.DATASET_MISMATCH, "no Patient ID (PS3.4 Q.3.1)")
        content = identifier.get("ContentTemplateSequence") or []
        template = str(content[0].get("TemplateIdentifier") or "") if content else ""
        found = find(identifier, template or TEMPLATES.get(request.sop_class_uid, ""))
        patients = [] if found is None else [found] if isinstance(found, Dataset) else list(found)
        if len(patients) > 1:
            raise StatusError(MORE_THAN_ONE, "more than one patient matches")
        yield from patients

    classes = tuple(sop_classes)
    offer(ae, classes)
    route(ae, "c_find", classes, answer)
