"""The tables of SOP classes against pydicom's dictionary (PS3.6 Table A-1)."""

import pytest
from pydicom._uid_dict import UID_dictionary

from dicomnet import models
from dicomnet.ae import storage_classes

NAMES = {uid: entry[0] for uid, entry in UID_dictionary.items() if entry[1] in ("SOP Class", "Meta SOP Class")}
UIDS = [(model, uid, column) for model, uids in models.MODELS.items() for column, uid in enumerate(uids) if uid]
WORDS = ("- FIND", "- MOVE", "- GET")
# C-FIND of these has other names (PS3.4 CC, Q, V, JJ).
FIND_BY_ANOTHER_NAME = ("Query", "Unified Procedure Step - Pull", "Unified Procedure Step - Watch")


@pytest.mark.parametrize(("model", "uid", "column"), UIDS)
def test_each_model_has_the_uids_of_the_dictionary(model: str, uid: str, column: int) -> None:
    """PS3.6: the operation is in the name, and the model's name is, more or less."""
    name = NAMES[uid]
    assert name.endswith(WORDS[column]) or (column == 0 and any(word in name for word in FIND_BY_ANOTHER_NAME))
    words = {"ups": "unified procedure step - pull", "ups-watch": "watch", "ups-query": "step - query"}
    for word in words.get(model, model.removesuffix("-information").replace("-", " ")).split(" "):
        assert word in name.lower()


def test_every_class_that_is_queried_or_retrieved_is_in_a_model() -> None:
    """PS3.6: also those to come, once pydicom knows them."""
    wanted = {uid for uid, name in NAMES.items() if name.endswith(WORDS) or "Query SOP Class" in name}
    assert wanted <= {uid for _, uid, _ in UIDS}
    assert models.find_classes() | models.move_classes() | models.get_classes() == {uid for _, uid, _ in UIDS}


@pytest.mark.parametrize(
    ("model", "operation", "uid"),
    [
        ("study", "find", "1.2.840.10008.5.1.4.1.2.2.1"),
        ("patient", "move", "1.2.840.10008.5.1.4.1.2.1.2"),
        ("composite-instance-without-bulk-data", "get", "1.2.840.10008.5.1.4.1.2.5.3"),
        ("1.2.3", "get", "1.2.3"),
    ],
)
def test_a_model_is_named_or_given_by_uid(model: str, operation: str, uid: str) -> None:
    """PS3.4 C.6."""
    assert models.query_class(model, operation) == uid


@pytest.mark.parametrize(("model", "operation"), [("studie", "find"), ("worklist", "get"), ("", "find")])
def test_an_unknown_model_is_an_error_that_names_the_known_ones(model: str, operation: str) -> None:
    """PS3.4 K: a worklist cannot be retrieved."""
    with pytest.raises(
        ValueError, match=f"no information model for C-{operation.upper()}; there are patient, "
    ) as caught:
        models.query_class(model, operation)
    assert ("worklist," in str(caught.value)) == (operation == "find")


def test_storage_classes_are_those_of_the_dictionary() -> None:
    """PS3.4 B.5: two retired ones have lost their names there."""
    found = {uid for uid in NAMES if models.is_storage(uid)}
    assert found == {*storage_classes(), "1.2.840.10008.5.1.4.1.1.12.77", "1.2.840.10008.5.1.4.1.1.40"}


def test_a_private_class_may_be_a_storage_class() -> None:
    """PS3.4 B.5: nobody can tell from its UID."""
    assert models.may_be_storage("1.3.12.2.1107.5.9.1")
    assert models.may_be_storage("1.2.840.10008.5.1.4.1.1.2")
    assert not models.may_be_storage(models.MODELS["study"][2])
    assert not models.is_storage("1.3.12.2.1107.5.9.1")
