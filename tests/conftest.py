"""What every test may use: hypothesis profiles and the other implementations (peers).

A test that asks for the fixture ``dcmtk``, ``pynetdicom`` or ``tshark`` is an interop test and gets the mark
``interop``. Where the peer is missing it is skipped, with the reason; with DICOMNET_REQUIRE_PEERS set, as in
.ci/run, the skip is a failure.
"""

import functools
import importlib
import os
import shutil
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

PEER_FIXTURES = {"dcmtk", "pynetdicom", "tshark"}

# No deadline: a shared machine stalls now and then, and that says nothing about the code under test. In CI the examples
# follow from the test alone, so that the same tree gets the same verdict; elsewhere each run tries new ones.
hypothesis.settings.register_profile("default", deadline=None, max_examples=100)
hypothesis.settings.register_profile(
    "ci",
    deadline=None,
    max_examples=100,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
os.environ.pop("COLUMNS", None)  # output is as wide as in a pipe; pytest's own processes have one
os.environ["DICOMNET_CONFIG"] = ""  # nobody's own peers and defaults
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if PEER_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.interop)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    expected_failure = hasattr(report, "wasxfail")
    if report.skipped and not expected_failure and _peers_required() and item.get_closest_marker("interop"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"DICOMNET_REQUIRE_PEERS is set, so this may not be skipped. {reason}"
    return report


def _peers_required() -> bool:
    return bool(os.environ.get("DICOMNET_REQUIRE_PEERS"))


@pytest.fixture(scope="session")
def dcmtk() -> Callable[[str], Path]:
    """The path of a DCMTK tool by its name: ``dcmtk("storescu")``.

    pynetdicom's programs have the same names and may come first in PATH, so a program counts as DCMTK's only if its
    ``--version`` says so.
    """

    def tool(name: str) -> Path:
        path = _find_dcmtk_tool(name)
        if path is None:
            pytest.skip(f"DCMTK's {name} is not installed (apt-get install dcmtk)")
        return path

    if _find_dcmtk_tool("storescu") is None:
        pytest.skip("DCMTK is not installed (apt-get install dcmtk)")
    return tool


@functools.cache
def _find_dcmtk_tool(name: str) -> Path | None:
    for folder in os.get_exec_path():
        path = shutil.which(name, path=folder)
        if path and _is_dcmtk(path):
            return Path(path)
    return None


def _is_dcmtk(path: str) -> bool:
    command = [path, "--version"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.startswith("$dcmtk:")


@pytest.fixture(scope="session")
def pynetdicom() -> ModuleType:
    """The package pynetdicom."""
    try:
        return importlib.import_module("pynetdicom")
    except ImportError as error:
        pytest.skip(f"pynetdicom cannot be imported (pip install pynetdicom): {error}")


@pytest.fixture(scope="session")
def tshark() -> Callable[[str], Path]:
    """The path of Wireshark's ``tshark`` or ``text2pcap`` by its name."""

    def tool(name: str) -> Path:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"Wireshark's {name} is not installed (apt-get install tshark)")
        return Path(path)

    tool("tshark")
    return tool
