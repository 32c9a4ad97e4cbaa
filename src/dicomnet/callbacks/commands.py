"""Command sets as pydicom Datasets, for the callbacks that show or change them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicomnet.dimse import command
from dicomnet.dimse.command import CommandSet
from dicomnet.errors import LocalProtocolError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import DataElement


def as_dataset(elements: CommandSet) -> Dataset:
    """A command set as a Dataset of group 0000, such that ``cs.MessageID`` and ``cs[0x0000, 0x0902]`` work."""
    from pydicom import Dataset, config
    from pydicom.dataelem import DataElement

    dataset = Dataset()
    for element, value in sorted(elements.items()):
        vr = "UN" if isinstance(value, bytes) else command.VRS.get(element, "UN")
        shown = list(value) if isinstance(value, tuple) else value
        # What a peer sent is shown as it came: pydicom's opinion of it would be a warning at each message.
        dataset[element] = DataElement(element, vr, shown, validation_mode=config.IGNORE)
    return dataset


def as_command_set(dataset: Dataset) -> CommandSet:
    """The reverse. Raises LocalProtocolError for an element that is not of group 0000."""
    elements: CommandSet = {}
    for item in dataset:
        if item.tag.group != 0:
            raise LocalProtocolError(f"element {item.tag} has no place in a command set")
        if item.value is not None and (item.VR == "AT" or not item.is_empty):
            elements[item.tag.element] = _value(item)
    return elements


def _value(item: DataElement) -> int | str | tuple[int, ...] | bytes:
    value = item.value
    if item.VR == "AT":
        tags = [value] if isinstance(value, int) else value
        return tuple(int(tag) for tag in tags)
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str(value)
    return "\\".join(map(str, value))  # a text with backslashes, which pydicom takes for several
