"""Who can be an end of a measurement: dicomnet, DCMTK, pynetdicom, bare sockets. What is not installed says so.

DCMTK sets ``TCP_NODELAY`` only when the environment variable of that name is 1: "tuned" is with it, "as shipped"
without.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.processes import Program
from benchmarks.program import PYNETDICOM_PATIENCE

AE_TITLE = "BENCH"
_SLOWEST = 40e6  # bytes/s at which pynetdicom's storescp keeps a large object, at worst


def dicomnet(*arguments: str) -> Program:
    """dicomnet's command line."""
    return _module("dicomnet", "dicomnet", *arguments)


def dicomnet_receive() -> Program:
    """``dicomnet receive``."""
    program = dicomnet("receive", "{folder}", "--host", "127.0.0.1", "--port", "0", "--ae", AE_TITLE)
    return replace(program, ends_at_eof=False)


def dicomnet_send(*paths: Path) -> Program:
    """``dicomnet send``."""
    return dicomnet("send", f"{AE_TITLE}@127.0.0.1:{{port}}", *map(str, paths))


def dicomnet_end(verb: str, *arguments: str) -> Program:
    """A program on dicomnet's blocking face."""
    return _module("dicomnet", "benchmarks.dicomnet_ends", verb, *arguments)


def pynetdicom_end(verb: str, *arguments: str) -> Program:
    """A program on pynetdicom."""
    return _module("pynetdicom", "benchmarks.pynetdicom_ends", verb, *arguments)


def pynetdicom_storescp() -> Program:
    """pynetdicom's own ``storescp``."""
    program = pynetdicom("storescp", "{port}", "-ba", "127.0.0.1", "-od", "{folder}")
    return replace(program, announces=False, ends_at_eof=False)


def pynetdicom_storescu(*paths: Path) -> Program:
    """pynetdicom's own ``storescu``. It takes one path: for several files, the folder that holds just them."""
    path = paths[0] if len(paths) == 1 else paths[0].parent
    patience = PYNETDICOM_PATIENCE + max(path.stat().st_size for path in paths) / _SLOWEST
    return pynetdicom("storescu", "127.0.0.1", "{port}", str(path), "-r", "-td", f"{patience:.0f}")


def pynetdicom(application: str, *arguments: str) -> Program:
    """One of pynetdicom's applications."""
    return _module("pynetdicom", "pynetdicom", application, *arguments)


def python(statement: str, *, needs: str = "") -> Program:
    """An interpreter that runs one statement, which needs the distribution `needs`."""
    return Program((sys.executable, "-c", statement), missing=_missing(needs) if needs else "")


def raw(verb: str, *arguments: str) -> Program:
    """A program on bare sockets."""
    return Program((sys.executable, "-m", "benchmarks.raw", verb, *arguments))


def dcmtk_help() -> Program:
    """DCMTK's ``echoscu --help``."""
    return _dcmtk("echoscu", "--help", tuned=False)


def dcmtk_storescp(*options: str, tuned: bool) -> Program:
    """DCMTK's ``storescp``."""
    program = _dcmtk("storescp", *options, "-od", "{folder}", "{port}", tuned=tuned)
    return replace(program, announces=False, ends_at_eof=False)


def dcmtk_storescu(*paths: Path, tuned: bool) -> Program:
    """DCMTK's ``storescu``."""
    return _dcmtk("storescu", "-aec", AE_TITLE, "127.0.0.1", "{port}", *map(str, paths), tuned=tuned)


def dcmtk_echoscu(repeat: int, *, tuned: bool) -> Program:
    """DCMTK's ``echoscu``."""
    return _dcmtk("echoscu", "-aec", AE_TITLE, "--repeat", str(repeat), "127.0.0.1", "{port}", tuned=tuned)


def needing_memory(program: Program, size: int) -> Program:
    """`program`, if this machine has `size` bytes of memory; else it counts as missing."""
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >= size:
        return program
    return replace(program, missing=f"it would need a machine with {size / 1e9:.0f} GB of memory")


def versions() -> dict[str, str]:
    """What is installed, and its version."""
    found = {name: _version(name) for name in ("dicomnet", "pynetdicom", "pydicom")}
    found["DCMTK"] = next((version for _, version in map(_find_dcmtk, ("storescp", "storescu", "echoscu"))), "")
    return {name: version or "not installed" for name, version in found.items()}


def _module(distribution: str, module: str, *arguments: str) -> Program:
    return Program((sys.executable, "-m", module, *arguments), missing=_missing(distribution))


def _missing(distribution: str) -> str:
    return "" if importlib.util.find_spec(distribution) else f"{distribution} is not installed"


def _version(distribution: str) -> str:
    if not importlib.util.find_spec(distribution):
        return ""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "from the source tree"


def _dcmtk(tool: str, *arguments: str, tuned: bool) -> Program:
    path, _ = _find_dcmtk(tool)
    environment = {"TCP_NODELAY": "1"} if tuned else {}
    return Program((path, *arguments), environment, missing="" if path else f"DCMTK's {tool} is not installed")


@functools.cache
def _find_dcmtk(tool: str) -> tuple[str, str]:
    """Path and version of DCMTK's `tool`: other toolkits have programs of the same names, also earlier on the path."""
    for folder in os.get_exec_path():
        path = shutil.which(tool, path=folder)
        if path:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
            if found := re.search(rf"\$dcmtk: {tool} v(\S+)", said):
                return path, found[1]
    return "", ""
