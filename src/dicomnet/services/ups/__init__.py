"""Unified procedure steps (PS3.4 CC): a worklist whose items are pushed, found, claimed, worked on and watched.

All steps are instances of the UPS Push SOP class, whatever the context that a request about them goes through. A step
is SCHEDULED, then IN PROGRESS under the lock of a Transaction UID, and ends COMPLETED or CANCELED.
"""

from __future__ import annotations

from dicomnet.services.ups.classes import (
    ALL as ALL,
    FILTERED as FILTERED,
    EventType as EventType,
    UnifiedProcedureStepEvent as UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull as UnifiedProcedureStepPull,
    UnifiedProcedureStepPush as UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery as UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch as UnifiedProcedureStepWatch,
    UpsStatus as UpsStatus,
)
from dicomnet.services.ups.provider import Provider as Provider, provide as provide
from dicomnet.services.ups.user import (
    Event as Event,
    Work as Work,
    claimed as claimed,
    find as find,
    get as get,
    push as push,
    request_cancel as request_cancel,
    scheduled as scheduled,
    subscribe as subscribe,
    suspend as suspend,
    take_events as take_events,
    unsubscribe as unsubscribe,
)
