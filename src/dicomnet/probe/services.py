"""What a peer's SOP classes come to in a few lines: how many, in which transfer syntaxes, which are the exception."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from dicomnet.probe import catalogue
from dicomnet.probe.blocks import Fact, Tone
from dicomnet.probe.report import Classes, SopClass

_FEW: Final = 6  # names that are listed; of more, the number is told
_GROUPS: Final = 4  # kinds of answers that are told apart

# The other services by what their names hold, in the order of the page; the last takes the rest.
_SERVICES: Final = (
    ("verification", ("Verification SOP",)),
    ("query and retrieve", ("Query/Retrieve Information Model", "Composite Instance")),
    ("worklist", ("Modality Worklist", "Unified Procedure Step")),
    ("procedure steps", ("Performed Procedure Step",)),
    ("storage commitment", ("Storage Commitment", "Instance Availability")),
    ("print", ("Print", "Film", "Image Box", "Annotation Box", "Presentation LUT", "VOI LUT Box")),
    ("other", ("",)),
)


def name_of(uid: str) -> str:
    """The name of a SOP class without the words that all have."""
    return _short(catalogue.name_of(uid))


def syntax_name(uid: str) -> str:
    """A transfer syntax in a few words."""
    return catalogue.short_name(uid)


def _short(name: str) -> str:
    for words in (" SOP Class", " Information Model"):
        name = name.replace(words, "")
    return name


def syntaxes_text(syntaxes: Sequence[str], asked: Sequence[str] = ()) -> str:
    """Transfer syntaxes by their kinds; a kind that was accepted as a whole by its name. ``asked``: all there were."""
    whole = catalogue.families(tuple(asked))
    parts: list[str] = []
    for kind, members in catalogue.families(tuple(syntaxes)).items():
        if len(members) > 1 and members == whole.get(kind):
            parts.append(f"all {len(members)} {kind}")
        elif len(members) > _FEW:
            parts.append(f"{kind} ({len(members)} of {len(whole.get(kind, members))})")
        else:
            parts += [catalogue.short_name(member) for member in members]
    return ", ".join(parts)


def facts(classes: Classes) -> Iterator[Fact]:
    """Lines about storage and about all other services."""
    stored = classes.of(storage=True)
    accepted = [one for one in stored if one.accepted]
    tone = Tone.GOOD if accepted else Tone.DOUBTFUL
    yield Fact("storage", f"{len(accepted)} of {len(stored)} SOP classes accepted{_names(stored, accepted)}", tone)
    for line in _syntaxes(accepted, classes.asked):
        yield Fact("", line)
    for service, members in _others(classes).items():
        taken = [one for one in members if one.accepted]
        if taken:
            yield Fact(service, _listed([_short(one.name) for one in taken], len(members)), Tone.GOOD)
    missing = [service for service, members in _others(classes).items() if not any(one.accepted for one in members)]
    if missing:
        yield Fact("not offered", ", ".join(missing))
    pace = f"{classes.associations} associations, {classes.contexts} presentation contexts, {classes.seconds:.1f} s"
    yield Fact("asked", f"{len(classes.classes)} SOP classes in {pace}")


def _names(stored: Sequence[SopClass], accepted: Sequence[SopClass]) -> str:
    """The exceptions, if they are few."""
    refused = [one for one in stored if not one.accepted]
    if accepted and len(accepted) <= _FEW:
        return ": " + ", ".join(_short(one.name) for one in accepted)
    if refused and len(refused) <= _FEW:
        return "; not " + ", ".join(_short(one.name) for one in refused)
    return ""


def _syntaxes(accepted: Sequence[SopClass], asked: Sequence[str]) -> Iterator[str]:
    """In which transfer syntaxes, the most frequent answer first."""
    answers = Counter(one.transfer_syntaxes for one in accepted)
    for syntaxes, count in answers.most_common(_GROUPS):
        who = "all of them" if len(answers) == 1 else f"{count} of them"
        yield f"{who} in: {syntaxes_text(syntaxes, asked)}"
    if (rest := len(answers) - _GROUPS) > 0:
        yield f"and {rest} other sets of transfer syntaxes (all: -v)"


def _others(classes: Classes) -> dict[str, list[SopClass]]:
    found: dict[str, list[SopClass]] = {name: [] for name, _ in _SERVICES}
    for one in classes.of(storage=False):
        service = next(name for name, words in _SERVICES if any(word in one.name for word in words))
        found[service].append(one)
    return found


def _listed(names: Sequence[str], of: int) -> str:
    if len(names) == of and of > _FEW:
        return f"all {of}"
    if len(names) > _FEW:
        return f"{len(names)} of {of}: {', '.join(names[:_FEW])}, …"
    return ", ".join(names)


def roles_text(classes: Classes) -> str:
    """Of how many storage SOP classes the requestor may be the SCP."""
    stored = [one for one in classes.of(storage=True) if one.accepted]
    granted = sum(bool(one.requestor_is_scp) for one in stored)
    if not granted:
        return "none: the requestor may not receive on its own association (no C-GET)"
    return f"the requestor may be SCP of {granted} of the {len(stored)} storage SOP classes"
