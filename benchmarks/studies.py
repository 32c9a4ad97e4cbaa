"""Studies that a C-FIND matches: what SCPs answer with, and what must arrive. pydicom is loaded by SCPs alone."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ANSWERS = "answers.xml"  # where findscu keeps them
MODEL = "1.2.840.10008.5.1.4.1.2.2.1"  # Study Root Query/Retrieve Information Model – FIND (PS3.4 C.6.2)
TAGS = {  # of the attributes of a study here
    "QueryRetrieveLevel": "0008,0052",
    "StudyDate": "0008,0020",
    "StudyTime": "0008,0030",
    "AccessionNumber": "0008,0050",
    "ModalitiesInStudy": "0008,0061",
    "StudyDescription": "0008,1030",
    "PatientName": "0010,0010",
    "PatientID": "0010,0020",
    "PatientBirthDate": "0010,0030",
    "PatientSex": "0010,0040",
    "StudyInstanceUID": "0020,000d",
    "StudyID": "0020,0010",
}

_ANSWER = re.compile(rb"<data-set[ >].*?</data-set>", re.DOTALL)
_ELEMENT = re.compile(rb'<element tag="(....,....)"[^>]*>([^<]*)</element>')


class Archive:
    """Studies as pydicom Datasets: all, or the one that a query names."""

    def __init__(self, path: Path) -> None:
        self._all = [_dataset(study) for study in read(path)]
        self._by_uid = {study.StudyInstanceUID: study for study in self._all}

    def matches(self, identifier: Any) -> Iterable[Any]:
        """What a query asks for."""
        uid = identifier.get("StudyInstanceUID")
        return [self._by_uid[uid]] if uid else self._all


def read(path: Path) -> Iterable[dict[str, str]]:
    """The studies of a corpus, keyword to value."""
    with path.open(encoding="ascii") as file:
        for line in file:
            study: dict[str, str] = json.loads(line)
            yield study


@functools.cache
def digest_of_studies(path: Path) -> str:
    """What the digest of the answers must be when each study was answered once."""
    return _digest({TAGS[keyword]: value for keyword, value in study.items()} for study in read(path))


def digest_of_answers(path: Path) -> str:
    """The digest of the answers that ``findscu`` has kept."""
    return _digest(
        {tag.decode(): value.decode() for tag, value in _ELEMENT.findall(answer) if tag.decode() in _KNOWN}
        for answer in _ANSWER.findall(path.read_bytes())
    )


def digest_of_datasets(data_sets: Iterable[Any]) -> str:
    """The same of pydicom Datasets."""
    return _digest({TAGS[keyword]: str(data_set.get(keyword)) for keyword in TAGS} for data_set in data_sets)


_KNOWN = frozenset(TAGS.values())


def _digest(studies: Iterable[Mapping[str, str]]) -> str:
    chain = hashlib.blake2b(digest_size=16)
    for study in studies:
        chain.update(json.dumps(study, sort_keys=True).encode())
    return chain.hexdigest()


def _dataset(study: Mapping[str, str]) -> Any:
    from pydicom.dataset import Dataset

    dataset = Dataset()
    for keyword, value in study.items():
        setattr(dataset, keyword, value)
    return dataset
