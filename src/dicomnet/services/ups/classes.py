"""The names and numbers of PS3.4 CC that users and providers share."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

UnifiedProcedureStepPush: Final = "1.2.840.10008.5.1.4.34.6.1"  # SOP class UIDs (PS3.4 CC.3.1)
UnifiedProcedureStepWatch: Final = "1.2.840.10008.5.1.4.34.6.2"
UnifiedProcedureStepPull: Final = "1.2.840.10008.5.1.4.34.6.3"
UnifiedProcedureStepEvent: Final = "1.2.840.10008.5.1.4.34.6.4"
UnifiedProcedureStepQuery: Final = "1.2.840.10008.5.1.4.34.6.5"

ALL: Final = "1.2.840.10008.5.1.4.34.5"  # the instance to subscribe to for all steps, present and future (CC.2.3.2)
FILTERED: Final = "1.2.840.10008.5.1.4.34.5.1"  # the one for all that match some keys

SCHEDULED: Final = "SCHEDULED"
IN_PROGRESS: Final = "IN PROGRESS"
COMPLETED: Final = "COMPLETED"
CANCELED: Final = "CANCELED"


class Action(IntEnum):
    """Action types (PS3.4 Tables CC.2.1-1, CC.2.2-1, CC.2.3-1)."""

    CHANGE_STATE = 1
    REQUEST_CANCEL = 2
    SUBSCRIBE = 3
    UNSUBSCRIBE = 4
    SUSPEND_GLOBAL_SUBSCRIPTION = 5


class EventType(IntEnum):
    """What an event is about (PS3.4 Table CC.2.4-1)."""

    STATE_REPORT = 1
    CANCEL_REQUESTED = 2
    PROGRESS_REPORT = 3
    SCP_STATUS_CHANGE = 4
    ASSIGNED = 5


class UpsStatus(IntEnum):
    """The statuses of this service (PS3.4 CC.2.1.4, CC.2.2.4, CC.2.3.4, CC.2.5.4, CC.2.6.4)."""

    CREATED_WITH_MODIFICATIONS = 0xB300
    DELETION_LOCK_NOT_GRANTED = 0xB301
    ALREADY_CANCELED = 0xB304
    COERCED_VALUES = 0xB305
    ALREADY_COMPLETED = 0xB306
    MAY_NO_LONGER_BE_UPDATED = 0xC300
    WRONG_TRANSACTION_UID = 0xC301
    ALREADY_IN_PROGRESS = 0xC302
    SCHEDULED_BY_CREATION_ALONE = 0xC303
    FINAL_STATE_REQUIREMENTS_NOT_MET = 0xC304
    NO_SUCH_UPS = 0xC307
    RECEIVING_AE_UNKNOWN = 0xC308
    NOT_CREATED_AS_SCHEDULED = 0xC309
    NOT_YET_IN_PROGRESS = 0xC310
    CANCEL_OF_COMPLETED = 0xC311
    PERFORMER_CANNOT_BE_CONTACTED = 0xC312
    PERFORMER_CHOOSES_NOT_TO_CANCEL = 0xC313
    ACTION_NOT_APPROPRIATE = 0xC314
    EVENT_REPORTS_NOT_SUPPORTED = 0xC315
