"""What is wrong with a request before anybody performs it (PS3.4 B.2.3, PS3.7 9.1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from dicomnet.dimse.io import Dataset
from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.dimse.status import Status

if TYPE_CHECKING:
    from dicomnet.ul.negotiation import AcceptedContext

_is_uid = re.compile(r"[0-9.]{1,64}").fullmatch  # PS3.5 9.1, but for leading zeros and empty components, which are seen
_COMPOSITE: Final = (CommandField.C_ECHO, CommandField.C_FIND, CommandField.C_GET, CommandField.C_MOVE)
_WITH_IDENTIFIER: Final = (CommandField.C_FIND, CommandField.C_GET, CommandField.C_MOVE)


def check(request: Request, context: AcceptedContext, dataset: object) -> Response | None:
    """The answer to a request that no handler needs to see, or None.

    N-services may name another class than the context's: meta SOP classes (PS3.4 H.3.2.2) and those of the unified
    procedure step (PS3.4 CC.2) share contexts. Which one is right is the handler's business.
    """
    command = request.command
    if command is CommandField.C_STORE:
        return _check_store(request, context, dataset)
    if command in _COMPOSITE and request.sop_class_uid != context.abstract_syntax:
        return Response(Status.SOP_CLASS_NOT_SUPPORTED)
    if isinstance(dataset, OSError):
        return Response(Status.OUT_OF_RESOURCES, error_comment=f"cannot be stored: {dataset.strerror}")
    if dataset is None and command in _WITH_IDENTIFIER:
        return Response(Status.CANNOT_UNDERSTAND, error_comment="a query without an identifier")
    return None


def _check_store(request: Request, context: AcceptedContext, dataset: object) -> Response | None:
    if request.sop_class_uid != context.abstract_syntax:  # PS3.4 Table B.2-1
        comment = "the Affected SOP Class UID is not that of the presentation context"
        return Response(Status.DATASET_MISMATCH, error_comment=comment)
    if not _is_uid(request.sop_instance_uid):  # PS3.7 C.5.15: nobody shall make a file name of it
        comment = "the Affected SOP Instance UID breaks the rules for UIDs"
        return Response(Status.INVALID_SOP_INSTANCE, error_comment=comment)
    if dataset is None:
        return Response(Status.CANNOT_UNDERSTAND, error_comment="a C-STORE request without a data set")
    if isinstance(dataset, OSError):
        return Response(Status.OUT_OF_RESOURCES, error_comment=f"cannot be stored: {dataset.strerror}")
    try:
        inner = cast("Dataset", dataset).inner_uids()
    except OSError as error:
        return Response(Status.OUT_OF_RESOURCES, error_comment=f"cannot be read again: {error.strerror}")
    if inner is not None and inner != (request.sop_class_uid, request.sop_instance_uid):
        return Response(Status.DATASET_MISMATCH, error_comment="SOP class or instance UID differs from the command's")
    return None
