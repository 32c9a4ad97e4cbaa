"""What the providers of all services share: their place in an AE, what a request brings, and what is wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dicomnet.dimse.messages import Response
from dicomnet.dimse.status import Status
from dicomnet.errors import InvalidDataset, StatusError
from dicomnet.services.matching import Query
from dicomnet.ul import negotiation

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomnet.ae import AE
    from dicomnet.dimse.provider import Indication

Handler = Callable[[Any], Any]


# --- a place in an AE -----------------------------------------------------------------------------------------------


def offer(ae: AE, sop_classes: Iterable[str], *, roles: Mapping[str, tuple[bool, bool]] | None = None) -> None:
    """Let the AE accept these SOP classes, and these (SCU, SCP) roles of requestors; what it says itself stays."""
    ae.policy = replace(
        ae.policy,
        supported={**negotiation.support(sop_classes), **ae.policy.supported},
        roles={**(roles or {}), **ae.policy.roles},
    )


def route(ae: AE, name: str, sop_classes: Iterable[str], handler: Handler) -> None:
    """Have ``handler`` answer the requests ``name`` ("n_create") for these SOP classes.

    Those for others go to the handler that was there before.
    """
    routes = ae.handler(name)
    if not isinstance(routes, _Routes):
        routes = _Routes(routes)
        getattr(ae, f"on_{name}")(routes)
    routes.handlers.update(dict.fromkeys(sop_classes, handler))


class _Routes:
    """A handler that hands on to others, by SOP class."""

    def __init__(self, others: Handler | None) -> None:
        self.handlers: dict[str, Handler] = {}
        self._others = others

    def __call__(self, request: Indication) -> Any:
        handler = self.handlers.get(request.sop_class_uid, self._others)
        if handler is None:
            raise StatusError(Status.UNRECOGNISED_OPERATION)
        return handler(request)


# --- requests -------------------------------------------------------------------------------------------------------


def answers(request: Indication, candidates: Iterable[Dataset] | Handler, **options: Any) -> Iterator[Any]:
    """What to answer to a C-FIND (PS3.4 C.4.1.3): a match of each candidate that the identifier asks for.

    ``candidates``: data sets, or a function that gives them for an identifier. ``options``: those of ``Query.of``.
    """
    query = Query.of(request, **options)
    for candidate in candidates(query.identifier) if callable(candidates) else candidates:
        if query.matches(candidate):
            answer = query.response(candidate)
            yield Response(Status.PENDING_WARNING, answer) if query.unsupported else answer


def decoded(request: Indication, otherwise: Status) -> Dataset:
    """The data set of a request. Raises StatusError with the status ``otherwise`` if there is none to read."""
    if request.dataset is None:
        raise StatusError(otherwise, "the request has no data set")
    try:
        dataset: Dataset = request.dataset.decode()
    except InvalidDataset as error:
        raise StatusError(otherwise, str(error)) from error
    return dataset


def attributes(request: Indication) -> Dataset:
    """The attributes of an N-CREATE or N-SET, each of them read. Raises StatusError 0120H, 0106H."""
    from pydicom import Dataset

    if request.dataset is None:
        raise StatusError(Status.MISSING_ATTRIBUTE, "the request has no attributes")
    dataset = decoded(request, Status.INVALID_ATTRIBUTE_VALUE)
    try:
        for _ in dataset.iterall():  # reading converts; what is kept is not to fail later
            pass
    except Exception as error:  # pydicom documents no closed set of errors for values that it cannot read
        raise StatusError(Status.INVALID_ATTRIBUTE_VALUE, str(error)) from error
    result = Dataset()  # without file meta information, which belongs to the transfer
    for element in dataset:
        result.add(element)
    return result


def require(dataset: Dataset, with_value: Iterable[str], present: Iterable[str] = (), where: str = "") -> None:
    """Raises StatusError 0120H for a keyword that is missing, 0121H for one of ``with_value`` that is empty.

    These are the attributes of type 1 and of type 2 (PS3.5 7.4; PS3.7 C.5.14, C.5.15).
    """
    with_value = tuple(with_value)
    for keyword in (*with_value, *present):
        if keyword not in dataset:
            raise StatusError(Status.MISSING_ATTRIBUTE, f"{where}{keyword} is missing")
    for keyword in with_value:
        if dataset[keyword].is_empty:
            raise StatusError(Status.MISSING_ATTRIBUTE_VALUE, f"{where}{keyword} is empty")


# --- data sets ------------------------------------------------------------------------------------------------------


def merged(dataset: Dataset, changes: Dataset) -> Dataset:
    """A copy of ``dataset`` with these changes. Their character sets may differ (PS3.4 F.7.2.2.3, CC.2.6.3).

    Both are converted already (``attributes``), so that text is text; with two character sets it goes to UTF-8.
    """
    result = copy.deepcopy(dataset)
    for element in changes:
        if element.keyword != "SpecificCharacterSet":
            result[element.tag] = copy.deepcopy(element)
    ours, theirs = dataset.get("SpecificCharacterSet"), changes.get("SpecificCharacterSet")
    if theirs and theirs != ours:
        result.SpecificCharacterSet = "ISO_IR 192" if ours else theirs
    return result


def selected(dataset: Dataset, tags: Iterable[int]) -> Dataset:
    """The attributes that an N-GET asks for, all if it names none, with their character set (PS3.7 10.1.2)."""
    from pydicom import Dataset

    wanted = set(tags)
    if not wanted:
        return copy.deepcopy(dataset)
    result = Dataset()
    for element in dataset:
        if element.tag in wanted or element.keyword == "SpecificCharacterSet":
            result[element.tag] = copy.deepcopy(element)
    return result
