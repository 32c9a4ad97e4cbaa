"""What CONTRIBUTING.md says of the code as a whole: who may import what, how long things get, what is documented."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import dicomnet
from dicomnet import config

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "dicomnet"
PATHS = sorted(SOURCE.rglob("*.py"))

# Who may import whom: what stands further up, or in the same row.
LAYERS = (
    ("errors", "config", "models", "plain"),
    ("ul",),
    ("dimse",),
    ("part10", "spool", "scan", "flat", "views", "dataset", "ae", "identity", "credentials", "certificates", "tls"),
    ("transport", "admission", "workers", "codec", "opening"),
    ("blocking", "aio", "callbacks"),  # the faces
    ("sender", "files", "peers", "services", "transcoding", "inbox", "retrieval", "probe", "trace"),
    ("cli", "__main__"),
)
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FACES = ("blocking", "aio", "callbacks")
NOT_IN_THE_CORE = {
    *("socket", "asyncio", "threading", "select", "selectors", "ssl", "time"),
    *("logging", "os", "random", "pydicom", "queue"),
}
# pydicom's dictionary of UIDs and its Dataset; its reader and writer are for dataset.py alone.
MAY_IMPORT_PYDICOM = {
    *("dataset", "flat", "ae", "codec", "sender.contexts", "inbox.layout", "callbacks.associate", "callbacks.commands"),
    "trace.wording",
    *("transcoding", "transcoding.pixels", "transcoding.lossy", "transcoding.rewriting"),
    *("probe.catalogue", "probe.pace"),
    *("sender.verifying", "sender.committing"),
}
MADE_OF_DATASETS = ("cli", "services", "retrieval")  # layers that nobody imports who does not want data sets
# What the extras install, and who uses it.
OPTIONAL = {
    "sender": {"watchfiles"},
    "cli": {"click", "rich"},
    "identity": {"cryptography"},
    "certificates": {"cryptography"},
}
READER_AND_WRITER = {"pydicom.dcmread", "pydicom.filereader", "pydicom.filewriter", "pydicom.filebase"}

LONGEST_MODULE = 700  # lines
LONGEST_FUNCTION = 60


def name_of(path: Path) -> str:
    """A module's name below ``dicomnet``; empty for the package itself."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in PATHS}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def is_for_types_alone(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(node: ast.AST, *, top_level: bool = False) -> Iterator[tuple[str, int]]:
    """What is imported when the code runs, as ``package.module.name``, and the line.

    ``top_level``: only what is imported when the module is.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"a relative import in line {child.lineno}"
            yield from ((f"{child.module}.{alias.name}", child.lineno) for alias in child.names)
        elif not is_for_types_alone(child) and not (top_level and isinstance(child, FUNCTIONS)):
            yield from imports(child, top_level=top_level)


def module_imported(name: str) -> str | None:
    """The module of dicomnet that an import of ``name`` leads to, or None if it leads elsewhere."""
    package, _, rest = name.partition(".")
    if package != "dicomnet":
        return None
    public = dicomnet._MODULE_OF.get(rest, "ae" if rest == "StorageClasses" else "")  # the package loads these lazily
    while rest and rest not in TREES:
        rest = rest.rpartition(".")[0]
    return rest or public


def own_imports(name: str) -> Iterator[tuple[str, int]]:
    for imported, line in imports(TREES[name]):
        module = module_imported(imported)
        if module:
            yield module, line


def layer(name: str) -> str:
    return name.partition(".")[0]


# --- imports --------------------------------------------------------------------------------------------------------


def test_every_module_belongs_to_a_layer() -> None:
    """A new module needs a place in LAYERS, here and in CONTRIBUTING.md."""
    assert {layer(name) for name in TREES if name} <= RANKS.keys()


@pytest.mark.parametrize("name", [name for name in TREES if name])
def test_imports_go_in_one_direction(name: str) -> None:
    """errors, config ← ul ← dimse ← dataset and its like ← faces ← sender, files ← cli."""
    wrong = [
        f"line {line}: {module}" for module, line in own_imports(name) if RANKS[layer(module)] > RANKS[layer(name)]
    ]
    assert not wrong, f"{name} imports what stands above it"


def test_modules_do_not_import_each_other_in_circles() -> None:
    """Not even within a layer, nor inside functions."""
    graph = {name: {module for module, _ in own_imports(name)} - {name} for name in TREES if name}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("face", FACES)
def test_a_face_does_not_import_another(face: str) -> None:
    """What two of them share belongs further down."""
    others = {other for other in FACES if other != face}
    wrong = [
        (name, module)
        for name in TREES
        if layer(name) == face
        for module, _ in own_imports(name)
        if layer(module) in others
    ]
    assert not wrong


@pytest.mark.parametrize("name", [name for name in TREES if layer(name) in ("ul", "dimse", "errors", "config")])
def test_the_core_does_no_input_or_output(name: str) -> None:
    """No socket, clock, thread, log or pydicom: time is an argument, bytes are values."""
    found = {imported.partition(".")[0] for imported, _ in imports(TREES[name])}
    assert not found & NOT_IN_THE_CORE


def test_pydicom_is_imported_by_few_and_only_when_it_is_needed() -> None:
    """Its import takes longer than everything else that ``import dicomnet`` does."""
    users = {name for name, tree in TREES.items() if any(is_pydicom(imported) for imported, _ in imports(tree))}
    early = {
        name
        for name, tree in TREES.items()
        if any(is_pydicom(imported) for imported, _ in imports(tree, top_level=True))
    }
    assert {name for name in users if layer(name) not in MADE_OF_DATASETS} <= MAY_IMPORT_PYDICOM
    assert not {name for name in early if layer(name) not in MADE_OF_DATASETS}


def test_only_the_dataset_module_reads_and_writes_with_pydicom() -> None:
    """Bytes in = bytes out: there is one door where they become elements."""
    for name, tree in TREES.items():
        used = {imported for imported, _ in imports(tree)}
        assert name == "dataset" or not {module for module in READER_AND_WRITER if any_below(used, module)}, name


def is_pydicom(imported: str) -> bool:
    return imported.partition(".")[0] == "pydicom"


def any_below(names: set[str], module: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for name in names)


@pytest.mark.parametrize(
    "code",
    [
        "import dicomnet",
        "import dicomnet; dicomnet.Status, dicomnet.Timeouts, dicomnet.Limits, dicomnet.DicomNetworkError",
        "import dicomnet; dicomnet.Peer.parse('A@localhost'), dicomnet.PresentationContext('1.2')",
    ],
)
def test_a_light_import_loads_no_heavy_modules(code: str) -> None:
    """pydicom takes 0.1 s or more, asyncio and ssl tens of milliseconds; each is paid for when it is used."""
    program = f"import sys; {code}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert not {"pydicom", "ssl", "asyncio", "click", "socket"} & set(done.stdout.split())


def test_the_blocking_face_loads_neither_pydicom_nor_asyncio() -> None:
    """They wait until a data set is decoded, or an async handler is called."""
    program = "import sys, dicomnet; dicomnet.associate, dicomnet.serve, dicomnet.send; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert not {"pydicom", "asyncio"} & set(done.stdout.split())


# --- size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_no_module_and_no_function_is_too_long(path: Path) -> None:
    """Modules are usually under 400 lines, half of the functions under 8; these are the ends of it."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_MODULE
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, FUNCTIONS))
    lengths = [(node.name, node.end_lineno - node.lineno + 1 - docstring_lines(node)) for node in functions]
    assert not [(name, lines) for name, lines in lengths if lines > LONGEST_FUNCTION]


def docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """What explains many parameters is long, and not what makes a function hard to follow."""
    return len(ast.get_docstring(function, clean=False).splitlines()) if ast.get_docstring(function) else 0


# --- what is public -------------------------------------------------------------------------------------------------


def test_every_public_name_exists() -> None:
    """``dir`` shows them, too, although each is imported when it is first used."""
    assert all(hasattr(dicomnet, name) for name in dicomnet.__all__)
    assert set(dicomnet.__all__) <= set(dir(dicomnet))
    assert len(set(dicomnet.__all__)) == len(dicomnet.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dicomnet.nothing


def test_type_checkers_see_the_same_names() -> None:
    """The names under TYPE_CHECKING are those that ``__getattr__`` finds."""
    [block] = [node for node in TREES[""].body if is_for_types_alone(node)]
    seen = {
        alias.asname or alias.name
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen | {"StorageClasses", "Verification"} == {*dicomnet.__all__, *dicomnet._SUBMODULES}


PUBLIC = [
    value for value in (getattr(dicomnet, name) for name in dicomnet.__all__) if callable(value)
]  # classes and functions


@pytest.mark.parametrize("value", PUBLIC, ids=lambda value: value.__name__)
def test_everything_public_has_a_docstring(value: object) -> None:
    """Its own, not an inherited one; a dataclass's generated signature is none."""
    text = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__
    assert text
    assert not text.startswith(f"{value.__name__}(")


@pytest.mark.parametrize(
    "function", [dicomnet.associate, dicomnet.serve, dicomnet.send, dicomnet.transcode], ids=lambda f: f.__name__
)
def test_the_functions_say_what_they_raise(function: object) -> None:
    """Anything else out of them is a bug."""
    assert "Raises" in str(function.__doc__)


def raising_methods() -> Iterator[tuple[str, str, set[str]]]:
    """The public methods of public classes: name, its and its class's docstrings, the errors that its lines raise."""
    for cls in (value for value in PUBLIC if isinstance(value, type)):
        tree = TREES[cls.__module__.removeprefix("dicomnet.")]
        [body] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
        for method in (node for node in body.body if isinstance(node, FUNCTIONS) and not node.name.startswith("_")):
            text = f"{ast.get_docstring(body)} {ast.get_docstring(method)}"
            yield f"{cls.__name__}.{method.name}", text, set(errors_raised(method))


def errors_raised(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        match child:
            case ast.Raise(exc=ast.Call(func=ast.Name(id=name))):
                yield name


@pytest.mark.parametrize(("text", "raised"), [pytest.param(*row[1:], id=row[0]) for row in raising_methods() if row[2]])
def test_a_method_names_the_errors_that_it_raises(text: str, raised: set[str]) -> None:
    """In its own docstring, or once for all in the class's."""
    assert not {error for error in raised if error not in text}


# --- versions -------------------------------------------------------------------------------------------------------


def test_the_implementation_version_name_follows_the_version() -> None:
    """PS3.7 D.3.3.2: it tells releases apart, in at most 16 characters; the class UID stays what it is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    major, minor = re.match(r"(\d+)\.(\d+)", project["version"]).groups()
    assert f"DICOMNET_{major}_{minor}" == config.IMPLEMENTATION_VERSION_NAME
    assert len(config.IMPLEMENTATION_VERSION_NAME) <= 16
    assert re.fullmatch(r"2\.25\.\d{1,39}", config.IMPLEMENTATION_CLASS_UID)  # PS3.5 B.2


def test_the_dependencies_are_pydicom_and_no_more() -> None:
    """Who only wants to send a file should not have to install a framework."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [re.match(r"[\w-]+", dependency)[0] for dependency in project["dependencies"]] == ["pydicom"]
    allowed = {*sys.stdlib_module_names, "dicomnet", "pydicom"}
    for name, tree in TREES.items():
        extras = OPTIONAL.get(layer(name), set())
        assert {imported.partition(".")[0] for imported, _ in imports(tree)} <= allowed | extras, name
