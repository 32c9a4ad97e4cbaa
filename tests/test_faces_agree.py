"""The blocking and the asyncio face have the same names, parameters, defaults and docstrings (the API, §1)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from dicomnet import aio, blocking

CLASSES = ("Association", "Results", "Server")
FUNCTIONS = ("associate", "serve")
ONE_FACE = {"Enterable"}  # what may be awaited as well as entered
# What the faces say of their own way of waiting: this in place of that.
SAID_OTHERWISE = {
    "Several threads may use": "Several tasks may use",
    "Each association has a thread of its own, on which its handlers run; generators, and what an operations"
    " window lets run at once, have more beside it.": (
        "Each association has a task of its own, in which its ``async`` handlers run; plain ones run in threads beside"
        " it, unless they are registered as quick."
    ),
}


def members(face: Any, name: str) -> dict[str, Any]:
    """The public methods and properties of a class, and its protocols: iteration, context manager."""
    value = getattr(face, name)
    found = {key: member for key, member in vars(value).items() if not key.startswith("_")}
    for key in ("iter", "next", "enter", "exit"):
        special = f"__a{key}__" if face is aio else f"__{key}__"
        if special in vars(value):
            found[key] = vars(value)[special]
    return found


def parameters(function: Callable[..., Any]) -> list[tuple[str, object, object]]:
    signature = inspect.signature(function)
    return [(each.name, each.kind, each.default) for each in signature.parameters.values()]


def said(value: Any) -> str | None:
    text = inspect.getdoc(value)
    return None if text is None else re.sub(r"\s+", " ", text)


def translated(text: str | None) -> str | None:
    for one, other in SAID_OTHERWISE.items():
        text = None if text is None else text.replace(one, other)
    return text


PAIRS = [
    pytest.param(members(blocking, name)[key], members(aio, name)[key], id=f"{name}.{key}")
    for name in CLASSES
    for key in members(blocking, name)
    if key in members(aio, name)
]
PAIRS += [pytest.param(getattr(blocking, name), getattr(aio, name), id=name) for name in FUNCTIONS]


def test_the_faces_have_the_same_names() -> None:
    """Whoever knows one knows the other."""
    assert set(blocking.__all__) == set(aio.__all__) - ONE_FACE == {*CLASSES, *FUNCTIONS}
    for name in CLASSES:
        assert members(blocking, name).keys() == members(aio, name).keys()


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_the_faces_have_the_same_parameters(one: Any, other: Any) -> None:
    """Names, kinds, defaults; a property is one on both."""
    assert isinstance(one, property) == isinstance(other, property)
    if not isinstance(one, property):
        assert parameters(one) == parameters(other)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_the_faces_say_the_same(one: Any, other: Any) -> None:
    """Their docstrings, but for who waits."""
    assert translated(said(one)) == said(other)


@pytest.mark.parametrize("name", CLASSES)
def test_the_classes_of_the_faces_say_the_same(name: str) -> None:
    """Their docstrings, but for who waits."""
    assert translated(said(getattr(blocking, name))) == said(getattr(aio, name))


def test_what_waits_is_awaited() -> None:
    """A method of the asyncio face that talks to the peer is a coroutine function, or gives what is iterated over."""
    for name in CLASSES:
        for key, member in members(aio, name).items():
            if not isinstance(member, property) and key != "iter":
                result = inspect.signature(member).return_annotation
                assert inspect.iscoroutinefunction(member) or result.startswith("Results["), f"{name}.{key}"
