"""Command sets as pydicom Datasets, for the callbacks that show or change them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicomnet.dimse import command
from dicomnet.dimse.command import CommandSet
from dicomnet.errors import LocalProtocolError

if TYPE_CHECKING:
    from pydicom import Dataset


def as_dataset(elements: CommandSet) -> Dataset:
    """A command set as a Dataset of group 0000, such that ``cs.MessageID`` and ``cs[0x0000, 0x0902]`` work."""
    from pydicom import Dataset

    dataset = Dataset()
    for element, value in sorted(elements.items()):
        vr = "UN" if isinstance(value, bytes) else command.VRS.get(element, "UN")
        dataset.add_new(element, vr, list(value) if isinstance(value, tuple) else value)
    return dataset


def as_command_set(dataset: Dataset) -> CommandSet:
    """The reverse. Raises LocalProtocolError for an element that is not of group 0000."""
    elements: CommandSet = {}
    for item in dataset:
        if item.tag.group != 0:
            raise LocalProtocolError(f"element {item.tag} has no place in a command set")
        value = item.value
        if item.VR == "AT":
            tags = [] if value is None else list(value) if item.VM > 1 else [value]
            elements[item.tag.element] = tuple(int(tag) for tag in tags)
        elif isinstance(value, bytes | int):
            elements[item.tag.element] = value
        elif value is not None:
            elements[item.tag.element] = str(value)
    return elements
