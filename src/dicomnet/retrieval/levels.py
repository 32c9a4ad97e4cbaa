"""Levels and what is worth to be asked for at each (PS3.4 C.6, K.6, CC.2.8, U.6 and others).

Tables of keywords. What a user left out follows from what he gave: the level from the lowest attribute that he names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

LEVELS: Final = ("PATIENT", "STUDY", "SERIES", "IMAGE")
# Query/Retrieve Level (0008,0052) is for these alone (PS3.4 C.6, Y.6, Z.6).
WITH_LEVEL: Final = (
    "patient",
    "study",
    "patient-study-only",
    "composite-instance",
    "composite-instance-without-bulk-data",
)

UNIQUE_KEYS: Final = {  # the one that names an entity of the level (PS3.4 C.6.1.1)
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Attributes that only a lower level has: who names one wants that level.
_OF_IMAGES: Final = _words(
    "SOPInstanceUID SOPClassUID InstanceNumber ContentDate ContentTime AcquisitionNumber AcquisitionDate"
    " AcquisitionTime Rows Columns BitsAllocated NumberOfFrames AvailableTransferSyntaxUID ImageType"
    " ConceptNameCodeSequence ContentTemplateSequence CompletionFlag VerificationFlag ContentLabel"
)
_OF_SERIES: Final = _words(
    "SeriesInstanceUID Modality SeriesNumber SeriesDescription SeriesDate SeriesTime BodyPartExamined ProtocolName"
    " Laterality PerformingPhysicianName OperatorsName NumberOfSeriesRelatedInstances PerformedProcedureStepID"
    " PerformedProcedureStepStartDate PerformedProcedureStepStartTime RequestAttributesSequence Manufacturer"
    " ManufacturerModelName StationName"
)
_OF_PATIENTS: Final = _words(
    "PatientID PatientName PatientBirthDate PatientBirthTime PatientSex IssuerOfPatientID OtherPatientIDs"
    " OtherPatientNames EthnicGroup PatientComments NumberOfPatientRelatedStudies NumberOfPatientRelatedSeries"
    " NumberOfPatientRelatedInstances SpecificCharacterSet QueryRetrieveLevel"
)

_AT_LEVEL: Final = {
    "PATIENT": "PatientName PatientID PatientBirthDate PatientSex NumberOfPatientRelatedStudies",
    "STUDY": "PatientName PatientID StudyDate StudyTime ModalitiesInStudy StudyDescription AccessionNumber"
    " NumberOfStudyRelatedInstances StudyInstanceUID",
    "SERIES": "Modality SeriesNumber SeriesDescription SeriesDate NumberOfSeriesRelatedInstances SeriesInstanceUID",
    "IMAGE": "InstanceNumber SOPClassUID SOPInstanceUID",
}
_STEP: Final = "ScheduledProcedureStepSequence[0]"
_INSTANCE: Final = "SOPClassUID SOPInstanceUID"
_IMPLANT: Final = f"Manufacturer ImplantName ImplantPartNumber ImplantSize {_INSTANCE}"
_UPS: Final = (
    "ScheduledProcedureStepStartDateTime ProcedureStepState ScheduledProcedureStepPriority ProcedureStepLabel"
    f" WorklistLabel PatientName PatientID {_INSTANCE}"
)
_OF_MODEL: Final = {
    "worklist": f"{_STEP}.ScheduledProcedureStepStartDate {_STEP}.ScheduledProcedureStepStartTime {_STEP}.Modality"
    f" {_STEP}.ScheduledStationAETitle PatientName PatientID AccessionNumber RequestedProcedureDescription"
    f" {_STEP}.ScheduledProcedureStepDescription {_STEP}.ScheduledProcedureStepID StudyInstanceUID",
    "general-purpose-worklist": "PatientName PatientID ScheduledProcedureStepStartDateTime"
    f" GeneralPurposeScheduledProcedureStepStatus {_INSTANCE}",
    "ups": _UPS,
    "ups-watch": _UPS,
    "ups-query": _UPS,
    "hanging-protocol": "HangingProtocolName HangingProtocolDescription HangingProtocolLevel HangingProtocolCreator"
    f" HangingProtocolCreationDateTime {_INSTANCE}",
    "color-palette": f"ContentLabel ContentDescription ContentCreatorName {_INSTANCE}",
    "generic-implant": _IMPLANT,
    "implant-assembly-template": f"ImplantAssemblyTemplateName Manufacturer ProcedureTypeCodeSequence {_INSTANCE}",
    "implant-template-group": f"ImplantTemplateGroupName ImplantTemplateGroupIssuer {_INSTANCE}",
    "defined-procedure-protocol": f"ProtocolName Modality Manufacturer ManufacturerModelName {_INSTANCE}",
    "protocol-approval": _INSTANCE,
    "inventory": f"InventoryPurpose ContentDate ContentTime InventoryLevel {_INSTANCE}",
    "relevant-patient-information": "PatientName PatientID PatientBirthDate PatientSex ContentTemplateSequence",
    "breast-relevant-patient-information": "PatientName PatientID PatientBirthDate PatientSex ContentTemplateSequence",
    "cardiac-relevant-patient-information": "PatientName PatientID PatientBirthDate PatientSex ContentTemplateSequence",
}


def level_of(keywords: Iterable[str], model: str) -> str | None:
    """The level that somebody wants who names these attributes, or None where the model has no levels."""
    if model not in WITH_LEVEL:
        return None
    named = set(keywords)
    if named & _OF_IMAGES or model.startswith("composite"):
        return "IMAGE"
    if named & _OF_SERIES:
        return "SERIES"
    return "PATIENT" if model == "patient" and named and named <= _OF_PATIENTS else "STUDY"


def return_keys(model: str, level: str | None) -> tuple[str, ...]:
    """Paths of what is asked for if nothing was; none where the library does not know the model."""
    return tuple((_OF_MODEL.get(model, "") if level is None else _AT_LEVEL[level]).split())
