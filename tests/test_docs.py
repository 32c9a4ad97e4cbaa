"""The manual and the README: their examples work, and what they list is what there is."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import threading
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path

import click
import pytest
from docs import commands as commands_pages

import dicomnet
from dicomnet import config, errors
from dicomnet.cli import options
from dicomnet.cli.program import COMMANDS
from dicomnet.peers import book

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CLI = ROOT / "src" / "dicomnet" / "cli"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]
LANGUAGES = {"python", "console", "text", "json", "{toctree}", "{eval-rst}"}
# Programs of others that the manual calls.
OTHER_PROGRAMS = {"storescu", "storescp", "echoscu", "dcmsend", "jq", "less"}


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind the fence, its lines, the number of the first, and why it is not run."""

    language: str
    text: str
    line: int
    not_run: str | None


def blocks_of(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    start = None
    for index, line in enumerate(lines):
        if start is None and line.startswith("```"):
            start = index
        elif start is not None and line == "```":
            reason = re.fullmatch(r"% not run: (.+)", lines[start - 1]) if start else None
            text = "\n".join(lines[start + 1 : index])
            yield Block(lines[start].removeprefix("```"), text, start + 2, reason[1] if reason else None)
            start = None
    assert start is None, f"{page}: a block that does not end"


def id_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


# --- examples -------------------------------------------------------------------------------------------------------

WITH_PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks_of(page))]


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_blocks_say_what_they_are(page: Path) -> None:
    """Only Python blocks may be excused from being run."""
    for block in blocks_of(page):
        assert block.language.split()[0] in LANGUAGES, f"line {block.line}"
        assert block.not_run is None or block.language == "python", f"line {block.line}"


@pytest.mark.parametrize("page", WITH_PYTHON, ids=id_of)
def test_the_examples_of_a_page_work(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one namespace, and they close what they open."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    namespace, before = {"__name__": page.stem}, library_threads()
    for block in blocks_of(page):
        if block.language == "python":
            padding = "\n" * (block.line - 1)  # so that a traceback shows the line of the page
            code = compile(padding + block.text, str(page), "exec")
            if block.not_run is None:
                exec(code, namespace)
    assert not left_behind(before)


def library_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("dicomnet")}


def left_behind(before: set[threading.Thread]) -> set[threading.Thread]:
    """Threads of the library that do not end: of servers, associations or callback objects that are still open."""
    until = time.monotonic() + 10
    for thread in library_threads() - before:
        thread.join(max(0.0, until - time.monotonic()))
    return library_threads() - before


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in blocks_of(page):
            if block.language == "console":
                for number, line in enumerate(block.text.splitlines(), start=block.line):
                    if line.startswith("$ "):
                        yield f"{id_of(page)}:{number}", line.removeprefix("$ ")


@pytest.mark.parametrize("line", [pytest.param(line, id=place) for place, line in commands()])
def test_the_commands_of_the_examples_exist(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with the options that it is given. The manual's peers have names."""
    monkeypatch.chdir(tmp_path)
    names = "".join(f'[peers.{name}]\naddress = "A@192.0.2.7"\n' for name in ("pacs", "archive", "ct1"))
    (tmp_path / "named.toml").write_text(names)
    monkeypatch.setenv("DICOMNET_CONFIG", str(tmp_path / "named.toml"))
    words = shlex.split(line, comments=True)
    while words:
        rest = next((at for at, word in enumerate(words) if word in ("|", ">")), len(words))
        check_command(words[:rest])
        words = words[rest + 1 :] if words[rest : rest + 1] != [">"] else []


def check_command(words: list[str]) -> None:
    match words:
        case ["dicomnet", name, *arguments]:
            check_arguments(commands_pages.command_of(name), arguments)
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets if "=" not in target)
        case ["pip", "install", what]:
            extra = re.fullmatch(r"dicomnet(?:\[(\w+)\])?", what)
            assert extra
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            assert extra[1] is None or extra[1] in project["optional-dependencies"]
        case ["eval", script]:
            check_command(shlex.split(script.removeprefix("$(").removesuffix(")")))
        case [program, *_]:
            assert program in OTHER_PROGRAMS


def check_arguments(command: click.Command, arguments: list[str]) -> None:
    """As click does when the command is called; the files that are named are there."""
    context = commands_pages.context_of(command)
    values, _, _ = command.make_parser(context).parse_args(list(arguments))
    for parameter in command.get_params(context):
        if isinstance(parameter.type, click.Path) and parameter.type.exists:
            given = values.get(parameter.name)  # click has a value of its own for what is not given
            for name in [given] if isinstance(given, str) else given if isinstance(given, list | tuple) else ():
                assert not Path(name).is_absolute()
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                if parameter.type.file_okay:
                    Path(name).touch()
                else:
                    Path(name).mkdir(exist_ok=True)
    command.make_context(command.name, list(arguments), parent=context.parent)


# --- the command line -----------------------------------------------------------------------------------------------


def test_the_exit_codes_are_in_the_manual() -> None:
    """All that the program knows."""
    page = read("reference/command-line.md")
    codes = (options.PEER_FAILED, options.USAGE, options.NO_ASSOCIATION, options.HALF_WAY, options.INTERRUPTED)
    assert all(f"\n| {code} | " in page for code in (0, *codes))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_a_command_is_what_the_command_says(name: str) -> None:
    """If not: ``make docs`` writes it."""
    assert read(f"reference/commands/{name}.md") == commands_pages.page(name)


def test_every_key_of_the_settings_is_in_the_manual() -> None:
    """And its example is a file that can be read."""
    page = DOCS / "reference" / "dicomnet-toml.md"
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", page.read_text(encoding="utf-8"), re.M)
    assert {key for row in rows for key in re.findall(r"`([a-z-]+)`", row)} == {"address", *book.KEYS}
    example = next(block.text for block in blocks_of(page))
    assert set(book.parse(example, page).peers) == {"pacs", "archive"}


def events_told() -> Iterator[tuple[str, str, set[str]]]:
    """Command or module, kind and members of each JSON object, as the code of the commands has them."""
    for path in sorted(CLI.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and len(node.args) <= 2
                and node.args
            ):
                what = ast.unparse(node.func)
                if what.endswith((".event", ".detail")) and not what.startswith("self.event"):
                    kinds = [value.value for value in ast.walk(node.args[0]) if isinstance(value, ast.Constant)]
                    members = {keyword.arg for keyword in node.keywords if keyword.arg}
                    yield from ((path.stem, kind, members) for kind in kinds)


@pytest.mark.parametrize(
    ("kind", "members"),
    [pytest.param(kind, members, id=f"{module}-{kind}") for module, kind, members in events_told() if kind != "ladder"],
)
def test_every_json_object_is_in_the_manual(kind: str, members: set[str]) -> None:
    """What scripts may rely on; a command's page shows its ``events``."""
    assert any(members <= commands_pages.command_of(name).events.get(kind, {}).keys() for name in COMMANDS)


# --- the reference --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", dicomnet.__all__)
def test_everything_public_is_in_the_reference(name: str) -> None:
    """By a directive that takes its docstring."""
    assert re.search(rf"^\.\. auto\w+:: dicomnet\.{name}(\(\))?$", read("reference/api.md"), re.M)


CLASSES_OF_ERRORS = [
    value for value in vars(errors).values() if isinstance(value, type) and value.__module__ == errors.__name__
]


@pytest.mark.parametrize("cls", CLASSES_OF_ERRORS, ids=lambda cls: cls.__name__)
def test_every_error_is_explained(cls: type) -> None:
    """Exceptions in the tree and in a row of their own, with what they carry."""
    page = read("reference/errors.md")
    name = cls.__name__
    if issubclass(cls, errors.DicomNetworkError):
        assert re.search(rf"^[│ ├└─]*{name}\b", page, re.M)
        [row] = re.findall(rf"^\| `{name}` \|.*$", page, re.M)
        carried = set(inspect.signature(cls).parameters) if "__init__" in vars(cls) else set()
        assert carried <= set(re.findall(r"`(\w+)`", row))
    else:
        assert f"`{name}" in page


@pytest.mark.parametrize("member", dicomnet.NetError, ids=lambda member: member.name)
def test_every_net_error_is_explained(member: IntEnum) -> None:
    """With its number."""
    assert f"| `{member.name}` | {member.value} |" in read("reference/errors.md")


UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "s": 1, "": 1}


@pytest.mark.parametrize("cls", [config.Timeouts, config.Limits], ids=lambda cls: cls.__name__)
def test_every_limit_is_in_the_manual_with_its_default(cls: type) -> None:
    """And no row is for a field that does not exist."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) ?(KiB|MiB|GiB|s|) \|", read("reference/limits.md"), re.M)
    told = {name: int(number) * UNITS[unit] for name, number, unit in rows}
    assert {field.name: field.default for field in fields(cls)}.items() <= told.items()
    assert told.keys() == {field.name for one in (config.Timeouts, config.Limits) for field in fields(one)}


def test_the_conformance_statement_tells_what_the_code_has() -> None:
    """The numbers that a peer can see (PS3.2)."""
    page = read("reference/conformance.md")
    assert config.IMPLEMENTATION_CLASS_UID in page
    assert config.IMPLEMENTATION_VERSION_NAME in page
    assert f"{config.MAX_PDU_LENGTH:,} bytes" in page
    for status in statuses_sent():
        assert f"| {status:04X}H " in page


def statuses_sent() -> set[int]:
    """Every ``Status.X`` that the acceptor's part of the conversations names."""
    tree = ast.parse((ROOT / "src/dicomnet/dimse/operations.py").read_text(encoding="utf-8"))
    names = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Status" and node.attr.isupper()
    }
    return {int(dicomnet.Status[name]) for name in names} - {0xFF00, 0xFF01}


def test_every_page_is_in_the_table_of_contents() -> None:
    """Sphinx only warns of that."""
    listed = set(re.findall(r"^([a-z-]+/[a-z/-]+)$", read("index.md"), re.M))
    assert listed == {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES[1:]} - {"index"}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=id_of)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    """Relative ones, with their headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http:", "https:", "mailto:")):
            path, _, anchor = target.partition("#")
            file = page.parent / path if path else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- pictures -------------------------------------------------------------------------------------------------------

PICTURES = sorted((DOCS / "images").glob("dicomnet-*.svg"))


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_is_small_well_formed_and_shows_its_command(path: Path) -> None:
    """``python -m docs.screenshots`` draws them from real runs."""
    data = path.read_bytes()
    assert len(data) <= 60_000
    texts = [element.text or "" for element in ElementTree.fromstring(data).iter() if element.tag.endswith("}text")]
    name = path.stem.removeprefix("dicomnet-")
    assert any(text.startswith(f"$ dicomnet {name} ") for text in texts)
    assert name in COMMANDS
