"""The options of ``find``, ``get`` and ``move`` that say what is wanted, and the query that they make."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.options import Body, Failure
from dicomnet.models import MODELS, query_class

if TYPE_CHECKING:
    from dicomnet import Association, StatusError
    from dicomnet.cli.output import Output
    from dicomnet.config import Peer
    from dicomnet.retrieval.queries import Key, Query

_LEVELS: Final = ("PATIENT", "STUDY", "SERIES", "IMAGE")
_RELATIONAL, _FUZZY = 0, 2  # bytes of the extended negotiation (PS3.4 Table C.5-1)
_COLUMN: Final = {"find": 0, "move": 1, "get": 2}  # of models.MODELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The values of these options."""

    key: tuple[str, ...]
    key_file: tuple[str, ...]
    model: str
    level: str | None
    charset: str | None
    relational: bool
    force: bool

    def keys(self) -> list[Key]:
        """Those of the files first, so that the command line adds to them. Raises UsageError."""
        from dicomnet.retrieval.queries import parse_key

        found = []
        for place, text in self._texts():
            try:
                found.append(parse_key(text))
            except ValueError as error:
                raise click.UsageError(f"{place}: {error}") from error
        return found

    def _texts(self) -> Iterator[tuple[str, str]]:
        from dicomnet.retrieval.queries import key_lines

        for path in self.key_file:
            try:
                with click.open_file(path, encoding="utf-8") as file:
                    lines = file.read().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise click.UsageError(f"--key-file {path}: {getattr(error, 'strerror', None) or error}") from error
            yield from ((path, text) for text in key_lines(lines))
        yield from (("-k", text) for text in self.key)

    def retrieve_query(self, operation: str) -> Query:
        """``operation``: "C-GET" or "C-MOVE". Raises UsageError."""
        from dicomnet.retrieval.queries import retrieve_query

        return self._made(retrieve_query, operation=operation)

    def find_query(self, columns: list[Any]) -> Query:
        """Raises UsageError."""
        from dicomnet.retrieval.queries import find_query

        return self._made(find_query, columns=columns)

    def _made(self, make: Callable[..., Query], **more: Any) -> Query:
        keys = self.keys()
        try:
            query = make(keys, model=self.model, level=self.level, charset=self.charset, force=self.force, **more)
        except ValueError as error:
            raise click.UsageError(f"{error}") from error
        return dataclasses.replace(query, relational=self.relational)

    def extended(self, operation: str, *, fuzzy: bool = False) -> dict[str, Any] | None:
        """The extended negotiation that is asked for (PS3.4 C.5)."""
        if not (self.relational or fuzzy):
            return None
        from dicomnet import ExtendedQuery, ExtendedRetrieve

        uid = query_class(self.model, operation)
        if operation == "find":
            return {uid: ExtendedQuery(relational=self.relational, fuzzy=fuzzy)}
        return {uid: ExtendedRetrieve(relational=True)}


def tell_declined(
    association: Association, operation: str, asked: Asked, output: Output, *, fuzzy: bool = False
) -> None:
    """What the peer will not do although it was asked to: else its matches look as if it did (PS3.4 C.5)."""
    answer = association.extended.get(query_class(asked.model, operation) or "", b"")
    for option, wanted, at in (("--relational", asked.relational, _RELATIONAL), ("--fuzzy", fuzzy, _FUZZY)):
        if wanted and answer[at : at + 1] != b"\1":
            output.problem(f"{association.peer} does not support {option}: it goes on without")


def asks(operation: str) -> Callable[[Body], Body]:
    """The options; the command gets them as ``asked``."""
    names = [name for name, uids in MODELS.items() if uids[_COLUMN[operation]] is not None]
    options = (
        click.option(
            "--key", "-k", multiple=True, metavar="KEY[=VALUE]",
            help="What is wanted; can be repeated. A keyword, a tag or a path into sequences; without a value it is"
            " only returned: -k PatientName=DOE^* -k StudyDate=20240101- -k 0008,0061 -k 'Sequence[0].Modality=CT'"
            if operation == "find" else
            "What is wanted, by its UID; can be repeated; several UIDs have \\ between them: -k StudyInstanceUID=1.2.3",
        ),
        click.option(
            "--key-file", multiple=True, metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True),
            help="Keys from a file, one a line, # begins a comment; - is the standard input: --key-file keys.txt",
        ),
        click.option(
            "--model", type=_model(operation, names), default="study", show_default=True, metavar="M",
            help=f"The information model, or the UID of its SOP class: --model {names[0]}. Names: {', '.join(names)}.",
        ),
        click.option(
            "--level", type=click.Choice(_LEVELS, case_sensitive=False), metavar="L",
            help="PATIENT, STUDY, SERIES or IMAGE; if not given, the lowest that a key belongs to: --level SERIES",
        ),
        click.option(
            "--charset", metavar="TERM",
            help="The character set to send values in, a term of PS3.3 C.12.1.1.2; if not given, ISO_IR 192 (UTF-8)"
            " for what is not ASCII: --charset 'ISO_IR 100'",
        ),
        click.option(
            "--relational", is_flag=True,
            help="Ask the peer to do without the keys of the levels above, if it can (PS3.4 C.5).",
        ),
        click.option(
            "--force", is_flag=True, help="Send values and keys that the standard does not allow all the same.",
        ),
    )  # fmt: skip

    def decorate(body: Body) -> Body:
        @functools.wraps(body)
        def command(**arguments: Any) -> int:
            asked = Asked(**{name: arguments.pop(name) for name in Asked.__slots__})
            return body(asked=asked, **arguments)

        decorated: Body = command
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _model(operation: str, names: list[str]) -> Callable[[str], str]:
    def model(text: str) -> str:
        try:
            query_class(text, operation)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
        return _name_of(text, operation)

    return model


def _name_of(text: str, operation: str) -> str:
    """A UID that the table has is as good as its name."""
    return next((name for name, uids in MODELS.items() if uids[_COLUMN[operation]] == text), text)


def not_accepted(peer: Peer, model: str, service: str) -> Failure:
    """The peer has no such service."""
    from dicomnet.cli.options import PEER_FAILED

    return Failure(
        f"{peer} does not accept {service} with the model {model}: it does not offer it, or not to us; try another"
        " --model, or a --calling that it knows",
        PEER_FAILED,
    )


def refused(error: StatusError, peer: Peer, service: str, query: Query) -> Failure:
    """The peer's final status in words, and what may be done about it."""
    from dicomnet import Status
    from dicomnet.cli.options import PEER_FAILED

    status = Status(error.status)
    meaning = status.meaning(service)
    text = f"{peer}: {meaning}, status 0x{status:04X}"
    if error.comment and error.comment != meaning:
        text += f": {error.comment}"
    if missing := _missing_above(query):
        other = "" if query.relational else ", or --relational"
        text += f"; at level {query.level} many want {' and '.join(missing)} too{other}"
    return Failure(text, PEER_FAILED)


def _missing_above(query: Query) -> list[str]:
    """The unique keys of the levels above that have no value (PS3.4 C.4.1.2.2.1)."""
    above = {"SERIES": ["StudyInstanceUID"], "IMAGE": ["StudyInstanceUID", "SeriesInstanceUID"]}
    return [name for name in above.get(query.level or "", []) if not query.identifier.get(name)]
